//! What an analyzer has begun, and what came of it: it is kept until it is acknowledged or cancelled, a later attempt of its job
//! comes, or its time is over.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use tokio::sync::watch;

use super::frames::{Code, Progress, Tell, WorkId};

/// How work ends.
pub(crate) type End = Result<Value, (Code, String)>;

/// How work stands. Only its latest progress is kept: who is slow misses some of it, and holds up nobody.
#[derive(Clone, Debug, Default)]
pub(super) struct Stand {
    progress: Option<Progress>,
    end: Option<End>,
    /// Nobody can ask for it any more.
    is_forgotten: bool,
}

impl Stand {
    /// Nothing more is told of it.
    pub(super) fn is_last(&self) -> bool {
        self.end.is_some() || self.is_forgotten
    }

    /// What is said of it to who follows it.
    pub(super) fn told(&self, id: &WorkId) -> Option<Tell> {
        let id = id.clone();
        match (&self.end, &self.progress) {
            (Some(Ok(result)), _) => Some(Tell::Result { id, result: result.clone() }),
            (Some(Err((code, why))), _) => Some(refused(&id, *code, why)),
            (None, Some(progress)) => Some(Tell::Progress { id, progress: progress.clone() }),
            (None, None) => None,
        }
    }
}

/// One work, for whoever makes it. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Work(Arc<watch::Sender<Stand>>);

impl Work {
    fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Stand::default())))
    }

    pub(super) fn reporter(&self) -> Reporter {
        Reporter(self.clone())
    }

    /// How it stands, from now on; and how it stands already is news, too.
    pub(super) fn follow(&self) -> watch::Receiver<Stand> {
        let mut follower = self.0.subscribe();
        follower.mark_changed();
        follower
    }

    /// The first end is its end.
    pub(super) fn end(&self, end: End) {
        self.0.send_modify(|stand| {
            stand.end.get_or_insert(end);
        });
    }

    pub(super) async fn forgotten(&self) {
        // It cannot go as long as this one is there.
        let _ = self.0.subscribe().wait_for(|stand| stand.is_forgotten).await;
    }
}

/// Says how far work is. It cannot end it.
#[derive(Debug)]
pub(crate) struct Reporter(Work);

impl Reporter {
    /// `done` is from 0 to 1.
    pub(crate) fn tell(&self, stage: &str, done: f64, message: &str) {
        let done = if done.is_finite() { done.clamp(0.0, 1.0) } else { 0.0 };
        let (stage, message) = (stage.to_owned(), message.to_owned());
        self.0.0.send_modify(|stand| stand.progress = Some(Progress { stage, done, message }));
    }
}

/// By job: its last attempt that was asked for.
#[derive(Debug, Default)]
pub(super) struct Works(BTreeMap<String, (u32, Work)>);

impl Works {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn known(&self, id: &WorkId) -> Result<&Work, Tell> {
        let own = self.0.get(&id.job).filter(|(attempt, _)| *attempt == id.attempt);
        let none = || refused(id, Code::UnknownWork, "there is no such work, or no more");
        own.map(|(_, work)| work).ok_or_else(none)
    }

    /// None where there is nothing of it: then an earlier attempt of its job has ended, and no later one is known.
    pub(super) fn asked(&mut self, id: &WorkId) -> Result<Option<&Work>, Tell> {
        let known = self.0.get(&id.job).map(|(attempt, _)| *attempt);
        match known {
            Some(later) if later > id.attempt => {
                let why = format!("attempt {later} of it has come");
                return Err(refused(id, Code::Cancelled, &why));
            }
            Some(earlier) if earlier < id.attempt => {
                let why = format!("attempt {} of it has come", id.attempt);
                self.drop_with(&WorkId { attempt: earlier, ..id.clone() }, Code::Cancelled, why);
            }
            Some(_) | None => (),
        }
        Ok(self.0.get(&id.job).map(|(_, work)| work))
    }

    pub(super) fn begin(&mut self, id: &WorkId) -> Work {
        let work = Work::new();
        self.0.insert(id.job.clone(), (id.attempt, work.clone()));
        work
    }

    pub(super) fn acknowledge(&mut self, id: &WorkId) -> Result<(), Tell> {
        if self.known(id)?.0.borrow().end.is_none() {
            return Err(refused(id, Code::NotDone, "it has no result yet"));
        }
        self.forget(id);
        Ok(())
    }

    pub(super) fn cancel(&mut self, id: &WorkId) -> Result<(), Tell> {
        self.known(id)?;
        self.drop_with(id, Code::Cancelled, "it was cancelled".to_owned());
        Ok(())
    }

    /// The time of `work` is over.
    pub(super) fn expire(&mut self, id: &WorkId, work: &Work) {
        if self.known(id).is_ok_and(|own| Arc::ptr_eq(&own.0, &work.0)) {
            self.drop_with(id, Code::Deadline, "its deadline has passed".to_owned());
        }
    }

    /// Who follows it hears this, where it had no end.
    fn drop_with(&mut self, id: &WorkId, code: Code, why: String) {
        if let Ok(work) = self.known(id) {
            work.end(Err((code, why)));
        }
        self.forget(id);
    }

    fn forget(&mut self, id: &WorkId) {
        if let Some((_, work)) = self.0.remove(&id.job) {
            work.0.send_modify(|stand| stand.is_forgotten = true);
        }
    }
}

pub(super) fn refused(id: &WorkId, code: Code, why: &str) -> Tell {
    Tell::Error { id: Some(id.clone()), code, message: why.to_owned() }
}
