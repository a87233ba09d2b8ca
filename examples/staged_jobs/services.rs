//! What jobs use: the model, four analyzers, and each app as it runs. The dynamic analyzer falls over twice; the
//! performance analyzer is a process of its own; an app that does not build cannot be started, ever.

use std::{
    io,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use futures_util::stream::unfold;

use perennial::service::{
    ChildProcess, DriverFuture, Epoch, Instance, Probe, ProbeResult, Scope, ServiceDriver,
    ServiceKey, ServiceSpec, ServiceTerms, StartError, StopError, StopMode,
};
use tokio::net::{TcpListener, TcpStream};

use super::{
    analyzer::{Analyzer, Bounds, Tools},
    caller::lives,
    fakes::{Network, Scaffold, parts},
    frames::FRAME_MAX,
};

/// How often the dynamic analyzer falls over.
const FALLS: u32 = 2;

/// All of them; nothing takes longer than some `pace`.
pub(super) fn declared(network: &Network, scaffold: &Scaffold, pace: Duration) -> Vec<ServiceSpec> {
    let analyzer = |falls| FakeAnalyzer {
        tools: network.tools(),
        falls: AtomicU32::new(falls),
        lasts: pace / 2,
    };
    let terms = ServiceTerms {
        start_probe_every: pace,
        start_backoff: pace,
        restarts_max: 100,
        ..ServiceTerms::default()
    };
    let apps = Apps { network: network.clone(), scaffold: scaffold.clone() };
    // Nobody looks at an app twice.
    let of_apps = ServiceTerms { idle_stop: pace, ..terms };
    vec![
        ServiceSpec::new("llm", Model).terms(terms).calls_max(4),
        ServiceSpec::new("static", analyzer(0)).terms(terms),
        ServiceSpec::new("dynamic", analyzer(FALLS)).terms(terms).calls_max(3),
        ServiceSpec::new("performance", process(scaffold)).terms(terms).calls_max(1),
        ServiceSpec::new("ai", analyzer(0)).terms(terms),
        ServiceSpec::new("app", apps).scope(Scope::Keyed).terms(of_apps),
    ]
}

/// It says that it is there, and stays until its input ends. It is told where the apps are.
fn process(scaffold: &Scaffold) -> ChildProcess {
    let script = "echo \"ready as process:$$\"; read -r _";
    let apps = scaffold.root().as_os_str();
    ChildProcess::new("/bin/sh").arg("-c").arg(script).arg(apps).ready_line("ready as ")
}

/// It is always there.
#[derive(Debug)]
struct Model;

impl ServiceDriver for Model {
    fn start<'a>(
        &'a self,
        key: &'a ServiceKey,
        epoch: Epoch,
    ) -> DriverFuture<'a, Result<Instance, StartError>> {
        Box::pin(async move { Ok(Instance::at(format!("fake://{key}/{epoch}"))) })
    }

    fn stop<'a>(&'a self, _: &'a Instance, _: StopMode) -> DriverFuture<'a, Result<(), StopError>> {
        Box::pin(async { Ok(()) })
    }

    fn probe<'a>(&'a self, _: &'a Instance, _: Probe) -> DriverFuture<'a, ProbeResult> {
        Box::pin(async { ProbeResult::Pass })
    }
}

/// It listens on this machine, and falls over so often.
#[derive(Debug)]
struct FakeAnalyzer {
    tools: Tools,
    falls: AtomicU32,
    /// So long it lasts where it falls over: less than anything that it is asked for.
    lasts: Duration,
}

/// Who connects next.
async fn accepted(listener: TcpListener) -> Option<(TcpStream, TcpListener)> {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            return Some((stream, listener));
        }
        // real time: there are too many connections, or the like, and fewer soon
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl ServiceDriver for FakeAnalyzer {
    fn start<'a>(
        &'a self,
        key: &'a ServiceKey,
        epoch: Epoch,
    ) -> DriverFuture<'a, Result<Instance, StartError>> {
        Box::pin(async move {
            let no_port = |error: io::Error| StartError::Retryable(error.to_string().into());
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(no_port)?;
            let at = listener.local_addr().map_err(no_port)?;
            let address = format!("tcp://{at}/{key}/{epoch}");
            let (_, name) = parts(&address);
            let serves = Analyzer::new(name, self.tools.clone(), Bounds::default());
            let serves = serves.serve(Box::pin(unfold(listener, accepted)));
            let falls = |left: u32| left.checked_sub(1);
            let falls = self.falls.fetch_update(Ordering::SeqCst, Ordering::SeqCst, falls).is_ok();
            let lasts = if falls { self.lasts } else { Duration::MAX };
            Ok(Instance::at(address).kept_by(async move {
                // real time: it lasts so long
                let _ = tokio::time::timeout(lasts, serves).await;
                "it fell over".into()
            }))
        })
    }

    fn stop<'a>(&'a self, _: &'a Instance, _: StopMode) -> DriverFuture<'a, Result<(), StopError>> {
        // Whoever keeps it drops it.
        Box::pin(async { Ok(()) })
    }

    fn probe<'a>(&'a self, instance: &'a Instance, _: Probe) -> DriverFuture<'a, ProbeResult> {
        Box::pin(async move {
            let (at, _) = parts(instance.endpoint().unwrap_or_default());
            match lives(TcpStream::connect(at), FRAME_MAX).await {
                Ok(()) => ProbeResult::Pass,
                Err(why) => ProbeResult::Fail(why.into()),
            }
        })
    }
}

/// Apps as they run: one instance for each, built before it is started.
#[derive(Debug)]
struct Apps {
    network: Network,
    scaffold: Scaffold,
}

impl ServiceDriver for Apps {
    fn start<'a>(
        &'a self,
        key: &'a ServiceKey,
        epoch: Epoch,
    ) -> DriverFuture<'a, Result<Instance, StartError>> {
        Box::pin(async move {
            let app = key.instance().unwrap_or_default();
            // What does not build now does not build later: nobody waits for it.
            self.scaffold.build(app).map_err(|why| StartError::Permanent(why.into()))?;
            let address = format!("fake://{app}/build-{epoch}");
            self.network.comes(&address);
            Ok(Instance::at(address))
        })
    }

    fn stop<'a>(
        &'a self,
        instance: &'a Instance,
        _: StopMode,
    ) -> DriverFuture<'a, Result<(), StopError>> {
        self.network.goes(instance.endpoint().unwrap_or_default());
        Box::pin(async { Ok(()) })
    }

    fn probe<'a>(&'a self, _: &'a Instance, _: Probe) -> DriverFuture<'a, ProbeResult> {
        Box::pin(async { ProbeResult::Pass })
    }
}
