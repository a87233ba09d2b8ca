//! The operations of the contract, written once for every SQL backend: functions of a transaction
//! and their arguments. None of them can commit.
//!
//! | room | writes |
//! |---|---|
//! | [`node`] | incarnations of nodes |
//! | [`creation`] | runs with their first rows, ownership, new jobs |
//! | [`import`] | runs that began elsewhere |
//! | [`lease`] | claims, releases, rescues |
//! | [`call`] | the journal of calls |
//! | [`decision`] | commits of decisions |
//! | [`step`] | jobs that change without an attempt of theirs ending |
//! | [`ending`] | ends of attempts |
//! | [`wait`] | what jobs wait for, and how that ends |
//! | [`saved`] | what attempts save, and how far they say they are |
//! | [`sequence`] | numbers that are given out once, and their versions |
//! | [`slot`] | numbers of pools, which are given back |
//! | [`service`] | instances of services, and who holds them |
//! | [`uses`] | what jobs use of services |
//! | [`turn`] | jobs of which only so many are under way at a time |
//! | [`signal`] | what runs are sent |
//! | [`journal`] | events with their sequence and hash chain |
//! | [`reopening`] | a further round of a run |
//! | [`retention`] | removals of runs and blobs |
//! | [`stream`] | streams that are no runs |
//! | [`timer`] | timers |
//! | [`blob`] | blobs |
//! | [`cache`] | results kept for later runs |
//! | [`verify`] | nothing: it reads what the checker compares |
//! | [`view`] | nothing: it reads |

pub(crate) mod blob;
pub(crate) mod cache;
pub(crate) mod call;
pub(crate) mod creation;
pub(crate) mod decision;
pub(crate) mod ending;
pub(crate) mod import;
pub(crate) mod journal;
pub(crate) mod lease;
pub(crate) mod node;
pub(crate) mod reopening;
pub(crate) mod retention;
pub(crate) mod saved;
pub(crate) mod sequence;
pub(crate) mod service;
pub(crate) mod signal;
pub(crate) mod slot;
pub(crate) mod step;
pub(crate) mod stream;
pub(crate) mod timer;
pub(crate) mod turn;
pub(crate) mod uses;
pub(crate) mod verify;
pub(crate) mod view;
pub(crate) mod wait;
