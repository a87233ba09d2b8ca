//! What a host sees, through the facade only: one module per promise.

#![expect(clippy::unwrap_used, reason = "fixtures of a test")]

mod agreeing;
mod analyzing;
mod attempts;
mod authority;
mod bounds;
mod caching;
mod chaos;
mod compensation;
mod draining;
mod driven;
mod embedding;
mod gate;
mod handlers;
mod holding;
mod importing;
mod job_settings;
mod language;
mod left;
mod limits;
mod loading;
mod logging;
mod monitoring;
mod numbers;
mod one_job;
mod places;
mod poison;
mod priorities;
mod recovery;
mod registered;
mod service_settings;
mod sessions;
mod settings;
mod staged;
mod study;
mod trial;
mod trials;
mod turns;
mod using;
mod waits;
mod watching;
mod workflows;
mod working;
