//! Registries below a root, and processes that use them.

use std::hash::Hash;

use perennial_supervision::{
    Agent, CallError, ChildSpec, ProcessRef, Registry, RegistrySpec, Root, SupervisorSpec,
    current_process,
};

use crate::probe::{SOON, root};

/// A process that does what a test says.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    agent: Agent<()>,
    name: &'static str,
}

impl Actor {
    pub(crate) fn new(name: &'static str) -> (ChildSpec, Self) {
        let (spec, agent) = Agent::child_spec(name, || ());
        (spec, Self { agent, name })
    }

    /// Runs `work` in it.
    pub(crate) async fn does<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> R {
        self.tries(work).await.unwrap()
    }

    /// As [`does`](Self::does), where `work` may fail.
    pub(crate) async fn tries<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, CallError> {
        self.agent.get(|()| work(), SOON).await
    }

    pub(crate) async fn process(&self) -> ProcessRef {
        self.does(|| current_process().unwrap()).await
    }

    /// Its present life fails; returns when the next one works.
    pub(crate) async fn crashes(&self) {
        let before = self.process().await;
        self.tries(|| panic!("asked to")).await.unwrap_err();
        assert_ne!(self.process().await, before, "{}", self.name);
    }

    pub(crate) async fn registers<K, V, M>(
        &self,
        registry: &Registry<K, V, M>,
        key: impl Into<K>,
        value: V,
    ) -> Result<(), perennial_supervision::RegistryError>
    where
        K: Eq + Hash + Clone + Send + Sync + 'static,
        V: Send + Sync + 'static,
        M: 'static,
    {
        let (registry, key) = (registry.clone(), key.into());
        self.does(move || registry.register(key, value)).await
    }
}

/// One registry and three processes.
pub(crate) struct World<M> {
    pub(crate) root: Root,
    pub(crate) registry: Registry<String, u32, M>,
    pub(crate) actors: [Actor; 3],
}

impl<M: 'static> World<M> {
    pub(crate) async fn start(spec: RegistrySpec<String, u32, M>) -> Self {
        let (registry, handle) = Registry::child_spec(spec).unwrap();
        let mut top = SupervisorSpec::new("top").intensity(1_000, SOON).child(registry);
        let actors = ["a", "b", "c"].map(Actor::new);
        for (spec, _) in &actors {
            top = top.child(spec.clone());
        }
        let actors = actors.map(|(_, actor)| actor);
        Self { root: root(top).await, registry: handle, actors }
    }

    /// What is at `key`, as pairs of a process and a value, sorted.
    pub(crate) fn at(&self, key: &str) -> Vec<(String, u32)> {
        let found = self.registry.lookup(key).unwrap().into_iter();
        let mut found: Vec<_> =
            found.map(|it| (it.process.path()[5..].to_owned(), *it.value)).collect();
        found.sort();
        found
    }
}

/// As [`World::at`] gives it.
pub(crate) fn pairs<const N: usize>(of: [(&str, u32); N]) -> Vec<(String, u32)> {
    of.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
