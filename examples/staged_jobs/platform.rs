//! The platform, put together: what a host needs of it is the staged workflow and the services that its jobs use.
//!
//! | room | what it is |
//! |---|---|
//! | `study` | what is asked for, and the plan that follows from it |
//! | `generation` | models write apps |
//! | `analysis` | tools look at apps: a group for each app, a child for each analyzer |
//! | `answers` | what analyzers answer, and what is read from it |
//! | `catalogue` | which tool belongs to which analyzer, and which of these need the app itself to run |
//! | `frames` | the tool protocol: what analyzers are told and tell, a line each |
//! | `analyzer` | an analyzer as a service: what is said on its connections |
//! | `works` | what it has begun: that is followed, kept until it is fetched, and cancelled |
//! | `caller` | who has an analyzer do work |
//! | `services` | the drivers of what jobs use: the model, the analyzers, the apps |
//! | `fakes` | a model and a network that are none, and the folder with the apps |
//! | `report` | what came of a study, in rows |

pub(crate) mod analysis;
pub(crate) mod analyzer;
pub(crate) mod answers;
pub(crate) mod caller;
pub(crate) mod catalogue;
mod fakes;
pub(crate) mod frames;
pub(crate) mod generation;
pub(crate) mod report;
mod services;
mod study;
pub(crate) mod works;

use std::{path::Path, sync::Arc, time::Duration};

use perennial::engine::{EngineSettings, staged::Staged, workflow::RetryPolicy};
use perennial::{Builder, Runtime, Store};

use self::analysis::{AnalyzeApp, RunTools};
use self::fakes::{FakeModel, Network, Scaffold};
use self::generation::Generate;
pub(crate) use self::study::{StagedJobs, Study};

/// What an outside world is told: that a reply is paid for, that a number is given.
pub(crate) type Notes = Arc<dyn Fn(&str) + Send + Sync>;

/// What a host is free to choose.
pub(crate) struct Terms {
    /// How long anything takes: a reply, a tool, a start.
    pub(crate) pace: Duration,
    /// How often work is tried that fails for a moment.
    pub(crate) retry: RetryPolicy,
    pub(crate) notes: Notes,
}

#[derive(Clone)]
pub(crate) struct Platform {
    pub(crate) staged: Staged<StagedJobs>,
    network: Network,
    scaffold: Scaffold,
    pace: Duration,
}

impl Platform {
    /// One that keeps its apps in `folder`.
    pub(crate) fn new(folder: &Path, terms: Terms) -> Self {
        let Terms { pace, retry, notes } = terms;
        let (scaffold, network) = (Scaffold::below(folder), Network::new(pace));
        let model = FakeModel { pace };
        let staged = Staged::new(StagedJobs(retry))
            .activity(Generate { model, scaffold: scaffold.clone(), notes: notes.clone() })
            .activity(RunTools { network: network.clone(), scaffold: scaffold.clone(), notes })
            .group(AnalyzeApp(retry));
        Self { staged, network, scaffold, pace }
    }

    /// A runtime that can do its studies, on `store`.
    pub(crate) fn on(&self, store: Store) -> Builder {
        // Those that wait for a service come back at once: they are few.
        let settings = EngineSettings { wake_spread: self.pace, ..EngineSettings::default() };
        let builder = Runtime::builder().store(store).staged(&self.staged).engine(settings);
        let services = services::declared(&self.network, &self.scaffold, self.pace);
        services.into_iter().fold(builder, Builder::service)
    }
}
