//! `file_ops`: one operation on files, off the threads that poll futures (2.15).
//!
//! An operation that would do something else when it is done twice looks first and has what it saw journaled: an
//! attempt that is made again, as after a crash, knows what the one before wanted, and finishes only what is left.

mod arguments;
mod content;
mod conversion;
mod inspection;
mod transfer;

use perennial_core::{Digest, FailureClass, failure::Failure};
use perennial_engine::AttemptCx;
use perennial_tools::files::{Access, FileError, Files};
use serde_json::{Map, Value, json};

use self::arguments::Arguments;
use super::{PipelineRun, failure::stopped, files::discreet, scope::Scope};
use crate::{
    definition::{FileOps, Operation},
    expression::{Names, to_text},
};

/// One operation, its arguments, and the files.
struct Work<'a> {
    access: &'a Access<'a>,
    operation: Operation,
    arguments: &'a Arguments,
    /// When the run was accepted, in milliseconds of Unix time: what is old is old on every attempt.
    started_ms: i64,
    /// What an attempt saw before it changed anything.
    plan: Option<Plan>,
}

/// What is to be done, as it was journaled.
#[derive(Clone, Debug)]
struct Plan {
    seen: Value,
    /// Whether an earlier attempt saw it, and may have done some of it.
    replayed: bool,
}

impl PipelineRun {
    /// Performs the operation of a step; answers its record.
    ///
    /// # Errors
    ///
    /// A value that is missing, a path that is not allowed, or what the operation met.
    pub(super) async fn operate(
        &self,
        ops: &FileOps,
        cx: &AttemptCx,
        scope: &Scope<'_>,
    ) -> Result<Value, Failure> {
        let value = ops.arguments.value(scope).map_err(|stop| stopped(&stop))?;
        for key in ["source", "destination", "path"] {
            if scope.is_secret(&value[key]) {
                discreet(&to_text(&value[key]), scope)?;
            }
        }
        let (operation, started_ms) = (ops.operation, cx.run_started_at.as_micros() / 1_000);
        let files = &self.files_of(scope).await?;
        let mut plan = None;
        if plans(operation, &Arguments::read(value.clone())?) {
            let request = Digest::of_json(&json!({ operation.name(): value }));
            let wanted = value.clone();
            let reply = cx
                .call(request, async |_| {
                    perform(files, operation, wanted, started_ms, None, |work| work.look_ahead())
                        .await
                })
                .await?;
            plan = Some(Plan { seen: reply.value, replayed: reply.replayed });
        }
        perform(files, operation, value, started_ms, plan, |work| work.run()).await
    }
}

/// Whether doing it twice is not the same as doing it once.
fn plans(operation: Operation, arguments: &Arguments) -> bool {
    let changes = match operation {
        Operation::Move | Operation::Delete => true,
        Operation::Write => arguments.append,
        Operation::StreamProcess => arguments.destination.is_null(),
        Operation::Copy
        | Operation::Validate
        | Operation::List
        | Operation::Convert
        | Operation::StreamCopy
        | Operation::Read => false,
    };
    changes && !arguments.options.dry_run
}

async fn perform(
    files: &Files,
    operation: Operation,
    value: Value,
    started_ms: i64,
    plan: Option<Plan>,
    part: fn(&Work<'_>) -> Result<Value, Failure>,
) -> Result<Value, Failure> {
    let arguments = Arguments::read(value)?;
    let done = files.perform(move |access| {
        let arguments = &arguments;
        Ok(part(&Work { access, operation, arguments, started_ms, plan }))
    });
    done.await.map_err(|error| error.failure())?
}

impl Work<'_> {
    fn run(&self) -> Result<Value, Failure> {
        match self.operation {
            Operation::Copy | Operation::StreamCopy | Operation::Move => self.transfer(),
            Operation::Delete => self.delete(),
            Operation::Validate => self.validate(),
            Operation::List => self.list(),
            Operation::Convert => self.convert(),
            Operation::StreamProcess => self.stream_process(),
            Operation::Write => self.write(),
            Operation::Read => self.read(),
        }
    }

    /// What there is to do, before anything is changed.
    fn look_ahead(&self) -> Result<Value, Failure> {
        match self.operation {
            Operation::Move => self.transfers().map(|pairs| json!(pairs)),
            Operation::Delete => self.deletions().map(|paths| json!(paths)),
            Operation::Write => self.appended().map(|bytes| json!(Digest::of(&bytes))),
            Operation::StreamProcess => self.processed_digest().map(|digest| json!(digest)),
            Operation::Copy
            | Operation::Validate
            | Operation::List
            | Operation::Convert
            | Operation::StreamCopy
            | Operation::Read => Ok(Value::Null),
        }
    }

    /// The digest that an earlier attempt wanted to produce.
    fn wanted_digest(&self) -> Option<Digest> {
        let plan = self.plan.as_ref().filter(|plan| plan.replayed)?;
        plan.seen.as_str()?.parse().ok()
    }

    /// The beginning of the record.
    fn record(&self, facts: Value) -> Map<String, Value> {
        let mut record = Map::new();
        record.insert("operation".to_owned(), self.operation.name().into());
        if let Value::Object(facts) = facts {
            record.extend(facts);
        }
        record
    }
}

/// `error`, as what `what` failed of.
fn because(what: &str, error: &FileError) -> Failure {
    Failure::new(error.class(), error.code(), format!("{what}: {error}"))
}

fn io(text: impl Into<String>) -> Failure {
    Failure::new(FailureClass::Io, "PL601", text)
}
