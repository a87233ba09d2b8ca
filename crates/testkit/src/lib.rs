//! Fakes, faults and assertions for tests of and on Perennial.
//!
//! | room | what it is |
//! |---|---|
//! | [`fake_anthropic`] | a server that speaks the Messages API and does what it is told |
//! | [`binary`] | a real process that can be killed at a chosen moment |
//! | [`deadline`] | how long a test waits for something that happens elsewhere |
//! | [`postgres`] | private PostgreSQL servers, and a database for each test |
//! | [`seed`] | numbers that look random and can be had again |
//! | [`tree`] | whether a supervision tree is what it was |

pub mod binary;
pub mod chaos;
pub mod deadline;
pub mod fake_anthropic;
#[cfg(unix)]
pub mod postgres;
pub mod seed;
pub mod tree;

pub use binary::{BinaryError, BinaryOutput, PerennialBinary, RunningBinary};
pub use chaos::{Blow, Chaos, ChaosError};
pub use deadline::{Deadline, TooLate};
pub use fake_anthropic::{Call, FakeAnthropic, FakeReply, KeyRecord};
pub use seed::Seed;
pub use tree::{assert_tree_unchanged, tree_changes};
