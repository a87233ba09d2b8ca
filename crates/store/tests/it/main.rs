//! What every store must do, and what the store in a file must do besides.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cache;
mod calls;
mod clock;
mod damage;
mod decisions;
mod differential;
mod fixture;
mod imports;
mod jobs;
mod leases;
mod nodes;
mod numbers;
#[cfg(feature = "postgres")]
mod postgres;
mod priorities;
mod reading;
mod records;
mod reopening;
mod retention;
mod runs;
mod saved;
mod services;
mod slots;
mod sources;
mod sqlite_file;
mod sqlite_writer;
mod stages;
mod states;
mod stores;
mod streams;
mod timers;
mod transactions;
mod turns;
mod undone;
mod verify;
mod waits;
