//! What belongs to an application and is not in its tree: children elsewhere that are linked to a
//! process of it, and what is linked to those (APP-019).

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock, PoisonError, Weak},
};

use crate::{
    ProcessRef,
    context::Context,
    life::{Life, Pid},
    node::Node,
    stopping,
    sync::{Mutex, MutexGuard},
};

/// Those of all applications of one tree. Empty in a tree without applications.
#[derive(Default)]
pub(crate) struct Members {
    /// Where the applications are, with a `/` at the end.
    applications: OnceLock<Arc<str>>,
    list: Mutex<BTreeMap<Pid, Member>>,
}

#[derive(Clone)]
struct Member {
    application: Arc<str>,
    life: Life,
    node: Weak<Node>,
}

impl Members {
    /// From here on what runs below `path` belongs to applications.
    pub(crate) fn applications_at(&self, path: &str) {
        self.applications.get_or_init(|| format!("{path}/").into());
    }

    /// The application in whose tree `process` is.
    pub(crate) fn application_of<'a>(&self, process: &'a ProcessRef) -> Option<&'a str> {
        let below = process.path().strip_prefix(&**self.applications.get()?)?;
        below.split('/').next()
    }

    /// `life`, at `node`, is linked to `owner` from its birth on.
    pub(crate) fn join(
        &self,
        context: &Context,
        owner: &ProcessRef,
        life: &Life,
        node: &Arc<Node>,
    ) {
        if self.applications.get().is_none() {
            return;
        }
        let mut list = self.list();
        // A member is where it was asked to be, and belongs to who asked.
        let of_member = list.get(&owner.pid()).map(|member| member.application.clone());
        let application = of_member.or_else(|| self.application_of(owner).map(Arc::from));
        let Some(application) = application else { return };
        if self.application_of(&life.process) == Some(&*application) {
            return;
        }
        if !owner.is_alive() {
            // Its application may have ended, and nobody looks any more.
            drop(list);
            life.control.kill();
            return;
        }
        let (life, node) = (life.clone(), Arc::downgrade(node));
        list.insert(life.pid(), Member { application, life: life.clone(), node });
        drop(list);
        let (context, pid) = (context.downgrade(), life.pid());
        life.ended().on_end(move |_| {
            if let Some(context) = context.upgrade() {
                let gone = context.members.list().remove(&pid);
                drop(gone);
            }
        });
    }

    /// Kills all that belong to `application` and awaits their ends. Its tree is gone, so nothing joins.
    pub(crate) async fn kill(&self, context: &Context, application: &str) {
        loop {
            let next = {
                let list = self.list();
                list.values().find(|member| &*member.application == application).cloned()
            };
            let Some(Member { life, node, .. }) = next else { return };
            match node.upgrade() {
                Some(node) => drop(stopping::kill(context, &node, &life).await),
                // Its supervisor has forgotten it: it has ended.
                None => drop(life.ended().wait().await),
            }
            // One that cannot be killed is reported, and waited for no longer.
            let gone = self.list().remove(&life.pid());
            drop(gone);
        }
    }

    fn list(&self) -> MutexGuard<'_, BTreeMap<Pid, Member>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Members").field(&self.list().len()).finish()
    }
}
