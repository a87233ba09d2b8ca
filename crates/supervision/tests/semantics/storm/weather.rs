//! What a storm rages in: a random tree.

use std::time::Duration;

use perennial_core::{Restart, Shutdown, Strategy};
use perennial_supervision::{
    ChildSpec, DynamicSupervisor, DynamicSupervisorSpec, Supervisor, SupervisorSpec,
    TaskSupervisor, TaskSupervisorSpec,
};

use crate::{
    dice::Dice,
    probe::{Log, Probe, SOON},
};

/// For what waits on purpose.
pub(super) const BRIEF: Duration = Duration::from_millis(2);

/// What the storm rages in.
pub(super) struct Weather {
    pub(super) log: Log,
    pub(super) dice: Dice,
    /// Every supervisor but the root, with what it declares, outer ones first.
    pub(super) supervisors: Vec<(Supervisor, Vec<ChildSpec>)>,
    pub(super) dynamic: Vec<DynamicSupervisor>,
    pub(super) tasks: Vec<TaskSupervisor>,
    pub(super) probes: Vec<Probe>,
    names: usize,
}

struct Mark(Log, String);

impl Drop for Mark {
    fn drop(&mut self) {
        self.0.add(format!("{} dropped", self.1));
    }
}

pub(super) async fn idle(log: Log, name: String) -> Result<(), String> {
    log.add(format!("{name} started"));
    let _mark = Mark(log, name);
    std::future::pending().await
}

impl Weather {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            log: Log::default(),
            dice: Dice(seed),
            supervisors: Vec::new(),
            dynamic: Vec::new(),
            tasks: Vec::new(),
            probes: Vec::new(),
            names: 0,
        }
    }

    fn name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}{}", self.names)
    }

    pub(super) fn supervisor(
        &mut self,
        id: &str,
        depth: usize,
    ) -> (SupervisorSpec, Vec<ChildSpec>) {
        let strategies = [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne];
        let mut spec = SupervisorSpec::new(id).strategy(*self.dice.pick(&strategies));
        // Some are quick to give up, the others never do.
        if depth == 0 || self.dice.roll(2) == 0 {
            spec = spec.intensity(u32::MAX, SOON);
        }
        let children: Vec<ChildSpec> =
            (0..3 + self.dice.roll(2)).map(|place| self.child(depth, place)).collect();
        for child in &children {
            spec = spec.child(child.clone());
        }
        (spec, children)
    }

    fn child(&mut self, depth: usize, place: usize) -> ChildSpec {
        match self.dice.roll(8) {
            0..=2 if depth < 2 => self.nested(depth),
            _ if depth == 0 && place == 0 => self.nested(depth),
            3 => {
                let spec = DynamicSupervisorSpec::new(self.name("dynamic").as_str(), 8);
                let budgeted = self.dice.roll(2) == 0;
                let spec = if budgeted { spec.child_budget(2, SOON) } else { spec };
                let (child, handle) = DynamicSupervisor::child_spec(spec);
                self.dynamic.push(handle);
                child
            }
            4 => {
                let spec = TaskSupervisorSpec::new(self.name("tasks").as_str(), 8);
                let (child, handle) = TaskSupervisor::child_spec(spec);
                self.tasks.push(handle);
                child
            }
            5 => {
                let (log, name) = (self.log.clone(), self.name("task"));
                let own = name.clone();
                ChildSpec::task(name, move || idle(log.clone(), own.clone()))
                    .restart(perennial_core::Restart::Permanent)
            }
            _ => {
                let (child, probe) = Probe::new(&self.name("actor"), &self.log);
                self.probes.push(probe);
                let restart =
                    if self.dice.roll(4) == 0 { Restart::Transient } else { Restart::Permanent };
                self.sometimes(child.restart(restart).start_within(BRIEF))
            }
        }
    }

    /// Some wait before they restart, some are stopped roughly.
    fn sometimes(&mut self, child: ChildSpec) -> ChildSpec {
        match self.dice.roll(8) {
            0 => child.restart_delay(Duration::ZERO),
            1 => child.restart_delay(BRIEF),
            2 => child.shutdown(Shutdown::BrutalKill),
            3 => child.shutdown(Shutdown::Timeout(Duration::ZERO)),
            _ => child,
        }
    }

    fn nested(&mut self, depth: usize) -> ChildSpec {
        let id = self.name("supervisor");
        let (spec, children) = self.supervisor(&id, depth + 1);
        let (child, handle) = Supervisor::child_spec(spec);
        self.supervisors.push((handle, children));
        self.sometimes(child)
    }
}
