//! Numbers that attempts ask for: of sequences, which the job keeps, and of pools, which go back with the attempt.

use std::time::Duration;

use perennial::{
    Runtime,
    engine::{
        AttemptCx, NoSlot, Outcome,
        workflow::{BoxFuture, SequenceName, SlotPool},
    },
    records::{AttemptEnd, Failure, FailureClass, RunHandle, RunView},
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{attempts::runtime, gate::SOON, one_job::OneJob};

fn invoices() -> SequenceName {
    SequenceName::new("invoice").unwrap()
}

/// Two of one scope and one of another.
async fn draw(cx: &AttemptCx) -> Result<[u64; 3], Failure> {
    let (first, other) =
        (cx.allocate(&invoices(), "x").await?, cx.allocate(&invoices(), "y").await?);
    Ok([first, other, cx.allocate(&invoices(), "x").await?])
}

async fn ended(run: &RunHandle) -> RunView {
    tokio::time::timeout(SOON * 10, run.outcome()).await.unwrap().unwrap().view
}

/// Proves INV-25.
#[tokio::test(start_paused = true)]
async fn a_later_attempt_of_a_job_has_the_numbers_of_the_first() {
    let runtime = runtime().await;
    let drawn = watch::Sender::new(Vec::new());
    let noted = drawn.clone();
    let work = move |cx: AttemptCx| {
        let drawn = noted.clone();
        async move {
            match draw(&cx).await {
                Ok(numbers) => drawn.send_modify(|drawn| drawn.push(numbers)),
                Err(failure) => return Outcome::Failed(failure),
            }
            match cx.attempt {
                1 => Outcome::Failed(Failure::new(FailureClass::Transient, "APP1", "not at once")),
                // Killed between the allocation and the use.
                2 => std::future::pending().await,
                _ => Outcome::Succeeded(json!(drawn.borrow().len())),
            }
        }
    };
    let run = OneJob::start(&runtime, work).await;
    let second = async { drawn.subscribe().wait_for(|drawn| drawn.len() == 2).await.map(|_| ()) };
    tokio::time::timeout(SOON, second).await.unwrap().unwrap();
    let other = OneJob::start(&runtime, |cx: AttemptCx| async move {
        draw(&cx).await.map_or_else(Outcome::Failed, |numbers| Outcome::Succeeded(json!(numbers)))
    });
    let other = ended(&other.await).await;
    assert_eq!(other.jobs[0].result, Some(json!([3, 2, 4])), "those of the first are taken");
    let task = format!("/perennial/tasks/{}:a#2", run.id());
    runtime.supervision_tree().kill(&task).unwrap().exit().await;
    let view = ended(&run).await;
    assert_eq!(view.jobs[0].result, Some(json!(3)));
    assert_eq!(*drawn.borrow(), [[1, 1, 2]; 3]);
    runtime.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_version_is_the_same_at_every_attempt() {
    let runtime = runtime().await;
    let work = async |cx: AttemptCx| {
        let number = cx.allocate(&invoices(), "x").await?;
        let mut versions = Vec::new();
        for parent in [1, 1, 3] {
            versions.push(cx.allocate_version(&invoices(), "x", number, parent).await?);
        }
        let unknown = cx.allocate_version(&invoices(), "x", number, 9).await.unwrap_err();
        assert_eq!(unknown.class, FailureClass::Internal, "{unknown:?}");
        let unnamed = cx.allocate(&invoices(), "").await.unwrap_err();
        assert_eq!(unnamed.class, FailureClass::Internal, "{unnamed:?}");
        if cx.attempt == 1 {
            return Err(Failure::new(FailureClass::Transient, "APP1", "not at once"));
        }
        Ok(json!(versions))
    };
    let work =
        move |cx| async move { work(cx).await.map_or_else(Outcome::Failed, Outcome::Succeeded) };
    let view = ended(&OneJob::start(&runtime, work).await).await;
    assert_eq!(view.jobs[0].result, Some(json!([2, 3, 4])));
    assert_eq!(view.attempts.len(), 2);
    runtime.shutdown().await;
}

fn port() -> SlotPool {
    SlotPool::new("ports", 20_000..=20_000).unwrap()
}

async fn with_port<F>(
    runtime: &Runtime,
    work: impl Fn(AttemptCx, u32) -> F + Clone + Send + Sync + 'static,
) -> RunHandle
where
    F: Future<Output = Outcome> + Send + 'static,
{
    let work = move |cx: AttemptCx| {
        let work = work.clone();
        Box::pin(async move {
            match cx.slot(&port()).await {
                Ok(port) => work(cx, port.number()).await,
                Err(refused) => refused.into(),
            }
        }) as BoxFuture<'static, Outcome>
    };
    OneJob::start(runtime, work).await
}

/// Proves K36.
#[tokio::test(start_paused = true)]
async fn who_finds_no_number_waits_for_one_and_whatever_ends_its_holder_gives_it_back() {
    let runtime = runtime().await;
    let held = watch::Sender::new(0);
    let holding = held.clone();
    let holder = with_port(&runtime, move |cx, port| {
        let held = holding.clone();
        async move {
            held.send_replace(cx.attempt);
            if cx.attempt < 3 {
                std::future::pending::<()>().await;
            }
            Outcome::Succeeded(json!(port))
        }
    });
    let holder = holder.await;
    let until = async |attempt| {
        let mut held = held.subscribe();
        let held = held.wait_for(|held| *held == attempt);
        tokio::time::timeout(SOON, held).await.unwrap().unwrap();
    };
    until(1).await;
    let waiting = with_port(&runtime, async |_, port| Outcome::Succeeded(json!(port))).await;
    let mut events = waiting.events(1);
    let deferred = async {
        loop {
            let event = events.next().await.unwrap();
            if event.kind == "job_deferred" {
                return event;
            }
        }
    };
    tokio::time::timeout(SOON, deferred).await.unwrap();
    // The death of the task, and then its time: each ends with the number back, which the next attempt has.
    let task = format!("/perennial/tasks/{}:a#1", holder.id());
    runtime.supervision_tree().kill(&task).unwrap().exit().await;
    let view = ended(&holder).await;
    assert_eq!(view.jobs[0].result, Some(json!(20_000)));
    let ends: Vec<_> = view.attempts.iter().map(|attempt| attempt.end.unwrap()).collect();
    assert_eq!(ends.last(), Some(&AttemptEnd::Succeeded), "{ends:?}");
    let view = ended(&waiting).await;
    assert_eq!(view.jobs[0].result, Some(json!(20_000)));
    assert_eq!(view.jobs[0].attempts_used, 1, "waiting uses none");
    assert_eq!(view.attempts[0].end, Some(AttemptEnd::Unavailable));
    runtime.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_number_is_free_when_it_is_given_back_and_not_when_it_is_dropped() {
    let runtime = runtime().await;
    let work = async |cx: AttemptCx| -> Result<Value, NoSlot> {
        let full = async || match cx.slot(&port()).await {
            Err(NoSlot::Full(why)) => assert_eq!(why.what, "a free number of the pool `ports`"),
            other => panic!("{other:?}"),
        };
        drop(cx.slot(&port()).await?);
        full().await;
        let pool = SlotPool::new("gates", 7..=8).unwrap();
        let (seven, eight) = (cx.slot(&pool).await?, cx.slot(&pool).await?);
        assert_eq!((seven.number(), eight.number()), (7, 8));
        seven.give_back().await.map_err(NoSlot::Failed)?;
        let seven = cx.slot(&pool).await?;
        assert_eq!(seven.number(), 7);
        eight.conflict().await.map_err(NoSlot::Failed)?;
        assert!(matches!(cx.slot(&pool).await, Err(NoSlot::Full(_))), "8 is fenced");
        // Paused clock: as long as a fence lasts.
        drop(tokio::time::timeout(Duration::from_secs(61), std::future::pending::<()>()).await);
        assert_eq!(cx.slot(&pool).await?.number(), 8);
        full().await;
        Ok(json!("done"))
    };
    let plan = perennial::engine::JobPlan::new(
        perennial::engine::workflow::JobKey::new("a"),
        perennial::engine::workflow::RetryPolicy::ONCE,
        Duration::from_secs(600),
    );
    let work =
        move |cx| async move { work(cx).await.map_or_else(Outcome::from, Outcome::Succeeded) };
    let run = OneJob::start_with(&runtime, plan, None, work).await.unwrap();
    assert_eq!(ended(&run).await.jobs[0].result, Some(json!("done")));
    runtime.shutdown().await;
}
