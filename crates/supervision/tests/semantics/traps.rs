//! Where ractor is not OTP: the 29 traps of the specification, one test each.
//!
//! The first half of a test shows on plain ractor that the trap is there, so that a release which
//! removes it is noticed; the second half shows on the same behaviour under our supervisors what
//! holds instead.

mod calls;
mod plain;
mod reasons;
mod starts;
mod stops;
mod supervisors;
