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
    definition::StepKind,
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
    /// Its type, and the model it asks.
    about: String,
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
    /// The picture of its steps.
    pub fn graph(&self) -> Graph {
        let model = &self.model;
        let node = |step: &crate::definition::Step| {
            let model = match &step.kind {
                StepKind::Chat(chat) => chat.options.model.as_deref(),
                StepKind::Echo(_) | StepKind::SetVariable(_) | StepKind::Pipeline(_) => None,
            };
            let about = model.map_or_else(
                || step.type_name.clone(),
                |model| format!("{}, {model}", step.type_name),
            );
            Node { name: step.name.clone(), about, state: None }
        };
        let mut edges = Vec::new();
        for (place, step) in model.steps.iter().enumerate() {
            if let Some(before) = place.checked_sub(1) {
                let condition = step.condition.as_ref();
                let label = condition.map(|it| format!("if {}", it.shown)).into_iter().collect();
                edges.push(Edge { from: before, to: place, kind: EdgeKind::Order, label });
            }
            let mut read: BTreeMap<usize, Vec<String>> = BTreeMap::new();
            for used in uses::of(model, place) {
                if let Origin::Step(from) | Origin::Variable(from) = used.origin {
                    read.entry(from).or_default().push(used.path);
                }
            }
            edges.extend(read.into_iter().map(|(from, label)| Edge {
                from,
                to: place,
                kind: EdgeKind::Data,
                label,
            }));
        }
        let mut nodes: Vec<Node> = model.steps.iter().map(node).collect();
        // The first step has no edge that could carry its condition.
        if let (Some(node), Some(condition)) =
            (nodes.first_mut(), model.steps.first().and_then(|step| step.condition.as_ref()))
        {
            node.about = format!("{}, if {}", node.about, condition.shown);
        }
        Graph { title: model.name.clone(), nodes, edges }
    }
}

impl Graph {
    /// The same with how the steps of a run stand, by their names.
    #[must_use]
    pub fn with_states(mut self, states: &BTreeMap<String, StepState>) -> Self {
        for node in &mut self.nodes {
            let none = || StepState { state: None, text: "not reached".to_owned() };
            node.state = Some(states.get(&node.name).cloned().unwrap_or_else(none));
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
