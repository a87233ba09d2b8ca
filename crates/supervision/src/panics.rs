//! Panics become exit reasons, with the place where they happened.

use std::{
    any::Any,
    cell::RefCell,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Once},
    task::{Context, Poll},
};

use futures_util::FutureExt;
use perennial_core::ExitReason;

thread_local! {
    static LOCATION: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// Chains a hook in, once per process, that notes where a panic happened; the earlier hook still
/// runs. The only thing about a tree that is global: Rust offers no other place.
pub(crate) fn note_locations() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let place = info.location().map(|place| place.to_string().into());
            // A panic while the thread's storage is being torn down has no location: fine.
            let _ = LOCATION.try_with(|noted| *noted.borrow_mut() = place);
            earlier(info);
        }));
    });
}

/// Runs `future`; a panic in it is an exit reason. A panic while the future is being *made* is not
/// inside it: callers hand over an `async` block that makes it.
pub(crate) fn guard<T>(
    future: impl Future<Output = T>,
) -> impl Future<Output = Result<T, ExitReason>> {
    AssertUnwindSafe(future).catch_unwind().map(|it| it.map_err(reason))
}

/// Calls `work`; a panic in it is an exit reason.
pub(crate) fn guard_blocking<T>(work: impl FnOnce() -> T) -> Result<T, ExitReason> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(reason)
}

/// A future that lets no panic out: neither of a poll, nor of its drop before it was done.
///
/// What a select drops because something else came first is the user's code as well, and whoever
/// drives it must live to announce the end.
///
/// ```
/// use perennial_supervision::{Contained, contain};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let work = async { 1 + 1 };
/// let contained: Contained<_> = contain(work);
/// assert_eq!(contained.await, Ok(2));
/// # }
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct Contained<F: ?Sized>(Option<Pin<Box<F>>>);

/// Contains `future`, which is somebody else's code: its panic is an exit reason, with message and place, and
/// not the caller's. What panics while the future is being *made* is not inside it: hand over an `async`
/// block that makes it. The place is there when a tree of this process notes places of panics, as
/// [`Options`](crate::Options) says.
///
/// # Cancel safety
///
/// As safe as `future`; a panic in its drop is only traced.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use perennial_supervision::{ExitReason, contain};
///
/// let ended = contain(async { if true { panic!("a bug") } }).await;
/// assert!(matches!(ended, Err(ExitReason::Panic { message, .. }) if &*message == "a bug"));
/// # }
/// ```
pub fn contain<F: Future>(future: F) -> Contained<F> {
    Contained::new(Box::pin(future))
}

impl<F: ?Sized> Contained<F> {
    /// As [`contain`], for a future that has its box.
    pub(crate) fn new(future: Pin<Box<F>>) -> Self {
        Self(Some(future))
    }

    /// Drops what is left of the future; a panic in that is an exit reason.
    pub(crate) fn discard(&mut self) -> Result<(), ExitReason> {
        let future = self.0.take();
        guard_blocking(move || drop(future))
    }
}

impl<F: Future + ?Sized> Future for Contained<F> {
    type Output = Result<F::Output, ExitReason>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = self.0.as_mut() else { return Poll::Pending };
        let polled = guard_blocking(|| future.as_mut().poll(cx));
        let output = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(reason) => Err(reason),
        };
        let discarded = self.discard();
        Poll::Ready(output.and_then(|output| discarded.map(|()| output)))
    }
}

impl<F: ?Sized> std::fmt::Debug for Contained<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contained").field("is_done", &self.0.is_none()).finish()
    }
}

impl<F: ?Sized> Drop for Contained<F> {
    fn drop(&mut self) {
        if let Err(reason) = self.discard() {
            note(|| tracing::warn!(%reason, "a future that was given up panicked in its drop"));
        }
    }
}

/// Calls `tell`, which is somebody else's; a panic in it is only noted.
pub(crate) fn call_quietly(what: &'static str, tell: impl FnOnce()) {
    if let Err(reason) = guard_blocking(tell) {
        note(|| tracing::error!(%reason, what, "a callback panicked"));
    }
}

/// Drops messages one by one: of those behind one that panics in its drop, another may do so as well.
pub(crate) fn drop_each<M>(messages: Vec<M>) {
    for message in messages {
        call_quietly("the drop of a message", move || drop(message));
    }
}

/// Traces; the host's subscriber is somebody else's as well, and there is nobody left to tell.
fn note(trace: impl FnOnce()) {
    let _ = guard_blocking(trace);
}

/// Must be called on the thread that panicked, before anything else can panic there.
fn reason(payload: Box<dyn Any + Send>) -> ExitReason {
    let message = if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).into()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.as_str().into()
    } else {
        "a panic without a text".into()
    };
    let location = LOCATION.try_with(|noted| noted.borrow_mut().take()).ok().flatten();
    // `panic_any` takes whatever the host has, whose drop may panic too: what that leaves is leaked.
    let dropped = std::panic::catch_unwind(AssertUnwindSafe(move || drop(payload)));
    dropped.unwrap_or_else(std::mem::forget);
    ExitReason::Panic { message, location }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_reason_with_its_place() {
        note_locations();
        let reason = guard(async { panic!("boom {}", 1) }).await.unwrap_err();
        let ExitReason::Panic { message, location: Some(location) } = reason else {
            panic!("{reason:?}")
        };
        assert_eq!(&*message, "boom 1");
        assert!(location.contains("panics.rs"), "{location}");
    }
}
