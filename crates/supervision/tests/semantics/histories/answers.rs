//! Answers of a supervisor in the words of the model.

use perennial_core::supervisor::SpecError;
use perennial_supervision::{RequestError, StartFault};

#[expect(clippy::wildcard_enum_match_arm, reason = "the model never expects any other")]
pub(super) fn refused(error: RequestError) -> String {
    match error {
        RequestError::AlreadyStarted(holder) => {
            format!("already started: {}", holder.path().rsplit('/').next().unwrap())
        }
        RequestError::AlreadyPresent(_) => "already present".to_owned(),
        RequestError::Running(_) => "running".to_owned(),
        RequestError::Restarting(_) => "restarting".to_owned(),
        RequestError::NotFound(_) => "not found".to_owned(),
        RequestError::StartFailed(error) => fault(StartFault::Child(Box::new(error))),
        RequestError::Ignore => "ignore".to_owned(),
        RequestError::Invalid(error) => fault(StartFault::Invalid(error)),
        RequestError::MaxChildren(max) => format!("at most {max}"),
        RequestError::NoProc => "no proc".to_owned(),
        other => format!("{other:?}"),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the model never expects any other")]
pub(super) fn fault(fault: StartFault) -> String {
    match fault {
        StartFault::Child(error) => match error.reason {
            StartFault::Failed(reason) => format!("failed: {} {}", error.child, reason.name()),
            other => format!("failed: {} {other:?}", error.child),
        },
        StartFault::Invalid(error) => match error {
            SpecError::DuplicateChild(id) => format!("invalid: duplicate {id}"),
            SpecError::SignificantPermanent(id) => format!("invalid: {id} permanent"),
            SpecError::SignificantNeverShutsDown(id) => format!("invalid: {id} in never"),
            SpecError::SignificantHere(id) => format!("invalid: {id} significant"),
            other => format!("invalid: {other:?}"),
        },
        other => format!("{other:?}"),
    }
}
