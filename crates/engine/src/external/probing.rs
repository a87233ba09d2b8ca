//! One probe of an instance: whether it serves, and if not, whether it lives.

use std::{sync::Arc, time::Duration};

use perennial_core::service::Verdict;
use perennial_tools::service::{Instance, Probe, ProbeResult, ServiceDriver};
use tokio::time::timeout;

/// Each of the two questions has `within`. An answer that does not come is none.
pub(super) async fn probe(
    driver: Arc<dyn ServiceDriver>,
    instance: Instance,
    within: Duration,
) -> Verdict {
    let ask = async |probe| {
        let late = |_| ProbeResult::Fail(format!("it gave no answer within {within:?}").into());
        timeout(within, driver.probe(&instance, probe)).await.unwrap_or_else(late)
    };
    let why = match ask(Probe::Readiness).await {
        ProbeResult::Pass => return Verdict::Healthy,
        ProbeResult::Gone(why) => return Verdict::Gone(why),
        ProbeResult::Fail(why) => why,
    };
    match ask(Probe::Liveness).await {
        ProbeResult::Pass => Verdict::Unready(why),
        ProbeResult::Gone(why) => Verdict::Gone(why),
        ProbeResult::Fail(why) => Verdict::Unresponsive(why),
    }
}
