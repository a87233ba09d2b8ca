//! What somebody sends a run.

use perennial_core::run::RunId;
use perennial_store::{NewSignal, SignalKind, StoreError};
use serde::Serialize;
use serde_json::Value;

use crate::Action;

/// Who sends something when that is not said.
const HOST: &str = "host";

/// A signal, or the answer to a question, on its way to a run.
///
/// ```
/// use perennial::engine::Sent;
///
/// let answer = Sent::answer("agree?", &true)?.by("ada").because("I have read it");
/// assert_ne!(answer, Sent::signal("agree?", &true)?);
/// # Ok::<(), perennial::StoreError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    kind: SignalKind,
    name: String,
    payload: Value,
    by: String,
    why: String,
    request: String,
}

impl Sent {
    /// The signal `name`.
    ///
    /// ```
    /// use perennial::engine::Sent;
    ///
    /// let go = Sent::signal("go", &["now"])?;
    /// # drop(go);
    /// # Ok::<(), perennial::StoreError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When `payload` is nothing that JSON can say.
    pub fn signal(name: &str, payload: &impl Serialize) -> Result<Self, StoreError> {
        Self::new(SignalKind::Signal, name, payload)
    }

    /// The answer to the question `name`.
    ///
    /// ```
    /// use perennial::engine::Sent;
    ///
    /// let yes = Sent::answer("agree?", &true)?;
    /// # drop(yes);
    /// # Ok::<(), perennial::StoreError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When `value` is nothing that JSON can say.
    pub fn answer(name: &str, value: &impl Serialize) -> Result<Self, StoreError> {
        Self::new(SignalKind::Answer, name, value)
    }

    fn new(kind: SignalKind, name: &str, payload: &impl Serialize) -> Result<Self, StoreError> {
        let payload = serde_json::to_value(payload).map_err(|error| StoreError::Unreadable {
            what: format!("the payload of `{name}`"),
            why: error.to_string(),
        })?;
        Ok(Self {
            kind,
            name: name.to_owned(),
            payload,
            by: HOST.to_owned(),
            why: String::new(),
            request: ulid::Ulid::generate().to_string(),
        })
    }

    /// Who sends it; without that it is `host`. What is sent by a handle of a principal is always by that one.
    ///
    /// ```
    /// # use perennial::engine::Sent;
    /// let go = Sent::signal("go", &1)?.by("ada");
    /// # drop(go);
    /// # Ok::<(), perennial::StoreError>(())
    /// ```
    #[must_use]
    pub fn by(mut self, who: impl Into<String>) -> Self {
        self.by = who.into();
        self
    }

    /// Why it is sent.
    ///
    /// ```
    /// # use perennial::engine::Sent;
    /// let go = Sent::signal("go", &1)?.because("it is time");
    /// # drop(go);
    /// # Ok::<(), perennial::StoreError>(())
    /// ```
    #[must_use]
    pub fn because(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    /// What tells a repetition: the same request is sent once, however often it is tried. Without that
    /// each value of this type is a request of its own.
    ///
    /// ```
    /// # use perennial::engine::Sent;
    /// let go = Sent::signal("go", &1)?.request("mail 17");
    /// # drop(go);
    /// # Ok::<(), perennial::StoreError>(())
    /// ```
    #[must_use]
    pub fn request(mut self, request: impl Into<String>) -> Self {
        self.request = request.into();
        self
    }

    pub(crate) fn action(&self) -> Action {
        match self.kind {
            SignalKind::Signal => Action::Signal,
            SignalKind::Answer => Action::Answer,
        }
    }

    pub(crate) fn to(&self, run: &RunId) -> NewSignal {
        NewSignal {
            run: run.clone(),
            request: self.request.clone(),
            kind: self.kind,
            name: self.name.clone(),
            payload: self.payload.clone(),
            by: self.by.clone(),
            why: self.why.clone(),
        }
    }
}
