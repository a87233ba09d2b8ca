//! The end of an incarnation against those who want to hear of it.

use std::sync::Arc;

use perennial_core::ExitReason;
use shuttle::{
    future::block_on,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::check_all;
use crate::life::{Ended, Pid};

/// A watcher is told exactly once, with the first reason, whenever it begins to watch; whoever waits is woken.
#[test]
fn a_watch_against_the_announcement_is_told_once() {
    let tried = check_all(|| {
        let ended = Ended::new("/app".into(), Pid(1));
        let told = Arc::new(AtomicUsize::new(0));
        let ends = [ExitReason::Normal, ExitReason::Killed].map(|reason| {
            let ended = ended.clone();
            thread::spawn(move || ended.announce(&reason))
        });
        let (own, seen) = (ended.clone(), told.clone());
        let watches = thread::spawn(move || {
            own.on_end(move |_| {
                seen.fetch_add(1, Ordering::SeqCst);
            });
            block_on(own.wait())
        });
        let heard = watches.join().unwrap();
        for end in ends {
            end.join().unwrap();
        }
        assert_eq!(Some(heard), ended.reason(), "the first reason counts");
        assert_eq!(told.load(Ordering::SeqCst), 1);
    });
    println!("{tried} schedules");
}
