//! A moment that only two threads of one executor bring about, in its last moments.

use std::sync::OnceLock;

use perennial_core::{ExitReason, tree::NodeKind};

use super::*;
use crate::{
    life::{Control, Pid},
    presence::{Announce, NothingComes, OneLife, Publisher, channel},
};

#[derive(Clone, Debug)]
struct One(Pid);

impl OneLife for One {
    fn pid(&self) -> Pid {
        self.0
    }
}

/// Its node is abandoned when it is about to say that the life ended.
struct Overtaken {
    publisher: Publisher<One>,
    node: OnceLock<Weak<Node>>,
}

impl Announce for Overtaken {
    fn coming(&self) {
        self.publisher.coming();
    }

    fn gone(&self) {
        self.publisher.gone();
    }

    fn ended(&self, pid: Pid) {
        self.node.get().and_then(Weak::upgrade).expect("the node is there").abandon();
        self.publisher.ended(pid);
    }
}

struct Idle;

impl Control for Idle {
    fn stop(&self, _: &ExitReason) {}

    fn kill(&self) {}

    #[cfg(feature = "testing")]
    fn crash(&self) {}
}

#[tokio::test]
async fn nobody_waits_for_a_child_that_is_abandoned_while_its_end_is_published() {
    let (publisher, presence) = channel();
    publisher.up(One(Pid(1)));
    let overtaken = Arc::new(Overtaken { publisher, node: OnceLock::new() });
    let mut spec =
        ChildSpec::worker("a".into(), NodeKind::Worker, |_| Box::pin(std::future::pending()));
    spec.presence = Some(overtaken.clone());
    let node = Node::root(Arc::new(spec));
    overtaken.node.set(Arc::downgrade(&node)).expect("once");
    let process = ProcessRef::new(node.shared_path(), Pid(1));
    node.begin_start();
    node.attach(Life { process, control: Arc::new(Idle) }, Uptime::ZERO);
    node.started();
    assert_eq!(node.ended(Pid(1), &ExitReason::Killed, Uptime::ZERO), Some(1));
    let answer = futures_util::FutureExt::now_or_never(presence.current());
    assert_eq!(answer.map(|found| found.map(|_| ())), Some(Err(NothingComes)));
}
