use std::{sync::Arc, time::Duration};

use perennial_core::ExitReason;

use crate::{
    ChildSpec, Clock, Names, Options, StartError, Supervisor, SupervisorSpec, Tree, child::StartCx,
    context::Context, life::Life, node::Node, panics,
};

/// The top of a running tree. Dropping it asks the tree to stop and does not wait.
#[derive(Debug)]
pub struct Root {
    supervisor: Supervisor,
    tree: Tree,
    life: Life,
}

/// How a shutdown went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Why the root ended.
    pub reason: ExitReason,
    /// Whether it had given up: a restart exceeded its intensity, and nobody had asked for its end.
    /// Both ends have the reason [`Shutdown`](ExitReason::Shutdown), as in OTP (SUP-129).
    pub gave_up: bool,
    /// How long it took.
    pub took: Duration,
    /// Paths of children that did not end when they were killed; they may still run.
    pub unkillable: Vec<String>,
}

impl Root {
    /// Starts the tree `spec` under `clock`: in order, all or nothing.
    ///
    /// # Errors
    ///
    /// The first child that does not start; everything started before it has been stopped. Also
    /// when this program aborts on panics: nothing could be supervised.
    pub async fn start(
        spec: SupervisorSpec,
        clock: Clock,
        options: Options,
    ) -> Result<Self, StartError> {
        if cfg!(panic = "abort") {
            let why = "the program is built with panic = \"abort\", so a panic ends everything";
            return Err(StartError::new(&spec.id, ExitReason::Error(why.into())));
        }
        if options.note_panic_locations {
            panics::note_locations();
        }
        let (child, supervisor) = Supervisor::child_spec(spec);
        ChildSpec::check_all(std::slice::from_ref(&child), None)
            .map_err(|refused| StartError::new(child.id(), refused))?;
        let context = Context::new(clock, options);
        let node = Node::root(Arc::new(child.without_start()));
        let cx = StartCx::new(&context, &node, true, None);
        let id = child.id().clone();
        let begun = child.start(cx, None).await?;
        let life = begun.life.ok_or_else(|| StartError::new(&id, ExitReason::NoProc))?;
        Ok(Self { supervisor, tree: Tree::new(node, context), life })
    }

    /// The root supervisor.
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// The names of the tree.
    pub fn names(&self) -> &Names {
        self.tree.names()
    }

    /// The picture of the tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Whether the root gave up: one of its children exceeded its restart intensity. A program that
    /// lives by this tree has failed then.
    pub fn gave_up(&self) -> bool {
        self.tree.gave_up()
    }

    /// Waits until the root has ended: by a shutdown, or because it [gave up](Self::gave_up).
    pub async fn ended(&self) -> ExitReason {
        self.life.ended().wait().await
    }

    /// Stops the tree in reverse start order and awaits it: each child within its own limits.
    pub async fn shutdown(&self) -> ShutdownReport {
        let clock = self.tree.clock();
        let begun = clock.now();
        self.life.control.stop(&ExitReason::Shutdown);
        let reason = self.life.ended().wait().await;
        let unkillable = self.tree.unkillable();
        let gave_up = self.gave_up();
        ShutdownReport { reason, gave_up, took: clock.now().since(begun), unkillable }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        self.life.control.stop(&ExitReason::Shutdown);
    }
}
