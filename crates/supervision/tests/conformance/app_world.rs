//! Applications whose callbacks and children write down what happens to them.

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::BoxFuture;
use perennial_core::{ExitReason, Restart};
use perennial_supervision::{
    Address, Application, ApplicationSpec, Applications, ChildSpec, Clock, Env, EnvChange,
    GenServer, Init, Next, Options, ServerCx, Shutdown, Supervisor, SupervisorSpec, System,
    SystemError, SystemSpec, actor::ActorError,
};

use crate::probe::Log;

/// What a callback does after it has written itself down.
pub(crate) type Then = BoxFuture<'static, Result<(), ActorError>>;
type Act = Arc<dyn Fn(&str) -> Then + Send + Sync>;
type Tree = Arc<dyn Fn(&Env) -> Result<ChildSpec, ActorError> + Send + Sync>;

/// An application that writes down its callbacks, each with the state that it gets: the names of those
/// before it.
pub(crate) struct App {
    name: &'static str,
    log: Log,
    tree: Tree,
    act: Act,
}

impl App {
    pub(crate) fn new(name: &'static str, log: &Log, tree: SupervisorSpec) -> Self {
        let tree: Tree = Arc::new(move |_| Ok(Supervisor::child_spec(tree.clone()).0));
        Self { name, log: log.clone(), tree, act: Arc::new(|_| Box::pin(async { Ok(()) })) }
    }

    /// Makes its tree like this.
    pub(crate) fn tree(
        mut self,
        tree: impl Fn(&Env) -> Result<ChildSpec, ActorError> + Send + Sync + 'static,
    ) -> Self {
        self.tree = Arc::new(tree);
        self
    }

    /// Does this in each callback, which is told its name.
    pub(crate) fn act(mut self, act: impl Fn(&str) -> Then + Send + Sync + 'static) -> Self {
        self.act = Arc::new(act);
        self
    }

    pub(crate) fn spec(self) -> ApplicationSpec {
        ApplicationSpec::new(self.name, self)
    }

    async fn called(&self, callback: &str, state: &mut Vec<String>) -> Result<(), ActorError> {
        self.log.add(format!("{} {callback} [{}]", self.name, state.join(" ")));
        state.push(callback.to_owned());
        (self.act)(callback).await
    }
}

impl Application for App {
    type State = Vec<String>;

    async fn start(&self, env: &Env) -> Result<(ChildSpec, Vec<String>), ActorError> {
        let mut state = Vec::new();
        self.called("start", &mut state).await?;
        Ok(((self.tree)(env)?, state))
    }

    async fn start_phase(&self, phase: &str, state: &mut Vec<String>) -> Result<(), ActorError> {
        self.called(phase, state).await
    }

    async fn prep_stop(&self, state: &mut Vec<String>) -> Result<(), ActorError> {
        self.called("prep_stop", state).await
    }

    async fn stop(&self, mut state: Vec<String>) -> Result<(), ActorError> {
        self.called("stop", &mut state).await
    }

    async fn config_change(&self, change: EnvChange) -> Result<(), ActorError> {
        let EnvChange { changed, new, removed } = change;
        self.log.add(format!("{} changed {changed:?} new {new:?} removed {removed:?}", self.name));
        (self.act)("config_change").await
    }
}

/// What a child is told.
pub(crate) enum Say {
    Panic,
    Exit(ExitReason),
    Run(BoxFuture<'static, ()>),
}

/// A child that writes down its start, its end with the reason, and when it is gone.
pub(crate) struct Kid {
    name: &'static str,
    log: Log,
    /// How long its cleanup takes.
    winds_up: Duration,
}

impl Drop for Kid {
    fn drop(&mut self) {
        self.log.add(format!("{} gone", self.name));
    }
}

impl GenServer for Kid {
    type Arguments = (&'static str, Log, Duration);
    type Message = Say;

    async fn init(
        (name, log, winds_up): Self::Arguments,
        _: &mut ServerCx<Self>,
    ) -> Result<Init<Self>, ActorError> {
        log.add(format!("{name} up"));
        Ok(Init::new(Self { name, log, winds_up }))
    }

    async fn handle(&mut self, say: Say, _: &mut ServerCx<Self>) -> Result<Next<Say>, ActorError> {
        match say {
            Say::Panic => panic!("asked to"),
            Say::Exit(reason) => return Ok(Next::Stop(reason)),
            Say::Run(work) => work.await,
        }
        Ok(Next::Continue)
    }

    async fn terminate(
        &mut self,
        reason: &ExitReason,
        _: &mut ServerCx<Self>,
    ) -> Result<(), ActorError> {
        self.log.add(format!("{} ends: {}", self.name, reason.name()));
        passes(self.winds_up).await;
        Ok(())
    }
}

/// Lets that much time pass.
pub(crate) async fn passes(time: Duration) {
    drop(tokio::time::timeout(time, pending::<()>()).await);
}

pub(crate) fn kid(name: &'static str, log: &Log) -> (ChildSpec, Address<Say>) {
    slow_kid(name, log, Duration::ZERO)
}

/// One whose cleanup takes so long.
pub(crate) fn slow_kid(
    name: &'static str,
    log: &Log,
    winds_up: Duration,
) -> (ChildSpec, Address<Say>) {
    let log = log.clone();
    ChildSpec::server::<Kid>(name, move || (name, log.clone(), winds_up))
}

/// A child that ignores every request to stop, with the time that it has.
pub(crate) fn stubborn(name: &'static str, shutdown: Shutdown) -> ChildSpec {
    let never = |_| async { pending::<Result<(), String>>().await };
    ChildSpec::cooperative_task(name, never).restart(Restart::Permanent).shutdown(shutdown)
}

/// `web` has one child, `web-kid`; and so on.
pub(crate) fn plain(name: &'static str, log: &Log) -> (App, Address<Say>) {
    let kid_name: &'static str = match name {
        "a" => "a-kid",
        "b" => "b-kid",
        "c" => "c-kid",
        _ => "kid",
    };
    let (spec, address) = kid(kid_name, log);
    (App::new(name, log, SupervisorSpec::new("top").child(spec)), address)
}

/// A system, and what its applications have written down.
pub(crate) struct World {
    pub(crate) system: System,
    pub(crate) apps: Applications,
    pub(crate) log: Log,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(|spec| spec).await
    }

    pub(crate) async fn with(configure: impl FnOnce(SystemSpec) -> SystemSpec) -> Self {
        let spec = configure(SystemSpec::new("system"));
        let system = System::start(spec, Clock::start(), Options::default()).await.unwrap();
        let apps = system.applications().clone();
        Self { system, apps, log: Log::default() }
    }

    pub(crate) async fn load(&self, spec: ApplicationSpec) {
        self.apps.load(spec).await.unwrap();
    }

    /// Loads applications with one child each, `b` after `a` and so on, and answers those.
    pub(crate) async fn chain(&self, names: &[&'static str]) -> Vec<Address<Say>> {
        let mut kids = Vec::new();
        let mut before = None;
        for name in names {
            let (app, address) = plain(name, &self.log);
            self.load(before.into_iter().fold(app.spec(), ApplicationSpec::depends_on)).await;
            kids.push(address);
            before = Some(*name);
        }
        kids
    }

    pub(crate) async fn starts(&self, name: &str, restart: Restart) {
        self.apps.start(name, restart).await.unwrap();
    }

    /// Those that run, in start order.
    pub(crate) fn running(&self) -> Vec<String> {
        self.apps.which_applications().iter().map(|app| app.name.to_string()).collect()
    }

    /// Waits for the end of the system.
    pub(crate) async fn fails(&self) -> SystemError {
        self.system.ended().await.unwrap_err()
    }
}

/// Where one of several things is in what was written down.
pub(crate) fn at(log: &[String], line: &str) -> usize {
    log.iter().position(|it| it.starts_with(line)).unwrap_or_else(|| panic!("{line}: {log:?}"))
}

/// How often something was written down.
pub(crate) fn times(log: &[String], line: &str) -> usize {
    log.iter().filter(|it| it.starts_with(line)).count()
}

/// Values that a callback may take once.
pub(crate) type Once<T> = Arc<Mutex<Option<T>>>;
