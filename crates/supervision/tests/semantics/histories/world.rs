//! The supervisor itself, driven by the same histories through what is public of it.

use std::{collections::HashMap, time::Duration};

use perennial_core::{ExitReason, Restart};
use perennial_supervision::{
    Address, CallError, ChildInfo, ChildRef, ChildSpec, ChildStart, ChildStatus, Clock,
    DynamicSupervisor, DynamicSupervisorSpec, Options, ProcessRef, RequestError, Root, StartError,
    StopError, Supervisor, SupervisorSpec, TemplateSupervisor, TemplateSupervisorSpec, TreeNode,
};

use super::{
    answers::{fault, refused},
    history::{Child, History, How, Kind, Request, Step},
    model::{Line, Picture},
    puppet::{Message, Strings},
};

/// Longer than anything here takes; whoever waits so long hangs.
const HANGS: Duration = Duration::from_secs(3600);

const PATH: &str = "/top/under";

#[derive(Clone)]
enum Handle {
    Static(Supervisor),
    Dynamic(DynamicSupervisor),
    /// Its instances are what they are started with.
    Template(TemplateSupervisor<ChildSpec>),
}

pub(super) struct World {
    root: Root,
    clock: Clock,
    handle: Handle,
    /// The only life of the supervisor, or why it did not start.
    life: Result<ProcessRef, String>,
    strings: Strings,
    children: HashMap<String, Known>,
    answer: Option<String>,
    /// What went wrong that no picture shows.
    pub(super) wrong: Option<String>,
    seen: HashMap<String, (u64, ProcessRef)>,
}

struct Known {
    address: Address<Message>,
    /// On demand only.
    child: Option<ChildRef>,
}

fn ms(of: u64) -> Duration {
    Duration::from_millis(of)
}

fn supervisor(history: &History, strings: &Strings) -> (ChildSpec, Handle, HashMap<String, Known>) {
    let (intensity, within) = (history.max_restarts, ms(history.within));
    let mut children = HashMap::new();
    let (spec, handle) = match history.kind {
        Kind::Static(strategy, auto) => {
            let mut spec = SupervisorSpec::new("under").strategy(strategy).auto_shutdown(auto);
            for child in &history.declared {
                let (own, address) = strings.child(child);
                children.insert(child.label.clone(), Known { address, child: None });
                spec = spec.child(own);
            }
            let (spec, handle) = Supervisor::child_spec(spec.intensity(intensity, within));
            (spec, Handle::Static(handle))
        }
        Kind::Dynamic { max, budget } => {
            let spec = match max {
                Some(max) => DynamicSupervisorSpec::new("under", max),
                None => DynamicSupervisorSpec::unlimited("under"),
            };
            let spec = match budget {
                Some((max, within)) => spec.child_budget(max, ms(within)),
                None => spec,
            };
            let (spec, handle) = DynamicSupervisor::child_spec(spec.intensity(intensity, within));
            (spec, Handle::Dynamic(handle))
        }
        Kind::Template => {
            let spec = TemplateSupervisorSpec::new("under", |spec: ChildSpec| spec);
            let spec = spec.intensity(intensity, within);
            let (spec, handle) = TemplateSupervisor::child_spec(spec);
            (spec, Handle::Template(handle))
        }
    };
    // Its end is its end: the root has no part in this.
    (spec.restart(Restart::Temporary), handle, children)
}

impl World {
    pub(super) async fn start(history: &History) -> Self {
        let strings = Strings::default();
        for (label, outcomes) in &history.scripts {
            strings.script(label, outcomes);
        }
        let (spec, handle, children) = supervisor(history, &strings);
        let (clock, top) = (Clock::start(), SupervisorSpec::new("top"));
        let root = Root::start(top, clock, Options::default()).await.unwrap();
        let started = root.supervisor().start_child(spec).await;
        let life = match started {
            Ok(ChildStart { process, .. }) => Ok(process.unwrap()),
            Err(RequestError::StartFailed(StartError { reason, .. })) => Err(fault(reason)),
            Err(other) => Err(format!("{other:?}")),
        };
        let answer = life.clone().map_or_else(|fault| fault, |_| "started".to_owned());
        Self {
            root,
            clock,
            handle,
            life,
            strings,
            children,
            answer: Some(answer),
            wrong: None,
            seen: HashMap::new(),
        }
    }

    pub(super) async fn step(&mut self, step: &Step) {
        self.answer = None;
        match step {
            Step::Script(label, outcomes) => self.strings.script(label, outcomes),
            Step::End(labels, how) => self.end(labels, *how),
            Step::Ask(request) => self.ask(request).await,
            Step::KillAndAsk(labels, request) => {
                self.end(labels, How::Kill);
                self.ask(request).await;
            }
            // The rest of the time passes with the next picture.
            Step::Advance(_) => (),
        }
    }

    pub(super) fn take_log(&self) -> Vec<String> {
        self.strings.log.take()
    }

    /// What is to be seen at the time `at`, when all is settled: a paused clock moves only when
    /// nothing else can.
    pub(super) async fn picture(&mut self, at: u64) -> Picture {
        let now = self.clock.now().elapsed();
        // On a paused clock.
        tokio::time::sleep(ms(at).saturating_sub(now)).await;
        let over = match &self.life {
            Ok(life) => life.exit_reason().map(|reason| reason.to_string()),
            Err(fault) => Some(fault.clone()),
        };
        let nodes: HashMap<String, TreeNode> =
            self.root.tree().nodes().into_iter().map(|node| (node.path.clone(), node)).collect();
        let (infos, counts) = match &self.handle {
            Handle::Static(it) => {
                (it.which_children().unwrap_or_default(), it.count_children().unwrap_or_default())
            }
            Handle::Dynamic(it) => {
                (it.which_children().unwrap_or_default(), it.count_children().unwrap_or_default())
            }
            Handle::Template(it) => {
                (it.which_children().unwrap_or_default(), it.count_children().unwrap_or_default())
            }
        };
        let mut children: Vec<Line> = infos.iter().map(|info| self.line(info, &nodes)).collect();
        if !matches!(self.handle, Handle::Static(_)) {
            children.sort_by(|a, b| a.label.cmp(&b.label));
        }
        let in_window =
            nodes.get(PATH).and_then(|node| node.intensity).map_or(0, |it| it.in_window);
        let counts = [counts.specs, counts.active, counts.supervisors, counts.workers];
        let at = u64::try_from(self.clock.now().elapsed().as_millis()).unwrap();
        Picture { over, children, counts, in_window, answer: self.answer.clone(), at }
    }

    fn line(&mut self, info: &ChildInfo, nodes: &HashMap<String, TreeNode>) -> Line {
        let path = format!("{PATH}/{}", info.name());
        let known = |(_, known): &(&String, &Known)| {
            known.child.as_ref().is_some_and(|child| child.process().path() == path)
        };
        let label = match &self.handle {
            Handle::Static(_) => info.name().to_owned(),
            Handle::Dynamic(_) | Handle::Template(_) => {
                // Names may be used again; the last that had it has it.
                let all = self.children.iter().filter(known);
                let latest = all.max_by_key(|(label, _)| label[1..].parse::<u64>().unwrap());
                latest.map_or("stranger", |(label, _)| label).to_owned()
            }
        };
        let state = match info.status {
            ChildStatus::Running => "running",
            ChildStatus::Restarting => "restarting",
            ChildStatus::Stopped => "stopped",
        };
        let incarnation = nodes.get(&path).map_or(0, |node| node.incarnation);
        if info.process.is_some() != (info.status == ChildStatus::Running) {
            self.wrong = Some(format!("{label} is {state} with {:?}", info.process));
        }
        if let Some(process) = &info.process {
            self.identify(&path, incarnation, process);
        }
        Line { label, state, incarnation }
    }

    /// An incarnation keeps its identity, and no other has it.
    fn identify(&mut self, path: &str, incarnation: u64, process: &ProcessRef) {
        let now = (incarnation, process.clone());
        if let Some((then, old)) = self.seen.insert(path.to_owned(), now)
            && then == incarnation
            && old != *process
            && old.is_alive()
        {
            self.wrong = Some(format!("{path} was {old:?} and is {process:?}"));
        }
        if !process.is_alive() {
            self.wrong = Some(format!("{path} is listed and dead"));
        }
    }

    /// Whether whoever calls this child now is told at once that nobody comes.
    pub(super) async fn nobody_comes(&self, label: &str) -> Option<bool> {
        let address = &self.children.get(label)?.address;
        Some(nobody(address).await)
    }

    fn end(&self, labels: &[String], how: How) {
        for label in labels {
            let Some(known) = self.children.get(label) else { continue };
            let process = match (&known.child, &self.handle) {
                (Some(child), _) => child.now(),
                (None, Handle::Static(it)) => {
                    it.which_child(label.as_str()).ok().and_then(|it| it.process)
                }
                (None, _) => None,
            };
            let Some(process) = process else { continue };
            let message = match how {
                How::Kill => {
                    drop(self.root.tree().kill(process.path()).unwrap());
                    continue;
                }
                How::Crash => {
                    drop(self.root.tree().crash(process.path()).unwrap());
                    continue;
                }
                How::Normal => Message::Exit(ExitReason::Normal),
                How::Shutdown => Message::Exit(ExitReason::Shutdown),
                How::ShutdownWith => Message::Exit(ExitReason::ShutdownWith("done".into())),
                How::Stop => Message::Stop,
                How::Fail => Message::Fail,
                How::Panic => Message::Panic,
            };
            known.address.cast(message).unwrap();
        }
    }

    async fn ask(&mut self, request: &Request) {
        let answer = tokio::time::timeout(HANGS, self.answer_to(request)).await;
        self.answer = answer.unwrap_or_else(|_| Some("none: it hangs".to_owned()));
    }

    async fn answer_to(&mut self, request: &Request) -> Option<String> {
        let handle = self.handle.clone();
        let ended = |()| "ok".to_owned();
        let went = |start: ChildStart| {
            if start.process.is_some() { "up".to_owned() } else { "ignored".to_owned() }
        };
        let answer = match (handle, request) {
            (_, Request::Start(child)) => return Some(self.start_child(child).await),
            (Handle::Static(it), Request::Terminate(label)) => {
                it.terminate_child(label.as_str()).await.map(ended)
            }
            (Handle::Dynamic(it), Request::Terminate(label)) => {
                let child = self.children.get(label)?.child.clone()?;
                it.terminate_child(&child).await.map(ended)
            }
            (Handle::Template(it), Request::Terminate(label)) => {
                let child = self.children.get(label)?.child.clone()?;
                it.terminate_child(&child).await.map(ended)
            }
            (Handle::Static(it), Request::Restart(label)) => {
                it.restart_child(label.as_str()).await.map(went)
            }
            (Handle::Static(it), Request::Delete(label)) => {
                it.delete_child(label.as_str()).await.map(ended)
            }
            (_, Request::Restart(_) | Request::Delete(_)) => return None,
            (_, Request::Kill) => {
                let Ok(victim) = self.root.tree().kill(PATH) else {
                    return Some("no proc".to_owned());
                };
                victim.exit().await;
                return Some("ok".to_owned());
            }
            (handle, Request::Stop) => {
                let stopped = match handle {
                    Handle::Static(it) => it.stop(HANGS).await,
                    Handle::Dynamic(it) => it.stop(HANGS).await,
                    Handle::Template(it) => it.stop(HANGS).await,
                };
                return Some(match stopped {
                    Ok(()) => "ok".to_owned(),
                    Err(StopError::NoProc) => "no proc".to_owned(),
                    Err(other) => format!("{other:?}"),
                });
            }
        };
        Some(answer.unwrap_or_else(refused))
    }

    async fn start_child(&mut self, child: &Child) -> String {
        let (spec, address) = self.strings.child(child);
        let started = match self.handle.clone() {
            Handle::Static(it) => match it.start_child(spec).await {
                Ok(ChildStart { process, .. }) => Ok((None, process.is_some())),
                Err(error) => Err(error),
            },
            Handle::Dynamic(it) => it.start_child(spec).await.map(|child| (Some(child), true)),
            Handle::Template(it) => it.start_child(spec).await.map(|child| {
                let up = child.is_some();
                (child, up)
            }),
        };
        match started {
            Ok((reference, up)) => {
                let known = Known { address, child: reference };
                self.children.insert(child.label.clone(), known);
                if up { "up".to_owned() } else { "ignored".to_owned() }
            }
            Err(error) => {
                if !nobody(&address).await {
                    self.wrong = Some(format!("callers of {} wait for ever", child.label));
                }
                refused(error)
            }
        }
    }

    /// Ends what is left; answers what should not be left then.
    pub(super) async fn finish(self) -> Option<String> {
        let report = self.root.shutdown().await;
        drop(self);
        // The paused clock: everything else has had its turn.
        tokio::time::sleep(ms(1)).await;
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let clean = report.reason == ExitReason::Shutdown && report.unkillable.is_empty();
        (tasks > 0 || !clean).then(|| format!("{tasks} tasks are left, {report:?}"))
    }
}

async fn nobody(address: &Address<Message>) -> bool {
    let mut call = std::pin::pin!(address.call(Message::Ping, HANGS));
    std::future::poll_fn(|cx| {
        let now = call.as_mut().poll(cx);
        std::task::Poll::Ready(matches!(now, std::task::Poll::Ready(Err(CallError::NoProc))))
    })
    .await
}
