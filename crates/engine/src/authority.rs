//! Who may ask what of which run: the host says, and it is asked here, before anything is written (DUR-68).

use std::{fmt, sync::Arc, time::Duration};

use futures_util::FutureExt;
use perennial_core::{ExitReason, run::RunId};
use perennial_supervision::contain;

use crate::{Services, workflow::BoxFuture};

/// What can be asked of runs, one for each request: none contains another.
///
/// ```
/// use perennial::engine::Action;
///
/// assert_eq!(Action::Pause.name(), "pause");
/// assert!(Action::ALL.contains(&Action::Cancel));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Action {
    /// `Runs::start` and `submit`, also of a run that is there already.
    Start,
    /// `Runs::import`.
    Import,
    /// `Runs::resume`.
    Resume,
    /// `Runs::reopen`: a further round that the caller has planned.
    Reopen,
    /// `RunHandle::retry`: a further round of what failed.
    Retry,
    /// `RunHandle::pause`.
    Pause,
    /// `RunHandle::unpause`.
    Unpause,
    /// `RunHandle::cancel`.
    Cancel,
    /// `RunHandle::skip`.
    Skip,
    /// `RunHandle::set_concurrency`.
    SetConcurrency,
    /// `RunHandle::set_priority`.
    SetPriority,
    /// `RunHandle::signal`, and `send` of a signal.
    Signal,
    /// `RunHandle::answer`, and `send` of an answer.
    Answer,
    /// `Runs::remove`.
    Remove,
}

impl Action {
    /// All there are.
    pub const ALL: [Self; 14] = [
        Self::Start,
        Self::Import,
        Self::Resume,
        Self::Reopen,
        Self::Retry,
        Self::Pause,
        Self::Unpause,
        Self::Cancel,
        Self::Skip,
        Self::SetConcurrency,
        Self::SetPriority,
        Self::Signal,
        Self::Answer,
        Self::Remove,
    ];

    /// Its name, for lists of rights.
    ///
    /// ```
    /// # use perennial::engine::Action;
    /// assert_eq!(Action::SetConcurrency.to_string(), Action::SetConcurrency.name());
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Import => "import",
            Self::Resume => "resume",
            Self::Reopen => "reopen",
            Self::Retry => "retry",
            Self::Pause => "pause",
            Self::Unpause => "unpause",
            Self::Cancel => "cancel",
            Self::Skip => "skip",
            Self::SetConcurrency => "set_concurrency",
            Self::SetPriority => "set_priority",
            Self::Signal => "signal",
            Self::Answer => "answer",
            Self::Remove => "remove",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who wants what of which run.
///
/// ```
/// use perennial::engine::{Action, Asked, Authority};
///
/// // Everybody may pause; the rest is for the owner, by the name of the run.
/// let owns = |asked: &Asked| asked.run.as_ref().is_some_and(|run| run.as_str().starts_with(&asked.principal));
/// let authority = Authority::new(move |asked| asked.action == Action::Pause || owns(asked));
/// # drop(authority);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Asked {
    /// Who, as [`Runs::on_behalf_of`](crate::Runs::on_behalf_of) was told.
    pub principal: String,
    /// What.
    pub action: Action,
    /// Of which run; none where a run is started whose id is not known yet.
    pub run: Option<RunId>,
}

/// Says who may ask what of which run: a function of the host's. It is asked for each request on behalf of a
/// principal, outside of any lock and transaction, and may take 1 s (`authority_within` of the engine's settings). One
/// that panics or takes longer has said no.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{ProviderMode, Runtime, StartPipeline, Store, records::RunError};
/// use perennial::engine::{Action, Authority};
///
/// let authority = Authority::new(|asked| asked.principal == "ada" && asked.action == Action::Pause);
/// let runtime = Runtime::builder().store(Store::memory()).authority(authority).start().await?;
/// # let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
/// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
/// # let run = runtime.pipelines().start(start).await?;
/// let run = runtime.runs().on_behalf_of("ada").get(run.id()).await?;
/// assert!(run.pause().await?);
/// assert!(matches!(run.cancel().await, Err(RunError::NotAuthorised(_))));
/// # runtime.runs().get(run.id()).await?.cancel().await?;
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Authority(Arc<Asks>);

type Asks = dyn Fn(Asked) -> BoxFuture<'static, bool> + Send + Sync;

impl Authority {
    /// What knows its answer at once. Whoever has to ask somebody takes [`asking`](Self::asking).
    ///
    /// ```
    /// # use perennial::engine::Authority;
    /// let ada_alone = Authority::new(|asked| asked.principal == "ada");
    /// # drop(ada_alone);
    /// ```
    pub fn new(allows: impl Fn(&Asked) -> bool + Send + Sync + 'static) -> Self {
        let allows = Arc::new(allows);
        Self::asking(move |asked| {
            let allows = allows.clone();
            async move { allows(&asked) }
        })
    }

    /// What asks somebody else, such as a server, without blocking.
    ///
    /// ```
    /// # use perennial::engine::Authority;
    /// # async fn of_the_server(_: &str) -> Vec<String> { Vec::new() }
    /// let authority = Authority::asking(|asked| async move {
    ///     of_the_server(&asked.principal).await.iter().any(|right| right == asked.action.name())
    /// });
    /// # drop(authority);
    /// ```
    pub fn asking<F>(allows: impl Fn(Asked) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = bool> + Send + 'static,
    {
        Self(Arc::new(move |asked| allows(asked).boxed()))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

/// Why a principal may not do something.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denied {
    /// The authority says so.
    Refused,
    /// There is none: then only the host itself may ask something of runs.
    NoAuthority,
    /// The authority panicked.
    Failed(ExitReason),
    /// The authority did not answer in this time.
    Late(Duration),
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => {
                f.write_str("the authority of this runtime says no; ask whoever runs it for the right")
            }
            Self::NoAuthority => f.write_str(
                "this runtime has no authority, so that only the host itself may; give it one with `Builder::authority`",
            ),
            Self::Failed(reason) => {
                write!(f, "the authority failed ({reason}); nothing was done; mend it and ask again")
            }
            Self::Late(within) => write!(
                f,
                "the authority did not answer within {within:?}; nothing was done; ask again, or allow it more \
                 (`authority_within`)"
            ),
        }
    }
}

/// Somebody asked for what he may not do. Nothing was done.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{RunId, Runtime, Store, records::RunError};
/// use perennial::engine::{Action, Denied};
///
/// let runtime = Runtime::builder().store(Store::memory()).start().await?; // without an authority
/// let refused = runtime.runs().on_behalf_of("ada").resume(&RunId::parse("letters")?).await;
/// let Err(RunError::NotAuthorised(refused)) = refused else { panic!("nobody allows it") };
/// assert_eq!((refused.action, &refused.why), (Action::Resume, &Denied::NoAuthority));
/// assert!(refused.to_string().starts_with("`ada` may not resume run letters: "));
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{principal}` may not {action} {}: {why}", of(.run.as_ref()))]
#[non_exhaustive]
pub struct NotAuthorised {
    /// Who.
    pub principal: String,
    /// What.
    pub action: Action,
    /// Of which run; none where one is started whose id was not known yet.
    pub run: Option<RunId>,
    /// Why not.
    pub why: Denied,
}

fn of(run: Option<&RunId>) -> String {
    run.map_or_else(|| "a run".to_owned(), |run| format!("run {run}"))
}

/// On whose behalf a handle asks: nobody's but the host's own, or that of these, each for the next. All of them have
/// to be allowed what they ask, so that a handle that was given away never becomes wider.
#[derive(Clone, Debug, Default)]
pub(crate) struct Principals(Arc<[String]>);

impl Principals {
    pub(crate) fn and(&self, principal: String) -> Self {
        Self(self.0.iter().cloned().chain([principal]).collect())
    }

    /// What is recorded of who asked; nothing for the host itself.
    pub(crate) fn by(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.join(" for "))
    }

    /// # Errors
    ///
    /// When one of them may not.
    pub(crate) async fn require(
        &self,
        services: &Services,
        action: Action,
        run: Option<&RunId>,
    ) -> Result<(), NotAuthorised> {
        for principal in self.0.iter() {
            let asked = Asked { principal: principal.clone(), action, run: run.cloned() };
            if let Err(why) = allowed(services, asked).await {
                let (principal, run) = (principal.clone(), run.cloned());
                return Err(NotAuthorised { principal, action, run, why });
            }
        }
        Ok(())
    }
}

async fn allowed(services: &Services, asked: Asked) -> Result<(), Denied> {
    let Some(Authority(asks)) = &services.authority else { return Err(Denied::NoAuthority) };
    let within = services.settings.authority_within;
    // Also what it does before its first wait is contained.
    let answer = contain(async move { asks(asked).await });
    match tokio::time::timeout(within, answer).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(Denied::Refused),
        Ok(Err(reason)) => Err(Denied::Failed(reason)),
        Err(_) => Err(Denied::Late(within)),
    }
}
