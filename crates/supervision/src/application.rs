//! Applications: parts of a program that start and stop as wholes, after what they depend on.
//!
//! An application is a tree with callbacks around it: one that makes the tree, and what is to happen
//! before and after its end. A [`System`] runs any number of them.
//!
//! ```text
//! /system                     permanent parts, and no restart of any of them
//! ├─ applications             one supervisor for each application that runs
//! │  └─ shop
//! │     └─ (its top supervisor), never restarted (APP-030)
//! ├─ work                     starts, stops and callbacks, each a task with a deadline
//! └─ controller               decides; goes down first, and stops the applications in order
//! ```
//!
//! Why an actor: the controller knows what runs, starts and stops, for everybody. What it decides is
//! decided by the machine in `perennial_core::application`; nothing that takes time runs in its turn,
//! so that it answers while applications start and stop (APP-024). The root supervises it; a restart
//! would forget all, so there is none: its end is the end of the system.

mod callbacks;
mod controller;
mod env;
mod error;
mod handle;
mod job;
mod shared;
mod spec;
mod system;

pub use perennial_core::application::{ApplicationName, Phase as ApplicationPhase};

pub use self::{
    env::{Env, EnvChange},
    error::{ApplicationError, ApplicationStartError, ApplicationStartFault, SystemError},
    handle::{Applications, RunningApplication},
    spec::{Application, ApplicationSpec, CALLBACKS_WITHIN},
    system::{System, SystemSpec},
};
