//! The runs of one command, followed at the same time.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::future::try_join_all;
use perennial::{PipelineRunHandle, RunId, WaitsWhy};
use serde_json::Value;

use super::{
    hint::{self, Hint},
    progress::{self, Shown, Told},
};
use crate::{
    exit::{self, Failed, failed_with},
    output,
};

/// How often it is looked whether runs have the places that they have just asked for, and how long after each other.
const LOOKS_MAX: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Runs, and what of them has been told.
#[derive(Debug)]
pub(super) struct Lot {
    members: Vec<Member>,
    /// Where the code of the whole begins: that of what is not here because it was refused.
    code: i32,
    /// Runs whose end has been told.
    told: RefCell<BTreeSet<RunId>>,
    /// The process is leaving: from here on it is the drain that says what becomes of the runs.
    leaving: Cell<bool>,
}

/// A run, and what it is of.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) run: PipelineRunHandle,
    pub(super) workflow: String,
    pub(super) file: Option<String>,
    /// What of it has been told before.
    pub(super) known: Known,
    /// What programs are told of its steps before its events, where it goes on.
    pub(super) plan: Option<Value>,
}

/// How much of a run is no news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Nothing,
    /// The events before this one.
    Before(u64),
    /// It had ended before the command began.
    All,
}

impl Lot {
    pub(super) fn new(members: Vec<Member>, code: i32) -> Self {
        Self { members, code, told: RefCell::default(), leaving: Cell::new(false) }
    }

    /// Whether one was left out.
    pub(super) fn lacks_one(&self) -> bool {
        self.code != exit::COMPLETED
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    pub(super) fn leave(&self) {
        self.leaving.set(true);
    }

    /// Whether the end of `run` has been told.
    pub(super) fn has_told(&self, run: &RunId) -> bool {
        self.told.borrow().contains(run)
    }

    /// Says which runs there are.
    pub(super) fn announce(&self, shown: Shown) {
        if shown.quiet || shown.json {
            return;
        }
        for (member, label) in self.members.iter().zip(self.labels()) {
            match label {
                None => output::talk(&format!("run {}", member.run.id())),
                Some(label) => {
                    let file = member.file.as_deref().unwrap_or("a document");
                    output::talk(&format!("{label}: run {} of {file}", member.run.id()));
                }
            }
        }
    }

    /// Says how many wait for others to end, where there is not room for all, and what else one waits for.
    pub(super) async fn mention_waiting(&self, shown: Shown) {
        if shown.quiet || shown.json {
            return;
        }
        self.looked_after().await;
        let mut waiting = 0;
        for member in &self.members {
            let Some(waits) = member.run.waits_for() else { continue };
            if waits.why == WaitsWhy::Place {
                waiting += usize::from(waits.is_missing());
                continue;
            }
            let failure = waits.last_failure.map(|failure| format!(" ({})", failure.message));
            let failure = failure.unwrap_or_default();
            output::talk(&format!("run {} waits for {}{failure}", member.run.id(), waits.what));
        }
        if waiting == 0 {
            return;
        }
        let (noun, verb) = if waiting == 1 { ("run", "waits") } else { ("runs", "wait") };
        output::talk(&format!("{waiting} {noun} {verb} for a free place"));
    }

    /// Until none of them has only just asked for a place, which it may have at once; a moment at most.
    async fn looked_after(&self) {
        let asks =
            |member: &Member| member.run.waits_for().is_some_and(|waits| !waits.is_missing());
        for _ in 0..LOOKS_MAX {
            if !self.members.iter().any(asks) {
                return;
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// Follows all of them to their end and tells each as it ends. The first code that is not 0
    /// counts, in the order of the runs.
    ///
    /// # Errors
    ///
    /// When what it tells cannot be written, or a single run cannot be read.
    pub(super) async fn follow(&self, shown: Shown, hint: &Hint) -> anyhow::Result<i32> {
        let labels = self.labels();
        let each = self.members.iter().zip(labels).map(|(member, label)| {
            let prefix = label.map(|label| format!("{label}: ")).unwrap_or_default();
            async move { self.follow_one(member, shown, &prefix, hint).await }
        });
        let codes = try_join_all(each).await?;
        let mut codes = std::iter::once(self.code).chain(codes);
        Ok(codes.find(|code| *code != exit::COMPLETED).unwrap_or(exit::COMPLETED))
    }

    /// The command that goes on with what is left of them.
    pub(super) fn goes_on(&self, hint: &Hint) -> String {
        match &self.members[..] {
            [one] => hint.resume(one.run.id().as_str()),
            _ => hint.resume("--all"),
        }
    }

    async fn follow_one(
        &self,
        member: &Member,
        shown: Shown,
        prefix: &str,
        hint: &Hint,
    ) -> anyhow::Result<i32> {
        let run = member.run.id();
        let plan = member.plan.as_ref();
        let followed = match member.known {
            // Programs read all events.
            Known::Nothing => progress::follow(&member.run, (1, plan), shown, prefix).await,
            Known::Before(_) | Known::All if shown.json => {
                progress::follow(&member.run, (1, plan), shown, prefix).await
            }
            Known::Before(seq) => progress::follow(&member.run, (seq, plan), shown, prefix).await,
            Known::All => {
                if !shown.quiet {
                    output::talk(&format!("{prefix}run {run} has ended already; its record:"));
                }
                Ok(member.run.outcome().await.map(|outcome| (outcome, Told::new())))
            }
        };
        let followed = followed.map_err(|error| unwritten(run, "ended", &error, hint))?;
        match followed {
            Ok(outcome) => {
                match progress::conclude(&outcome, shown, prefix, hint) {
                    Err(error) if !output::is_broken_pipe(&error) => {
                        return Err(unwritten(run, outcome.0.status(), &error, hint));
                    }
                    // A reader that has left has seen enough; the code still tells.
                    Ok(()) | Err(_) => (),
                }
                self.told.borrow_mut().insert(run.clone());
                Ok(exit::of_state(outcome.0.state()))
            }
            // The store has gone with the rest.
            Err(_) if self.leaving.get() => std::future::pending().await,
            Err(error) if self.members.len() == 1 => Err(hint::refused(&error, hint)),
            Err(error) => {
                output::problem(&format!("run {run}: {error}"));
                Ok(exit::of_run_error(&error))
            }
        }
    }

    /// What the lines of each run begin with, where there are several: the workflow, and where two
    /// have the same, the run as well.
    fn labels(&self) -> Vec<Option<String>> {
        let mut same: BTreeMap<&str, usize> = BTreeMap::new();
        for member in &self.members {
            *same.entry(&member.workflow).or_default() += 1;
        }
        let label = |member: &Member| {
            if same.get(member.workflow.as_str()) == Some(&1) {
                member.workflow.clone()
            } else {
                format!("{}/{}", member.workflow, member.run.id())
            }
        };
        let several = self.members.len() > 1;
        self.members.iter().map(|member| several.then(|| label(member))).collect()
    }
}

/// What a run told could not be written, all of it: the run itself has ended.
fn unwritten(run: &RunId, status: &str, error: &anyhow::Error, hint: &Hint) -> anyhow::Error {
    let why = error.root_cause();
    let text = format!("stdout cannot be written: {why}; run {run} {status} and is recorded");
    failed_with(exit::RUN_FAILED, text, hint.show(run.as_str()))
}

/// Says why one of several is not among the runs; answers its code.
pub(super) fn left_out(what: &str, error: &anyhow::Error) -> i32 {
    output::problem(&format!("{what}: {error:#}"));
    error.downcast_ref::<Failed>().map_or(exit::RUN_FAILED, |failed| failed.code)
}
