//! A claim on an instance, and what its holder is told.

use std::{fmt, sync::Arc};

use perennial_core::{
    Uptime,
    service::{Admission, Epoch, Holder, ServiceKey, ServiceState},
};

use perennial_supervision::Address;

use super::{Entry, actor::Message, ledger::Ledger};

/// Nobody may use the instance now. It counts as no failure of whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the service is {state}: {why}")]
pub struct NotReady {
    /// The state it is in.
    pub state: ServiceState,
    /// When it is worth asking again; none when an operator must act first.
    pub retry_at: Option<Uptime>,
    /// Why.
    pub why: Arc<str>,
}

/// Which life of an instance somebody may use, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The life.
    pub epoch: Epoch,
    /// Its address, if it has one.
    pub endpoint: Option<Arc<str>>,
}

/// A claim on an instance, which is not stopped as long as it is there. Dropping it gives it back.
pub struct Hold {
    pub(super) key: ServiceKey,
    pub(super) holder: Holder,
    pub(super) needed: Uptime,
    pub(super) first: Result<Admitted, NotReady>,
    /// How long an answer may take: that of two probes, as one may be under way already.
    pub(super) patience: std::time::Duration,
    pub(super) entry: Entry,
}

impl Hold {
    /// That of the actor that there is now: it may be another one than it was.
    pub(super) fn address(&self) -> Address<Message> {
        self.entry.ledger.address().unwrap_or_else(|| self.entry.address.clone())
    }

    /// Which instance.
    pub fn key(&self) -> &ServiceKey {
        &self.key
    }

    /// What was answered when it was taken.
    ///
    /// # Errors
    ///
    /// [`NotReady`], when it did not serve then: as a rule because it is only being started.
    pub fn at_first(&self) -> Result<&Admitted, &NotReady> {
        self.first.as_ref()
    }

    /// Whether the instance may be used now, by what is known since this hold was taken. A probe is waited for, if
    /// there has to be one.
    ///
    /// # Errors
    ///
    /// [`NotReady`]; also when its actor gives no answer.
    pub async fn admitted(&self) -> Result<Admitted, NotReady> {
        let needed = self.needed;
        let asks = |reply| Message::Ask { needed, reply };
        let answer = self.address().call(asks, self.patience).await;
        let unanswered = |why: String| {
            let state = self.entry.ledger.state();
            Err(NotReady { state, retry_at: None, why: why.into() })
        };
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => unanswered(error.to_string()),
            Err(error) => unanswered(error.to_string()),
        }
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold")
            .field("key", &self.key)
            .field("holder", &self.holder)
            .finish_non_exhaustive()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.entry.ledger.give_back(&self.holder) {
            // Only sooner: the actor finds it in the ledger in any case, with whatever it hears next.
            let _ = self.address().cast(Message::Look);
        }
    }
}

/// What the machine answers, with the address of the life that it is about.
pub(super) fn told(admission: Admission, ledger: &Ledger) -> Result<Admitted, NotReady> {
    match admission {
        Admission::Ready { epoch } => Ok(Admitted { epoch, endpoint: ledger.endpoint(epoch) }),
        Admission::NotReady { state, retry_at, why } => Err(NotReady { state, retry_at, why }),
    }
}
