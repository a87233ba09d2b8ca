//! Remembers: the durable store. The only crate with SQL and with the store's own files.
//!
//! It knows records, sequence numbers, leases and transactions; it knows no steps and no activity.
//! [`Store`] is the whole contract; each operation is exactly one transaction, built as
//! preconditions and writes (STO-1), and every write carries its precondition (STO-2).
//!
//! | room | what is in it |
//! |---|---|
//! | `contract` | [`Store`], its records, requests and errors |
//! | `ops` | the operations in SQL, once for all backends |
//! | `transaction` | what an operation sees of a connection |
//! | `backend` | the contract over whatever performs transactions |
//! | `sqlite` | [`SqliteStore`]: one file, one writer, any number of readers |
//! | `memory` | [`MemoryStore`]: the same without a file |
//! | `postgres` | `PostgresStore`: a database that many processes share (feature `postgres`) |
//! | `request`, `queue` | operations on their way to the thread that performs them |
//! | `check` | the checker: what must hold of rows and events |
//! | `schema` | numbered steps of the schema |
//! | `clock` | the store's clocks |
//!
//! # Deviations
//!
//! * SM-30, SM-31: the death of its process uses none of a job's attempts. A job is given up for its deaths
//!   as often as its policy says since its last recorded call or checkpoint, and for its failures when its policy says so.
//! * 4.3: a wait that ends in vain may end its job in part (Deferred or Suspended to Partial), where the definition
//!   tolerates the failure.
//!
//! Nothing here starts a thread or a task: [`WriterLoop`] and [`ReaderLoop`] are plain blocking
//! functions for whoever supervises threads.

mod backend;
mod check;
mod clock;
mod contract;
mod memory;
mod ops;
#[cfg(feature = "postgres")]
mod postgres;
mod queue;
mod request;
mod schema;
mod sqlite;
mod transaction;

#[cfg(feature = "postgres")]
pub use self::postgres::{
    Address as PostgresAddress, ConnectionLoop, ListenerLoop, ListenerStopper, PostgresOptions,
    PostgresStore,
};
pub use self::{
    check::{NOT_YET, Rule, VerifyCursor, VerifyStep, Violation, verify},
    contract::{
        Accepted, Admissions, Admits, AfterWait, Again, AllocationRecord, Appended, AttemptRecord,
        BeatRecord, CallRecord, CallStart, CheckpointRecord, Claimed, Claims, Closed, Committed,
        ConcurrencyKey, Created, Decision, Deferral, EventRecord, HoldOf, HoldRecord,
        InstanceRecord, InstanceStep, InstanceStepped, JobPart, JobRecord, JobStep, Keyed,
        LEASE_TTL, Lease, Leases, NewCheckpoint, NewEvent, NewJob, NewNumber, NewRun, NewSignal,
        NewStage, NewTimer, NewVersion, NewWait, NodeRecord, NodeRef, NodeTerms, OpenRun,
        Operation, Past, PastJob, PastNumber, PastVersion, Registered, RemovedRun, Renewal,
        Reopening, Report, Rescued, Retained, Retention, RunRecord, RunStep, RunSummary, RunView,
        SLOT_FENCE, ServerStatus, SignalKind, SignalRecord, SlotGiven, SlotHolder, SlotRecord,
        SlotTaken, StageBack, StageLimit, StageRecord, StageStep, Store, StoreError, StoreStatus,
        StreamRecord, TimerDue, Turn, TurnHolder, WaitDefault, WaitEnd, WaitEnded, WaitKind,
        WaitRecord,
    },
    memory::MemoryStore,
    queue::Stopper,
    sqlite::{ReaderLoop, SqliteOptions, SqliteStore, UnsafeSynchronous, WriterLoop},
    transaction::PAYLOAD_BYTES_MAX,
};
