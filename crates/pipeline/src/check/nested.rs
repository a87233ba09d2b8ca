//! `pipeline` steps: the child in its own scope, and what passes between it and its parent (2.16).

use perennial_core::retry::RetryPolicy;

use super::{Check, Known, Section, keys, policy, references::Standpoint};
use crate::{
    definition::{Child, Input, Model, Nested, OnTimeout, Ordered},
    deployment::Limit,
    diagnostic::{Code, Finding, Severity},
    expression::TemplateTree,
    source::{Content, Extent, Node},
    spelling,
};

const RECURSION: &str = "allow_recursion";

/// What `config` says of the step as a whole.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Policies {
    pub(super) retry: Option<RetryPolicy>,
    pub(super) continue_on_error: bool,
}

/// What passes into a child, as far as it is known at load.
pub(super) struct Given<'n> {
    pub(super) section: Option<Section<'n>>,
    pub(super) inherits: bool,
    /// Whether it may be one of the pipelines around it.
    pub(super) recursion: bool,
}

impl Check<'_> {
    /// The child of a `pipeline` step.
    pub(super) fn nested(
        &mut self,
        section: &Section<'_>,
        name: &str,
        within_ms: Option<u64>,
        from: Standpoint<'_>,
    ) -> Option<Nested> {
        let inputs = self.nested_inputs(section, from);
        let config = section.map("config");
        let flag = |key: &str| config.as_ref().and_then(|config| config.flag(key));
        let count = |key: &str| config.as_ref().and_then(|config| config.count(key));
        let inherit_context = flag("inherit_context").unwrap_or(false);
        let max_depth = match &config {
            Some(config) => {
                self.not_inherited(config);
                self.max_depth(config, from)
            }
            None => Some(None),
        };
        let own = config.as_ref().and_then(|config| config.millis("timeout_seconds"));
        let within_ms = match (own, within_ms) {
            (Some(own), Some(step)) => own.min(step),
            (own, step) => own.or(step).unwrap_or_else(|| self.nested_within_ms()),
        };
        let workspace = match &config {
            Some(config) => self.child_workspace(config, from),
            None => Some(None),
        };
        let on_timeout = config.as_ref().and_then(|config| config.text("on_timeout"));
        let fallback = config.as_ref().and_then(|config| config.node("fallback_value"));
        let depth = match &max_depth {
            Some(Some(TemplateTree::Number(number))) => Depth::Fixed(number.as_u64()),
            Some(None) => Depth::Fixed(None),
            _ => Depth::Later,
        };
        let recursion = config.as_ref().is_some_and(|config| self.recursion(section, config));
        let given = Given { section: section.map("inputs"), inherits: inherit_context, recursion };
        let whole = self.child(section, name, depth, &given, from);
        let child = whole.as_ref().and_then(Child::known);
        let outputs = self.outputs(section, child);
        let prune = config.as_ref().and_then(|config| config.map("prune_results"));
        let prune = prune.map(|section| self.prune(&section, outputs.as_deref(), child));
        let mut mocks = None;
        if let Some(config) = &config {
            mocks = self.child_mocks(config, child);
            self.no_own_exports(config);
        }
        Some(Nested {
            child: whole?,
            allow_recursion: recursion,
            inputs: inputs?,
            outputs: outputs?,
            prune: prune.unwrap_or_default(),
            mocks,
            inherit_context,
            within_ms,
            max_depth: max_depth?,
            workspace: workspace?,
            max_total_steps: count("max_total_steps"),
            memory_limit_mb: count("memory_limit_mb").unwrap_or_else(|| self.nested_memory_mb()),
            warn_at_depth: count("warn_at_depth"),
            memory_warning_mb: count("memory_warning_mb"),
            timeout_warning_ms: config
                .as_ref()
                .and_then(|config| config.millis("timeout_warning_seconds")),
            fallback: fallback.map(|node| Ordered(node.to_value())),
            capture_errors: flag("capture_errors").unwrap_or(true),
            on_timeout: match on_timeout {
                Some("immediate") => OnTimeout::Immediate,
                Some("retry") => OnTimeout::Retry,
                Some(_) | None => OnTimeout::Graceful,
            },
        })
    }

    /// Whether the child may be a pipeline around it: how deep has then to be said (PL507).
    fn recursion(&mut self, section: &Section<'_>, config: &Section<'_>) -> bool {
        if config.flag(RECURSION) != Some(true) {
            return false;
        }
        let is_later = |file: &str| file.contains("{{");
        let file = section.node("pipeline_file").and_then(Node::as_text);
        if section.get("pipeline_ref").is_none() && !file.is_some_and(is_later) {
            let text = format!(
                "`{RECURSION}` has no effect: the child is named neither by `pipeline_ref` nor by a \
                 `pipeline_file` with holes"
            );
            let at = config.get(RECURSION).map_or(config.extent, |entry| entry.key_extent);
            let note = Finding::note(Code(220), text).at(at);
            self.findings.push(note.pointer(config.pointer_of(RECURSION)));
            return false;
        }
        if config.get("max_depth").is_none() {
            let text = "`allow_recursion: true` needs a `max_depth`";
            let finding = config.fault(507, RECURSION, text);
            self.findings
                .push(finding.hint("such as `max_depth: 5`: how deep the child may stand"));
        }
        true
    }

    /// Deadline of a child that names none (1.11).
    fn nested_within_ms(&self) -> u64 {
        let usual = self.deployed.usual(Limit::NestedTimeoutSeconds);
        usual.unwrap_or(u64::MAX).saturating_mul(1_000)
    }

    /// Memory of a child that names none (1.11); that of the run binds it as well.
    fn nested_memory_mb(&self) -> u32 {
        let usual = self.deployed.usual(Limit::MemoryLimitMb);
        usual.and_then(|usual| u32::try_from(usual).ok()).unwrap_or(u32::MAX)
    }

    /// Keys of `config` that speak of the step as a whole.
    pub(super) fn nested_policies(&mut self, section: &Section<'_>) -> Policies {
        let Some(config) = section.map("config") else { return Policies::default() };
        let continue_on_error = config.flag("continue_on_error").unwrap_or(false);
        let retries = config.count("max_retries");
        if retries.is_some() && section.get("retry").is_some() {
            let text = "config.max_retries and retry exclude each other";
            self.findings.push(config.fault(207, "max_retries", text));
        }
        let only = self.retry_on(&config, None);
        if let Some(entry) = config.get("retry_on").filter(|_| retries.is_none()) {
            let text = "`retry_on` has no effect without `max_retries`";
            let note = Finding::note(Code(220), text).at(entry.key_extent);
            self.findings.push(note.pointer(config.pointer_of("retry_on")));
        }
        let retry = retries.map(|retries| RetryPolicy {
            max_attempts: retries.saturating_add(1),
            only,
            ..policy::OWN
        });
        Policies { retry, continue_on_error }
    }

    fn nested_inputs(
        &mut self,
        section: &Section<'_>,
        from: Standpoint<'_>,
    ) -> Option<Vec<(String, TemplateTree)>> {
        if section.get("inputs").is_none() {
            return Some(Vec::new());
        }
        let inputs = section.map("inputs")?;
        let trees: Vec<Option<(String, TemplateTree)>> = inputs
            .entries()
            .map(|entry| {
                let pointer = inputs.pointer_of(&entry.key);
                let tree = self.template_tree(&entry.value, &pointer, from)?;
                Some((entry.key.clone(), tree))
            })
            .collect();
        trees.into_iter().collect()
    }

    /// Values of `config` for which this version has nothing to do yet.
    fn not_inherited(&mut self, config: &Section<'_>) {
        for (key, usual) in [("inherit_providers", true), ("inherit_functions", false)] {
            if config.flag(key).is_some_and(|value| value != usual) {
                self.later(config, key, &format!("`{key}: {}`", !usual));
            }
        }
    }

    /// `Some(None)` when there is none.
    fn max_depth(
        &mut self,
        config: &Section<'_>,
        from: Standpoint<'_>,
    ) -> Option<Option<TemplateTree>> {
        let Some(node) = config.node("max_depth") else { return Some(None) };
        match &node.content {
            Content::Text { value, .. } if value.contains("{{") => {
                self.template_tree(node, &config.pointer_of("max_depth"), from).map(Some)
            }
            Content::Null
            | Content::Bool(_)
            | Content::Number(_)
            | Content::Text { .. }
            | Content::List(_)
            | Content::Map(_) => {
                self.fits(config, "max_depth", &keys::POSITIVE).then_some(())?;
                let depth = config.count("max_depth")?;
                Some(Some(TemplateTree::Number(depth.into())))
            }
        }
    }

    /// What the child needs is given, and what is given it knows.
    pub(super) fn inputs_fit(
        &mut self,
        section: &Section<'_>,
        name: &str,
        model: Option<&Model>,
        known: &Known,
        given: &Given<'_>,
    ) {
        let implied: Vec<Input> = known.implied.iter().map(Input::implied).collect();
        let inputs = model.map_or(&implied, |model| &model.inputs);
        let passed = |name: &str| given.section.as_ref().is_some_and(|it| it.get(name).is_some());
        let at = section.get("inputs").map(|entry| entry.key_extent);
        let at = at.or(section.node("name").map(|node| node.extent)).unwrap_or(section.extent);
        for input in inputs.iter().filter(|input| input.required && input.default.is_none()) {
            let input = input.name.as_str();
            let constant = input.strip_prefix("global_vars.");
            if passed(input) {
                continue;
            }
            if given.inherits {
                let bound = match constant {
                    Some(constant) => self.known.globals.contains(constant),
                    None => self.known.inputs.contains(input),
                };
                if !bound {
                    self.inherit_input(section, input, at);
                }
                continue;
            }
            let text = format!(
                "Step '{name}' missing required 'inputs.{input}' field: its child uses `{input}` \
                 and binds it nowhere"
            );
            let hint = self.input_hint(input);
            let finding = Finding::error(Code(201), text).at(at);
            self.findings.push(finding.pointer(section.pointer_of("inputs")).hint(hint));
        }
        let Some(section) = &given.section else { return };
        let declares = inputs.iter().any(|input| input.declared);
        for entry in section.entries() {
            let Some(input) = inputs.iter().find(|input| input.name == entry.key) else {
                if declares {
                    let text = format!("the child declares its inputs and not `{}`", entry.key);
                    let names = inputs.iter().map(|input| input.name.as_str());
                    self.findings.push(
                        Finding::new(Code(512), Severity::Warning, text)
                            .at(entry.key_extent)
                            .pointer(section.pointer_of(&entry.key))
                            .maybe_hint(spelling::did_you_mean(&entry.key, names)),
                    );
                }
                continue;
            };
            if let Some(fault) = literal(&entry.value).and_then(|value| input.fault(&value)) {
                let text = format!("input `{}` of the child: {fault}", entry.key);
                self.findings.push(section.fault(510, &entry.key, text));
            }
        }
    }

    fn inherit_input(&mut self, section: &Section<'_>, input: &str, at: Extent) {
        for (extent, finding) in self.imply(input, at) {
            self.findings.push(finding.at(extent).pointer(section.pointer.as_str()));
        }
    }

    /// How a parent can give `input`.
    fn input_hint(&self, input: &str) -> String {
        if input.starts_with("global_vars.") {
            return "set `inherit_context: true` in `config`".to_owned();
        }
        let value = if self.known.place_of(input).is_some() {
            format!("steps.{input}")
        } else {
            input.to_owned()
        };
        format!("write `inputs: {{{input}: \"{{{{ {value} }}}}\"}}`")
    }
}

/// The limit of depth that a step names, as far as it is known at load.
#[derive(Clone, Copy, Debug)]
pub(super) enum Depth {
    Fixed(Option<u64>),
    /// A template tells when the child is opened.
    Later,
}

/// The value of `node` when nothing of it is evaluated.
fn literal(node: &Node) -> Option<serde_json::Value> {
    let plain = match &node.content {
        Content::Null | Content::Bool(_) | Content::Number(_) => true,
        Content::Text { value, .. } => !value.contains("{{"),
        Content::List(items) => items.iter().all(|item| literal(item).is_some()),
        Content::Map(entries) => entries.iter().all(|entry| literal(&entry.value).is_some()),
    };
    plain.then(|| node.to_value())
}
