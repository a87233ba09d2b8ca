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
    definition::Step,
    uses::{self, At, Origin},
};

/// A workflow to be drawn.
///
/// ```
/// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
/// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
/// let graph = pipeline.graph();
/// assert!(graph.to_dot().starts_with("digraph"));
/// assert!(graph.to_mermaid().starts_with("flowchart"));
/// ```
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
///
/// ```
/// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
/// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
/// use std::collections::BTreeMap;
/// use perennial_pipeline::StepState;
/// # use perennial_core::run::JobState;
///
/// let state = StepState { state: Some(JobState::Leased), text: "leased (attempt 2)".to_owned() };
/// let drawing = pipeline.graph().with_states(&BTreeMap::from([("a".to_owned(), state)])).to_mermaid();
/// assert!(drawing.contains("leased"), "{drawing}");
/// ```
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
    /// One begins the handler of the other.
    Failure,
}

/// A list of steps that is drawn, and the nodes of those that were.
struct Scope<'m> {
    steps: &'m [Step],
    nodes: Vec<usize>,
}

/// How a list of steps belongs to the step that it is drawn in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Belonging {
    /// As its child.
    Child,
    /// As its handler.
    Handler,
}

impl Pipeline {
    /// The picture of its steps; the steps of a nested pipeline, and those of a handler, stand in a frame.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// println!("{}", pipeline.graph().to_mermaid());
    /// ```
    pub fn graph(&self) -> Graph {
        let mut graph =
            Graph { title: self.model.name.clone(), nodes: Vec::new(), edges: Vec::new() };
        graph.add(&mut Vec::new(), &self.model.steps, None);
        graph
    }
}

impl Graph {
    /// Adds `steps`, which belong to the step `of` and see what is in `around` beside themselves.
    fn add<'m>(
        &mut self,
        around: &mut Vec<Scope<'m>>,
        steps: &'m [Step],
        of: Option<(usize, Belonging)>,
    ) {
        around.push(Scope { steps, nodes: Vec::with_capacity(steps.len()) });
        let before_first = self.nodes.len();
        for (place, step) in steps.iter().enumerate() {
            let at = self.nodes.len();
            let is_first = at == before_first;
            let last = around.last().and_then(|scope| scope.nodes.last()).copied();
            let before = last.or(of.map(|(of, _)| of));
            let fails = is_first && of.is_some_and(|(_, how)| how == Belonging::Handler);
            let kind = if fails { EdgeKind::Failure } else { EdgeKind::Order };
            let condition = step.condition.as_ref().map(|it| format!("if {}", it.shown));
            let mut about = about(step);
            match (before, condition) {
                (Some(from), condition) => {
                    let label = fails.then(|| "on error".to_owned()).into_iter().chain(condition);
                    self.edges.push(Edge { from, to: at, kind, label: label.collect() });
                }
                // The first step has no edge that could carry its condition.
                (None, Some(condition)) => about = format!("{about}, {condition}"),
                (None, None) => (),
            }
            let path = match of {
                Some((of, Belonging::Child)) => format!("{}/{}", self.nodes[of].path, step.name),
                Some((of, Belonging::Handler)) => {
                    format!("{}[error]/{}", self.nodes[of].path, step.name)
                }
                None => step.name.clone(),
            };
            let frame = of.map(|(of, _)| of);
            self.nodes.push(Node { name: step.name.clone(), path, about, frame, state: None });
            self.add_reads(around, place, at);
            if let Some(scope) = around.last_mut() {
                scope.nodes.push(at);
            }
            if let Some(child) = step.child() {
                self.add(&mut Vec::new(), &child.steps, Some((at, Belonging::Child)));
            }
            if let Some(handler) = &step.handler {
                self.add(around, &handler.steps, Some((at, Belonging::Handler)));
            }
        }
        around.pop();
    }

    /// Adds what the step at `place` of the innermost scope reads, whose node is `to`.
    fn add_reads(&mut self, scopes: &[Scope<'_>], place: usize, to: usize) {
        // Of a scope around, the step that has the next one is the last that was drawn.
        let place_in = |number: usize, scope: &Scope<'_>| {
            let is_around = number + 1 < scopes.len();
            if is_around { scope.nodes.len().saturating_sub(1) } else { place }
        };
        let chain: Vec<At<'_>> = scopes
            .iter()
            .enumerate()
            .map(|(number, scope)| At { steps: scope.steps, place: place_in(number, scope) })
            .collect();
        let mut read: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for used in uses::of(&chain) {
            if let Origin::Step(from) | Origin::Variable(from) = used.origin {
                read.entry(scopes[from.scope].nodes[from.place]).or_default().push(used.path);
            }
        }
        let edge = |(from, label)| Edge { from, to, kind: EdgeKind::Data, label };
        self.edges.extend(read.into_iter().map(edge));
    }

    /// The nodes whose frame is `frame`, with whether they have a frame of their own.
    fn inside(&self, frame: Option<usize>) -> impl Iterator<Item = (usize, bool)> {
        let framed = |place: usize| self.nodes.iter().any(|node| node.frame == Some(place));
        let own = self.nodes.iter().enumerate().filter(move |(_, node)| node.frame == frame);
        own.map(move |(place, _)| (place, framed(place)))
    }
}

/// The type of a step, and the model it asks; what its child is, when that is not drawn.
fn about(step: &Step) -> String {
    if let Some(unknown) = step.nested().and_then(|nested| nested.child.unknown()) {
        return format!("{}, {unknown}", step.type_name);
    }
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
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert!(pipeline.graph().to_dot().ends_with("}\n"));
    /// ```
    pub fn to_dot(&self) -> String {
        dot::drawn(self)
    }

    /// As a Mermaid flowchart. Ends in a line break.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert!(pipeline.graph().to_mermaid().ends_with('\n'));
    /// ```
    pub fn to_mermaid(&self) -> String {
        mermaid::drawn(self)
    }
}

/// What colours a box: class and fill. Whoever sees no colours reads the state.
fn paint(state: &StepState) -> (&'static str, &'static str) {
    match state.state {
        None | Some(JobState::Blocked | JobState::Skipped) => ("idle", "#eeeeee"),
        Some(JobState::Succeeded) => ("good", "#d9f2d9"),
        Some(
            JobState::Ready
            | JobState::Leased
            | JobState::Deferred
            | JobState::Suspended
            | JobState::Joining,
        ) => ("moving", "#d9e8f9"),
        Some(JobState::Partial | JobState::Cancelled) => ("troubled", "#fdebc3"),
        Some(JobState::Failed) => ("broken", "#f8c9c9"),
    }
}
