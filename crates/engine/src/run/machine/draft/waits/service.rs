//! Whether the service that a job waits for lets it go on, by what is published of it.

use std::collections::HashMap;

use perennial_core::service::ServiceKey;
use perennial_store::{Admissions, Admits, Closed};

use crate::run::machine::tally::Kind;

/// What a service is to the jobs that wait for the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service<'a> {
    /// They wait for something else, or there is nothing new.
    AsBefore,
    /// It is as it was when they began to wait: none of them is to be claimed for that.
    Refuses,
    /// They are to be claimed, or told what they wait for next.
    Admits,
    /// So many of them, with those that have come back already.
    UpTo(u32),
    /// It is waited for no longer, and why.
    Failed(&'a str),
}

/// What is known of services, by their keys.
pub(super) struct Doors<'a>(HashMap<&'a ServiceKey, &'a Admits>);

impl<'a> Doors<'a> {
    pub(super) fn of(admissions: &'a Admissions) -> Self {
        Self(admissions.services.iter().map(|(key, admits)| (key, admits)).collect())
    }

    /// What is known of all that they use, where it is one of these that they wait for. Who waits for something else is
    /// not let go on by them: it would find that missing again, at once.
    pub(super) fn service(&self, kind: &Kind) -> Service<'a> {
        let Some((place, is_for_room)) = kind.waits_for else { return Service::AsBefore };
        let (mut all_admit, mut up_to) = (true, None);
        for key in &kind.uses {
            match self.0.get(key) {
                Some(Admits::No(closed)) if closed.is_final => {
                    return Service::Failed(&closed.cause);
                }
                Some(Admits::Yes) => {}
                Some(Admits::UpTo { most, .. }) => up_to = up_to.min(Some(*most)).or(Some(*most)),
                Some(Admits::No(_)) | None => all_admit = false,
            }
        }
        let waited_for = kind.uses.get(place).and_then(|key| self.0.get(key));
        match waited_for {
            Some(Admits::No(Closed { hold: true, .. })) if is_for_room => Service::Admits,
            _ if all_admit => up_to.map_or(Service::Admits, Service::UpTo),
            Some(Admits::No(_)) => Service::Refuses,
            Some(Admits::Yes | Admits::UpTo { .. }) | None => Service::AsBefore,
        }
    }
}
