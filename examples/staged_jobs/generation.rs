//! Models write apps: two replies for each, which are paid for once, whatever happens in between.

use perennial::engine::AttemptCx;
use perennial::engine::staged::{Activity, ActivityError, Ended};
use perennial::engine::workflow::SequenceName;
use perennial::records::{Failure, FailureClass};
use perennial::service::ServiceKey;
use serde::{Deserialize, Serialize};

use super::{
    Notes,
    fakes::{FakeModel, Scaffold},
};

/// The parts of an app, each of them one reply.
pub(super) const PARTS: [&str; 2] = ["backend", "frontend"];

/// An app that is wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Which pair of the study it is.
    pub(crate) pair: String,
    pub(crate) model: String,
    pub(crate) template: String,
}

/// An app that is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct App {
    pub(crate) pair: String,
    pub(crate) model: String,
    pub(crate) template: String,
    /// Among those of its model.
    pub(crate) number: u64,
}

impl App {
    /// Itself, running: the instance of the service `app` that is its own.
    pub(super) fn running(&self) -> ServiceKey {
        ServiceKey::keyed("app", self.name())
    }

    /// What nobody else is called, in whatever study.
    pub(super) fn name(&self) -> String {
        format!("{}:{}", self.model, self.number)
    }
}

pub(super) struct Generate {
    pub(super) model: FakeModel,
    pub(super) scaffold: Scaffold,
    pub(super) notes: Notes,
}

impl Activity for Generate {
    const NAME: &'static str = "generate";
    type In = Order;
    type Out = App;

    async fn run(&self, cx: &AttemptCx, order: Order) -> Result<Ended<App>, ActivityError> {
        // The job keeps its number, over all of its attempts.
        let apps = SequenceName::new("app").map_err(|error| broken(&error))?;
        let number = cx.allocate(&apps, &order.model).await?;
        (self.notes)(&format!("number {}:{number} {}", order.model, cx.job));
        let mut code = Vec::new();
        for part in PARTS {
            let text = match cx.restored::<String>(part).await? {
                // Paid for by an earlier attempt.
                Some(text) => text,
                None => self.reply(cx, &order, part).await?,
            };
            code.push((part, text));
        }
        let Order { pair, model, template } = order;
        let app = App { pair, model, template, number };
        let attempt = format!("{}#{}", cx.job, cx.attempt);
        self.scaffold.write(&app, &code, &attempt).map_err(|error| broken(&error))?;
        Ok(Ended::Done(app))
    }
}

impl Generate {
    async fn reply(
        &self,
        cx: &AttemptCx,
        order: &Order,
        part: &str,
    ) -> Result<String, ActivityError> {
        let permit = cx.permit(&ServiceKey::shared("llm")).await?;
        (self.notes)(&format!("paid {} {part}", cx.job));
        let reply = self.model.complete(order, part, cx.attempt).await;
        permit.settle(reply.as_ref().err());
        let text = reply?;
        cx.checkpoint(part, &text).await?;
        (self.notes)(&format!("kept {} {part}", cx.job));
        Ok(text)
    }
}

fn broken(error: &impl std::fmt::Display) -> Failure {
    Failure::new(FailureClass::Internal, "APP9", error.to_string())
}
