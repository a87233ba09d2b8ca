//! What jobs use: the model, four analyzers, and each app as it runs. The dynamic analyzer falls over twice; the
//! performance analyzer is a process of its own; an app that does not build cannot be started, ever.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use perennial::service::{
    ChildProcess, DriverFuture, Epoch, Instance, Probe, ProbeResult, Scope, ServiceDriver,
    ServiceKey, ServiceSpec, ServiceTerms, StartError, StopError, StopMode,
};

use super::fakes::{Network, Scaffold};

/// How often the dynamic analyzer falls over.
const FALLS: u32 = 2;

/// All of them; nothing takes longer than some `pace`.
pub(super) fn declared(network: &Network, scaffold: &Scaffold, pace: Duration) -> Vec<ServiceSpec> {
    let fake = |falls| Fake { network: network.clone(), pace, falls: AtomicU32::new(falls).into() };
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
        ServiceSpec::new("llm", fake(0)).terms(terms).calls_max(4),
        ServiceSpec::new("static", fake(0)).terms(terms),
        ServiceSpec::new("dynamic", fake(FALLS)).terms(terms).calls_max(3),
        ServiceSpec::new("performance", process(scaffold)).terms(terms).calls_max(1),
        ServiceSpec::new("ai", fake(0)).terms(terms),
        ServiceSpec::new("app", apps).scope(Scope::Keyed).terms(of_apps),
    ]
}

/// It says that it is there, and stays until its input ends. It is told where the apps are.
fn process(scaffold: &Scaffold) -> ChildProcess {
    let script = "echo \"ready as process:$$\"; read -r _";
    let apps = scaffold.root().as_os_str();
    ChildProcess::new("/bin/sh").arg("-c").arg(script).arg(apps).ready_line("ready as ")
}

/// Something that answers, and falls over so often.
#[derive(Clone, Debug)]
struct Fake {
    network: Network,
    pace: Duration,
    falls: Arc<AtomicU32>,
}

impl ServiceDriver for Fake {
    fn start<'a>(
        &'a self,
        key: &'a ServiceKey,
        epoch: Epoch,
    ) -> DriverFuture<'a, Result<Instance, StartError>> {
        Box::pin(async move {
            let address = format!("fake://{key}/{epoch}");
            self.network.comes(&address);
            let instance = Instance::at(address.clone());
            let falls = |left: u32| left.checked_sub(1);
            if self.falls.fetch_update(Ordering::SeqCst, Ordering::SeqCst, falls).is_err() {
                return Ok(instance);
            }
            let (network, lasts) = (self.network.clone(), self.pace / 2);
            Ok(instance.kept_by(async move {
                tokio::time::sleep(lasts).await; // real time: less than anything that it is asked for
                network.goes(&address);
                "it fell over".into()
            }))
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
