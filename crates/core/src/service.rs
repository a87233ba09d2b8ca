//! Services: external dependencies of durable runs, each instance as a machine.
//!
//! | room | decides |
//! |---|---|
//! | `service/key.rs` | which instance of which service, which life of it, and who holds it |
//! | `service/state.rs` | the states of an instance and what may follow what |
//! | `service/terms.rs` | every time and count that rules a service, checked all at once |
//! | `service/health.rs` | what a probe found, and for whom that is news |
//! | `service/offer.rs` | what an instance publishes, and whom it admits by that |
//! | `service/machine.rs` | what follows from what happens to an instance |

mod health;
mod key;
mod machine;
mod offer;
mod state;
mod terms;

pub use health::{Health, Verdict};
pub use key::{Epoch, Holder, ServiceKey};
pub use machine::{
    ASKERS_MAX, Admission, Asker, NotFailed, ServiceAction, ServiceInput, ServiceMachine,
    ServiceStatus, Spent, Steps, StopMode,
};
pub use offer::Offer;
pub use state::{ServiceEvent, ServiceEventKind, ServiceState, UnknownServiceState};
pub use terms::{ServiceTerms, TermsFault};
