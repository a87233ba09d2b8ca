//! How much may wait for an actor, and what becomes of one message more.

use perennial_core::Overflow;

/// Messages that may wait in one mailbox, unless its child is given another one.
///
/// ```
/// use perennial_supervision::{MAILBOX_MAX, Mailbox};
///
/// assert_eq!(MAILBOX_MAX, 10_000);
/// assert_eq!(Mailbox::default(), Mailbox::new(10_000));
/// ```
pub const MAILBOX_MAX: u64 = 10_000;

/// The bound of a mailbox: given to a child with [`ChildSpec::mailbox`](crate::ChildSpec::mailbox).
///
/// | [`Overflow`] | `cast` | `send` | `call` |
/// |---|---|---|---|
/// | `Reject` | `Full` | `Full` at once | `Full` at once |
/// | `Wait` | `Full` | waits for room | waits for room, within its deadline |
/// | `DropOldest` | taken; what waits longest is dropped | the same | the same |
/// | `DropNewest` | dropped, and nobody is told | the same | `Full` at once |
///
/// Whoever had called with a message that `DropOldest` drops waits for its deadline: drop what nobody
/// waits for, as measures and notices are. What is refused and what is dropped is counted, and the tree
/// dump shows it. Only messages are bounded by it: a stop, the ends of watched processes and the requests
/// of a debugger are never refused or dropped for want of room, and keep their place in the order.
///
/// ```
/// use perennial_supervision::{Mailbox, Overflow};
///
/// let last_readings = Mailbox::new(64).overflow(Overflow::DropOldest);
/// assert_eq!(Mailbox::default(), Mailbox::new(10_000).overflow(Overflow::Reject));
/// # drop(last_readings);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Mailbox {
    pub(crate) capacity: u32,
    pub(crate) overflow: Overflow,
}

impl Mailbox {
    /// One in which so many messages may wait; further ones are refused. Without any room it is refused
    /// itself, where its child is given to a supervisor.
    ///
    /// ```
    /// use perennial_supervision::{Agent, ChildSpec, Mailbox, SpecError};
    ///
    /// let (table, _) = Agent::child_spec("table", || 0);
    /// let refused = ChildSpec::check_all(&[table.mailbox(Mailbox::new(0))], None);
    /// assert_eq!(refused, Err(SpecError::ZeroMailbox("table".into())));
    /// ```
    pub const fn new(capacity: u32) -> Self {
        Self { capacity, overflow: Overflow::Reject }
    }

    /// Sets what becomes of one message more.
    ///
    /// ```
    /// use perennial_supervision::{Mailbox, Overflow};
    ///
    /// const READINGS: Mailbox = Mailbox::new(64).overflow(Overflow::DropOldest);
    /// assert_ne!(READINGS, Mailbox::new(64)); // which rejects
    /// ```
    pub const fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }
}

impl Default for Mailbox {
    /// [`MAILBOX_MAX`] messages, and [`Overflow::Reject`].
    fn default() -> Self {
        Self::new(10_000)
    }
}
