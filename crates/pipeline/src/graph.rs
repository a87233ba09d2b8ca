//! A workflow as a picture: its steps, the order they run in, and who reads whose value.
//!
//! Drawn as DOT for Graphviz and as Mermaid. Of a run, the state of each step stands in its box; a
//! colour only repeats it.

mod dot;
mod mermaid;
mod wording;

use std::collections::BTreeMap;

use perennial_core::run::JobState;

use crate::{
    Pipeline,
    definition::{Model, Step, StepKind},
    uses::{self, Origin},
};

/// A workflow to be drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    title: String,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    name: String,
    /// The names of the steps it stands in and its own, with slashes between them.
    path: String,
    /// Its type, and the model it asks.
    about: String,
    /// The step whose pipeline it belongs to.
    frame: Option<usize>,
    state: Option<StepState>,
}

/// How a step of a run stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepState {
    /// The state of its job; `None` when it has none yet.
    pub state: Option<JobState>,
    /// What is to be read in the box, for example `leased (attempt 2)`.
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Edge {
    from: usize,
    to: usize,
    kind: EdgeKind,
    /// Lines of what stands at it.
    label: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EdgeKind {
    /// One runs after the other; the label is the condition.
    Order,
    /// One reads what the other gave; the label is what it reads.
    Data,
}

impl Pipeline {
    /// The picture of its steps; the steps of a nested pipeline stand in a frame.
    pub fn graph(&self) -> Graph {
        let mut graph =
            Graph { title: self.model.name.clone(), nodes: Vec::new(), edges: Vec::new() };
        graph.add(&self.model, None);
        graph
    }
}

impl Graph {
    /// Adds the steps of `model`, which runs inside of the step `frame`.
    fn add(&mut self, model: &Model, frame: Option<usize>) {
        let mut places: Vec<usize> = Vec::with_capacity(model.steps.len());
        for (place, step) in model.steps.iter().enumerate() {
            let at = self.nodes.len();
            let before = place.checked_sub(1).map(|before| places[before]).or(frame);
            let condition = step.condition.as_ref().map(|it| format!("if {}", it.shown));
            let mut about = about(step);
            match (before, condition) {
                (Some(from), label) => {
                    let label = label.into_iter().collect();
                    self.edges.push(Edge { from, to: at, kind: EdgeKind::Order, label });
                }
                // The first step has no edge that could carry its condition.
                (None, Some(condition)) => about = format!("{about}, {condition}"),
                (None, None) => (),
            }
            let path = match frame {
                Some(frame) => format!("{}/{}", self.nodes[frame].path, step.name),
                None => step.name.clone(),
            };
            self.nodes.push(Node { name: step.name.clone(), path, about, frame, state: None });
            places.push(at);
            let mut read: BTreeMap<usize, Vec<String>> = BTreeMap::new();
            for used in uses::of(model, place) {
                if let Origin::Step(from) | Origin::Variable(from) = used.origin {
                    read.entry(places[from]).or_default().push(used.path);
                }
            }
            self.edges.extend(read.into_iter().map(|(from, label)| Edge {
                from,
                to: at,
                kind: EdgeKind::Data,
                label,
            }));
            if let StepKind::Pipeline(nested) = &step.kind {
                self.add(&nested.child, Some(at));
            }
        }
    }

    /// The nodes whose frame is `frame`, with whether they have a frame of their own.
    fn inside(&self, frame: Option<usize>) -> impl Iterator<Item = (usize, bool)> {
        let framed = |place: usize| self.nodes.iter().any(|node| node.frame == Some(place));
        let own = self.nodes.iter().enumerate().filter(move |(_, node)| node.frame == frame);
        own.map(move |(place, _)| (place, framed(place)))
    }
}

/// The type of a step, and the model it asks.
fn about(step: &Step) -> String {
    match step.kind.chat().and_then(|chat| chat.options.model.as_deref()) {
        Some(model) => format!("{}, {model}", step.type_name),
        None => step.type_name.clone(),
    }
}

impl Graph {
    /// The same with how the steps of a run stand, by their paths: names with slashes between them.
    #[must_use]
    pub fn with_states(mut self, states: &BTreeMap<String, StepState>) -> Self {
        for node in &mut self.nodes {
            let none = || StepState { state: None, text: "not reached".to_owned() };
            node.state = Some(states.get(&node.path).cloned().unwrap_or_else(none));
        }
        self
    }

    /// In the DOT language, for `dot -Tsvg`. Ends in a line break.
    pub fn to_dot(&self) -> String {
        dot::drawn(self)
    }

    /// As a Mermaid flowchart. Ends in a line break.
    pub fn to_mermaid(&self) -> String {
        mermaid::drawn(self)
    }
}

/// What colours a box: class and fill. Whoever sees no colours reads the state.
fn paint(state: &StepState) -> (&'static str, &'static str) {
    match state.state {
        None | Some(JobState::Blocked | JobState::Skipped) => ("idle", "#eeeeee"),
        Some(JobState::Succeeded) => ("good", "#d9f2d9"),
        Some(JobState::Ready | JobState::Leased) => ("moving", "#d9e8f9"),
        Some(JobState::Partial | JobState::Cancelled) => ("troubled", "#fdebc3"),
        Some(JobState::Failed) => ("broken", "#f8c9c9"),
    }
}
