//! What is asked of a run: pause, cancel, skip, signals, a further round.

use std::{num::NonZeroU32, time::Duration};

use perennial_core::{
    ExitReason,
    run::{JobKey, Priority},
};
use perennial_store::{Accepted, RunRecord, StageLimit, StoreError};
use perennial_supervision::{CallError, actor::RpcReply};
use serde::Serialize;

use super::{RunError, RunHandle};
use crate::{
    patience::{STORE_WITHIN, patiently},
    run::{Message, Request, Requested, is_tellable, settle, tell},
    sent::Sent,
    services::Reads,
    staged::Which,
};

/// How long an actor of ours may take to answer.
const REPLY_WITHIN: Duration = Duration::from_secs(60);

impl RunHandle {
    /// Pauses it: attempts under way end and are recorded, and nothing more starts until
    /// [`unpause`](Self::unpause), over restarts of the process as well. Its deadline keeps running.
    /// Answers whether that changed anything.
    ///
    /// ```
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let id = runtime.pipelines().start(start).await?.id().clone();
    /// let run = runtime.runs().get(&id).await?; // it has a minute to go
    /// assert!(run.pause().await?);
    /// assert!(!run.pause().await?); // it was paused already
    /// # run.cancel().await?;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Works whoever runs it, while nobody does, and where this build does not know its workflow: whoever goes on with it next finds
    /// it paused.
    ///
    /// # Errors
    ///
    /// [`RunError::Ended`] when it has ended, or when the store is away.
    ///
    /// [`RunError::Store`] with [`StoreError::InvalidState`] while it is
    /// [`Compensating`](perennial_core::run::RunState::Compensating): what it has done is undone without a pause.
    pub async fn pause(&self) -> Result<bool, RunError> {
        self.set_pause(true).await
    }

    /// Lets it go on where it stands. Answers whether that changed anything.
    ///
    /// ```
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let id = runtime.pipelines().start(start).await?.id().clone();
    /// let run = runtime.runs().get(&id).await?; // it has a minute to go
    /// run.pause().await?;
    /// assert!(run.unpause().await?);
    /// assert!(!run.unpause().await?); // it was not paused any more
    /// # run.cancel().await?;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause).
    pub async fn unpause(&self) -> Result<bool, RunError> {
        self.set_pause(false).await
    }

    /// Asks it to end; its live attempt is stopped. Answers whether that changed anything: false when it has ended, or is ending
    /// already, which goes on as it is. That is so, too, while it undoes what it has done: it ends then as what made it do so
    /// says, failed for instance.
    ///
    /// Works whoever runs it, and while nobody does. Where this build does not know its workflow and no node lives that works on
    /// it, it stays [`Cancelling`](perennial_core::run::RunState::Cancelling) until whoever knows it takes it: only that one can
    /// tell what is to be undone first. As long does a run stay
    /// [`Compensating`](perennial_core::run::RunState::Compensating) that has something to undo, where nobody works on it: what a
    /// run whose plan declares [what undoes its jobs](crate::staged::Stage::compensate) becomes by being cancelled.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, RunState, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let id = runtime.pipelines().start(start).await?.id().clone();
    /// let run = runtime.runs().get(&id).await?; // it has a minute to go
    /// assert!(run.cancel().await?);
    /// assert_eq!(run.outcome().await?.state, RunState::Cancelled);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store is away.
    pub async fn cancel(&self) -> Result<bool, RunError> {
        // It has ended: that changes nothing any more.
        Ok(self.ask(Request::Cancel).await?.unwrap_or(false))
    }

    /// Sends it a signal: the job that has waited for it longest goes on with `payload`; without one, it is
    /// kept for the job that will ask for it. Works whoever runs it, and while nobody does.
    ///
    /// ```
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let id = runtime.pipelines().start(start).await?.id().clone();
    /// let run = runtime.runs().get(&id).await?; // it has a minute to go
    /// let accepted = run.signal("go", &["now"]).await?;
    /// assert!(accepted.changed && accepted.woken.is_none()); // nobody has asked for it yet
    /// # run.cancel().await?;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn signal(&self, name: &str, payload: &impl Serialize) -> Result<Accepted, RunError> {
        self.send(Sent::signal(name, payload)?).await
    }

    /// Answers a question of it: the first answer counts. One that comes before the question is kept.
    ///
    /// ```
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let id = runtime.pipelines().start(start).await?.id().clone();
    /// use perennial::{StoreError, records::RunError};
    ///
    /// let run = runtime.runs().get(&id).await?;
    /// run.answer("agree?", &true).await?;
    /// let second = run.answer("agree?", &false).await;
    /// assert!(matches!(second, Err(RunError::Store(StoreError::AlreadyAnswered { .. }))));
    /// # run.cancel().await?;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); with [`StoreError::AlreadyAnswered`] or [`StoreError::Expired`] when it
    /// cannot be answered any more.
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn answer(&self, name: &str, value: &impl Serialize) -> Result<Accepted, RunError> {
        self.send(Sent::answer(name, value)?).await
    }

    /// Sends it something, with all that is recorded of that.
    ///
    /// ```
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let id = runtime.pipelines().start(start).await?.id().clone();
    /// use perennial::engine::Sent;
    ///
    /// let run = runtime.runs().get(&id).await?;
    /// let go = Sent::signal("go", &1)?.by("ada").because("it is time").request("mail 17");
    /// assert!(run.send(go.clone()).await?.changed);
    /// assert!(!run.send(go).await?.changed); // the same request again
    /// # run.cancel().await?;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RunError::Store`] with [`StoreError::InvalidState`] when it is ending or has ended, with
    /// [`StoreError::TooLarge`] or [`StoreError::TooMany`] when it is not kept, or when the store is away.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether it was sent; sending it again with the same request tells.
    pub async fn send(&self, sent: Sent) -> Result<Accepted, RunError> {
        let services = &self.runs.services;
        self.runs.require(sent.action(), Some(&self.run)).await?;
        let mut signal = sent.to(&self.run);
        if let Some(by) = self.runs.principals.by() {
            signal.by = by;
        }
        let accepted = patiently(STORE_WITHIN, || services.store.signal(signal.clone())).await;
        let accepted = match accepted {
            Err(StoreError::Closed) => return Err(self.runs.shut_down(&self.run)),
            accepted => accepted?,
        };
        if let Some(address) = services.run_address(&self.run) {
            // One that is away, or runs elsewhere, finds it at its next look.
            drop(address.cast(Message::Wake));
        }
        Ok(accepted)
    }

    /// Ends a job of it as skipped, because somebody says so: its live attempt is stopped first, and what
    /// follows it goes on without it. The run is then at best a success in part. Answers whether that
    /// changed anything: false when it was skipped before. When nobody runs the run, that is recorded, and
    /// starts nothing.
    ///
    /// ```
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}, {name: b, type: echo, value: 2}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let id = runtime.pipelines().start(start).await?.id().clone();
    /// use perennial::engine::workflow::JobKey;
    ///
    /// let run = runtime.runs().get(&id).await?; // its first step takes a minute
    /// # let mut events = run.events(1);
    /// # while events.next().await?.kind != "attempt_started" {}
    /// assert!(run.skip(&JobKey::new("slow"), "nobody needs it").await?);
    /// assert_eq!(run.outcome().await?.state.name(), "partially_succeeded");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RunError::Store`] with [`StoreError::NotFound`] when it has no such job yet, with
    /// [`StoreError::InvalidState`] when the job has ended; else as [`pause`](Self::pause). Where this build does not know
    /// its workflow, [`RunError::NotRunnable`] for a group, and for a run that is not in stages.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether it was skipped; asking again tells.
    pub async fn skip(&self, job: &JobKey, why: &str) -> Result<bool, RunError> {
        let request = Request::Skip { job: job.clone(), why: why.to_owned() };
        self.ask(request).await?.map_err(|ended| RunError::ended(&ended))
    }

    /// Gives a stage of it another number of places for jobs that are under way at a time, from now on: fewer stop nothing that is
    /// under way, more count at once (DUR-16, DUR-69). Answers whether that changed anything.
    ///
    /// ```
    /// # use std::{num::NonZeroU32, time::Duration};
    /// # use perennial::{Runtime, Store, engine::{AttemptCx, staged::*}};
    /// # #[derive(Debug)]
    /// # struct Work;
    /// # impl Activity for Work {
    /// #     const NAME: &'static str = "work";
    /// #     type In = u8;
    /// #     type Out = u8;
    /// #     async fn run(&self, _: &AttemptCx, input: u8) -> Result<Ended<u8>, ActivityError> {
    /// #         tokio::time::sleep(Duration::from_millis(20)).await;
    /// #         Ok(Ended::Done(input))
    /// #     }
    /// # }
    /// # #[derive(Debug)]
    /// # struct Works;
    /// # impl StagedWorkflow for Works {
    /// #     const NAME: &'static str = "works";
    /// #     const VERSION: u32 = 1;
    /// #     type Input = ();
    /// #     type Output = ();
    /// #     fn plan(&self, _: &()) -> Result<Plan, PlanProblems> {
    /// #         let jobs = (0..9_u8).map(|job| JobSpec::new(job.to_string(), &job));
    /// #         Ok(Plan::new().stage(Stage::activity::<Work>("work").feed(Feed::jobs(jobs)).concurrency(1)))
    /// #     }
    /// #     fn summarize(&self, _: &(), _: &RunReport) {}
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let works = Staged::new(Works).activity(Work);
    /// # let runtime = Runtime::builder().store(Store::memory()).staged(&works).start().await?;
    /// let run = runtime.runs().start(works.start(&())?).await?; // one at a time
    /// assert!(run.set_concurrency("work", NonZeroU32::new(3).unwrap()).await?);
    /// assert_eq!(run.view().await?.stages[0].concurrency, Some(3));
    /// # run.outcome().await?;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RunError::Store`] with [`StoreError::NotFound`] when it has no such stage of a plan; [`RunError::NotRunnable`] where this
    /// build does not know its workflow; else as [`pause`](Self::pause).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether it was changed; asking again tells.
    pub async fn set_concurrency(&self, stage: &str, most: NonZeroU32) -> Result<bool, RunError> {
        let limit = StageLimit { stage: stage.to_owned(), most };
        self.ask(Request::Limit(limit)).await?.map_err(|ended| RunError::ended(&ended))
    }

    /// Says how soon the run comes of those that wait: for a place among the active ones, and for room of a node. More comes before
    /// less, and whoever waits comes the sooner the longer it has waited: one more of priority for each
    /// [`EngineSettings::aging`](crate::EngineSettings::aging), 30 s. What is under way goes on. What the run's plan says of a
    /// [stage](crate::staged::Stage::priority) or a job is added to it. False when the run has it already.
    ///
    /// ```
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let id = runtime.pipelines().start(start).await?.id().clone();
    /// use perennial::engine::Priority;
    ///
    /// let run = runtime.runs().get(&id).await?;
    /// assert!(run.set_priority(Priority::URGENT).await?);
    /// assert_eq!(run.view().await?.run.priority, Priority::URGENT);
    /// # run.cancel().await?;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause): a run that is Compensating keeps the priority it had, and its compensations come by it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether it was changed; asking again tells.
    pub async fn set_priority(&self, priority: Priority) -> Result<bool, RunError> {
        self.ask(Request::Priority(priority)).await?.map_err(|ended| RunError::ended(&ended))
    }

    /// Opens a run in stages that has ended for a further round, in which what failed of it is made again, with all of its attempts:
    /// all of it, that of a stage, or one job. Of a group only the children that failed are made again, and it is
    /// joined again. Stages behind are opened as well; what was skipped there because of a failure is made when
    /// it can be. It is one transaction: of two that ask at the same time one is refused with
    /// [`StoreError::Conflict`]. Answers how many jobs are made again.
    ///
    /// Where a stage has used a result that would change, that is refused, unless `cascade` says that what has
    /// used it is made again as well. What had succeeded is then another job for the outside world: its
    /// idempotency key ends in `#1`, its recorded calls are forgotten, and the numbers it was given stay.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store, engine::{AttemptCx, staged::*}, records::{Failure, FailureClass}};
    /// # #[derive(Debug)]
    /// # struct Wake;
    /// # impl Activity for Wake {
    /// #     const NAME: &'static str = "wake";
    /// #     type In = String;
    /// #     type Out = String;
    /// #     async fn run(&self, cx: &AttemptCx, name: String) -> Result<Ended<String>, ActivityError> {
    /// #         if name == "Ada" && cx.attempt == 1 {
    /// #             return Err(Failure::new(FailureClass::Permanent, "APP1", "asleep").into());
    /// #         }
    /// #         Ok(Ended::Done(name))
    /// #     }
    /// # }
    /// # #[derive(Debug)]
    /// # struct Wakes;
    /// # impl StagedWorkflow for Wakes {
    /// #     const NAME: &'static str = "wakes";
    /// #     const VERSION: u32 = 1;
    /// #     type Input = Vec<String>;
    /// #     type Output = ();
    /// #     fn plan(&self, names: &Vec<String>) -> Result<Plan, PlanProblems> {
    /// #         let jobs = names.iter().map(|name| JobSpec::new(name, name));
    /// #         Ok(Plan::new().stage(Stage::activity::<Wake>("wake").feed(Feed::jobs(jobs))))
    /// #     }
    /// #     fn summarize(&self, _: &Vec<String>, _: &RunReport) {}
    /// # }
    /// # let wakes = Staged::new(Wakes).activity(Wake);
    /// # let runtime = Runtime::builder().store(Store::memory()).staged(&wakes).start().await?;
    /// let names = ["Ada", "Bob"].map(str::to_owned).to_vec();
    /// let run = runtime.runs().start(wakes.start(&names)?).await?;
    /// assert_eq!(run.outcome().await?.state.name(), "partially_succeeded"); // Ada was asleep
    /// assert_eq!(run.retry(&Which::Failed, false).await?, 1);
    /// assert_eq!(run.outcome().await?.state.name(), "succeeded");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RunError::WouldInvalidate`], see above; [`RunError::Undone`] when compensations have undone what it had done, or tried to;
    /// [`RunError::Store`] with [`StoreError::NotFound`] when nothing of that
    /// kind has failed, with [`StoreError::InvalidState`] when the run has not ended, or has succeeded;
    /// [`RunError::NotRunnable`] when it is not in stages, or this build cannot read its definition. The run is then
    /// left as it is.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave a reopened run, which then continues.
    pub async fn retry(&self, which: &Which, cascade: bool) -> Result<u64, RunError> {
        self.runs.retry(&self.run, which, cascade).await
    }

    async fn set_pause(&self, pause: bool) -> Result<bool, RunError> {
        self.ask(if pause { Request::Pause } else { Request::Unpause })
            .await?
            .map_err(|ended| RunError::ended(&ended))
    }

    /// Of a run that has no actor in this process: what is asked of it is decided here, by its rows (DUR-5), and whoever
    /// runs it finds the decision when it next looks. Nothing when it has ended. `was_asked`: whoever starts actors here has
    /// nothing to say.
    async fn elsewhere(
        &self,
        requested: &Requested,
        was_asked: bool,
    ) -> Result<Option<Result<bool, StoreError>>, RunError> {
        let request = &requested.request;
        let services = &self.runs.services;
        let view = self.view().await?;
        let record = &view.run;
        if record.state.is_terminal() {
            return Ok(None);
        }
        let is_ours = record.owner.is_some() && record.owner == services.registered_node();
        if is_ours && !was_asked {
            // It is just taken over, and has its actor when that is done; or it cannot have one here.
            if let Some(answer) = self.aside(requested).await? {
                return Ok(Some(answer));
            }
            if let Some(address) = services.run_address(&self.run) {
                match address.call(told(requested), REPLY_WITHIN).await {
                    Err(CallError::NoProc) => (),
                    answer => return Ok(Some(answer?)),
                }
            }
        }
        let reads = match request {
            Request::Cancel | Request::Pause | Request::Unpause | Request::Priority(_) => {
                Reads::ToStop
            }
            // What follows is asked.
            Request::Skip { .. } | Request::Limit(_) => Reads::ToExecute,
        };
        match self.runs.revived_as(record, reads).await {
            Ok(workflow) => Ok(Some(settle(services, &self.run, &workflow, requested).await)),
            // Who works on it, or takes it next, knows its workflow.
            Err(RunError::NotRunnable(_)) if is_tellable(&view, request) => {
                Ok(Some(tell(services, view, requested).await))
            }
            Err(error) => Err(error),
        }
    }

    /// Asks whoever starts actors here: nothing where the run has one, or cannot have one, and where nobody starts any.
    async fn aside(
        &self,
        requested: &Requested,
    ) -> Result<Option<Result<bool, StoreError>>, RunError> {
        match self.runs.scheduler.aside(&self.run, requested.clone()).await {
            Err(CallError::NoProc) if !self.runs.services.is_draining() => Ok(None),
            answer => Ok(answer?),
        }
    }

    /// Asks whoever runs it here, or decides by its rows; what is recorded of it when it has ended, before or meanwhile.
    async fn ask(&self, request: Request) -> Result<Result<bool, Box<RunRecord>>, RunError> {
        self.runs.require(request.action(), Some(&self.run)).await?;
        let requested = Requested { request, by: self.runs.principals.by() };
        let services = &self.runs.services;
        for _ in 0..services.settings.decide_rounds {
            if services.hub.is_over() {
                return Err(self.runs.shut_down(&self.run));
            }
            let answer = self.ask_once(&requested).await;
            // An actor whose run has ended refuses nothing, and stops.
            if let Ok(Some(Ok(true))) = answer {
                return Ok(Ok(true));
            }
            let record = self.view().await?.run;
            if record.state.is_terminal() {
                return Ok(Err(Box::new(record)));
            }
            match answer {
                Ok(Some(answer)) => return Ok(Ok(answer?)),
                Err(RunError::Engine(_)) if services.is_draining() => {
                    return Err(RunError::ShuttingDown);
                }
                // It had ended, and is open again.
                Ok(None) => (),
                Err(RunError::Engine(
                    CallError::NoProc | CallError::Exited(ExitReason::Normal),
                )) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Busy.into())
    }

    async fn ask_once(
        &self,
        requested: &Requested,
    ) -> Result<Option<Result<bool, StoreError>>, RunError> {
        // One that is parked, or waits for a place, has no actor; it may get one just before it is asked for.
        let services = &self.runs.services;
        let is_skip = matches!(requested.request, Request::Skip { .. });
        let waits =
            services.parked.is_parked(&self.run) || services.waiting.of(&self.run).is_some();
        let is_aside = waits || is_skip && services.run_address(&self.run).is_none();
        let aside = match is_aside {
            true => self.aside(requested).await?,
            false => None,
        };
        let answer = match (aside, services.run_address(&self.run)) {
            (Some(answer), _) => Ok(answer),
            (None, Some(address)) => address.call(told(requested), REPLY_WITHIN).await,
            (None, None) => Err(CallError::NoProc),
        };
        match answer {
            // It has none here, or none any more.
            Err(CallError::NoProc) => Box::pin(self.elsewhere(requested, is_aside)).await,
            answer => Ok(Some(answer?)),
        }
    }
}

fn told(requested: &Requested) -> impl FnOnce(RpcReply<Result<bool, StoreError>>) -> Message {
    let requested = requested.clone();
    |reply| Message::Asked { requested, reply }
}
