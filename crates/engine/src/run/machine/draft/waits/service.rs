//! Whether the service that a job waits for lets it go on, by what is published of it.

use perennial_core::service::ServiceKey;
use perennial_store::{Admissions, Admits, Deferral};

use super::Job;
use crate::external::{is_for_room, why};

/// What a service is to a job that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service<'a> {
    /// It waits for something else, or there is nothing new.
    AsBefore,
    /// It is to be claimed, or told what it waits for next.
    Admits,
    /// It is waited for no longer, and why.
    Failed(&'a str),
}

/// What is known of all that `job` uses, where it is one of these that it waits for. Who waits for something else is
/// not let go on by them: it would find that missing again, at once. `let_in` have come back already, of what is only
/// tried out.
pub(super) fn of<'a>(
    job: &Job,
    deferral: &Deferral,
    admissions: &'a Admissions,
    let_in: &mut u32,
) -> Service<'a> {
    let known = |key: &ServiceKey| {
        admissions.services.iter().find(|(of, _)| of == key).map(|(_, admits)| admits)
    };
    let waits_for = job.uses.iter().find_map(|key| Some((key, why(&deferral.cause, key)?)));
    let Some((key, reason)) = waits_for else { return Service::AsBefore };
    let (mut all_admit, mut is_tried) = (true, false);
    for key in &job.uses {
        match known(key) {
            Some(Admits::No(closed)) if closed.is_final => return Service::Failed(&closed.cause),
            Some(Admits::Yes) => {}
            Some(Admits::UpTo { most, .. }) if *let_in < *most => is_tried = true,
            Some(Admits::No(_) | Admits::UpTo { .. }) | None => all_admit = false,
        }
    }
    let has_room =
        is_for_room(reason) && matches!(known(key), Some(Admits::No(closed)) if closed.hold);
    if all_admit && is_tried {
        *let_in += 1;
    }
    if all_admit || has_room { Service::Admits } else { Service::AsBefore }
}
