//! Steps: names, types, policies, and the keys of each type (1.7, 2).

use std::collections::HashMap;

use perennial_core::retry::RetryPolicy;

use super::{
    Check, Section,
    bodies::{Inside, handler_of, numbered, weight},
    defaults::Defaults,
    dynamic::is_templated,
    keys::{self, STEP_TYPES},
    nested::Policies,
    policy::OnError,
    references::Standpoint,
    section::LATER,
    shapes::Shape,
};
use crate::{
    definition::{
        Assign, Chat, ChatOptions, Echo, Location, ProviderKind, Step, StepKind, VariableScope,
        Write,
    },
    diagnostic::{Code, Finding, Severity},
    expression::{ERROR_ROOT, LATER_ROOTS, ROOTS, TemplateTree},
    source::Node,
    spelling,
};

impl Check<'_> {
    /// Collects the names that steps and assignments bind, before any of them is looked at.
    pub(super) fn collect_names(&mut self, nodes: &[Node]) {
        for (place, node) in numbered(nodes, 0) {
            let name = Section::of(node, "", "", "").and_then(|step| step.node("name")?.as_text());
            if let Some(name) = name {
                self.known.steps.entry(name.to_owned()).or_insert(place);
            }
            self.collect_step(node, place, None);
        }
    }

    /// Collects what the step number `place` binds, which stands in the handler of `holder` if that is
    /// one, and what steps inside of it do.
    fn collect_step(&mut self, node: &Node, place: usize, holder: Option<&str>) {
        let Some(section) = Section::of(node, "", "", "") else { return };
        let text = |key: &str| section.node(key).and_then(Node::as_text);
        let name = text("name").unwrap_or_default();
        if let Some(holder) = holder {
            let inside = Inside::Handler(holder.to_owned());
            self.known.inside.entry(name.to_owned()).or_insert(inside);
        }
        if text("type") == Some("pipeline") && !name.is_empty() && holder.is_none() {
            collect_inside(&section, &format!("steps.{name}"), &mut self.known.inside);
        }
        // A step that fails gives nothing: what it gives is there after the steps of its handler.
        let last = place + weight(node) - 1;
        self.known.lifetimes.collect(&section, name, last);
        let types = section.node("dynamic_types").and_then(Node::as_list).unwrap_or(&[]);
        let may_set = types.iter().any(|name| name.as_text() == Some("set_variable"));
        if text("type") == Some("set_variable") || may_set {
            let mut names: Vec<&str> = Vec::new();
            match text("append_to").or(text("merge_into")) {
                Some(target) => names.push(target),
                None => {
                    let entries = section.node("variables").and_then(Node::as_map);
                    let keys = entries.unwrap_or(&[]).iter().map(|entry| entry.key.as_str());
                    names.extend(keys.chain(text("variable")));
                }
            }
            for name in names {
                self.known.variables.insert(name.to_owned());
                self.known.lifetimes.sets(name, last);
            }
        }
        let (_, nodes) = handler_of(&section).unwrap_or_default();
        for (place, node) in numbered(nodes, place + 1) {
            self.collect_step(node, place, Some(name));
        }
    }

    /// One step; every part of it is checked, whatever is wrong with the others.
    pub(super) fn step(
        &mut self,
        node: &Node,
        pointer: &str,
        place: usize,
        defaults: &Defaults,
    ) -> Option<Step> {
        let Some(bare) = Section::of(node, pointer, "", "a step") else {
            let finding = Finding::error(Code(108), "a step must be a map").at(node.extent);
            self.findings.push(finding.pointer(pointer));
            return None;
        };
        self.known.own.clear();
        let name = self.step_name(&bare, place);
        let shown = name.clone().unwrap_or_else(|| format!("#{}", place + 1));
        let type_name = self.step_type(&bare, &shown);
        let typed = type_name.map_or_else(String::new, |name| format!(" (type `{name}`)"));
        let whole = format!("step `{shown}`{typed}");
        let variant = STEP_TYPES.iter().find(|variant| Some(variant.name) == type_name);
        let tables = variant.map_or(keys::STEP_ONLY, |variant| variant.tables);
        let section = bare.called(&whole).read_by(tables);
        match variant {
            Some(_) => self.shape(&section),
            None if type_name.is_some() => self.values(&section.clone().of_any_type()),
            None => self.values(&section),
        }
        let from = Standpoint { step: place, whole: &whole };

        let variables = match type_name {
            Some("set_variable") => Some(Vec::new()),
            Some(_) | None => self.own_variables(&section, from),
        };
        let output_to_global = self.output_to_global(&section);
        let clear_vars = self.clear_vars(&section, from);
        let condition = section.node("condition").filter(|node| !node.is_null());
        let parsed =
            condition.and_then(|node| self.condition(node, &section.pointer_of("condition"), from));
        let condition_fits = condition.is_none() || parsed.is_some();
        self.depends_on(&section, from);
        let mut on_error = self.on_error(&section, defaults);
        let error_output = self.error_output(&section);
        let usual_within_ms = match type_name {
            Some("file_ops") => defaults.file_ops_within_ms,
            Some(_) | None => defaults.within_ms,
        };
        let within_ms = self.deadline(&section).or(usual_within_ms);
        let output_to_file = self.output_file(&section, from);
        let effects = Self::effects(&section);
        let calls = matches!(type_name, Some("claude" | "gemini"));
        let value_schema = self.value_schema(&section, calls);
        let kind = self.step_kind(&section, type_name?, &shown, from, within_ms, defaults);
        let calls = |kind: &StepKind| kind.possible().into_iter().any(|kind| kind.chat().is_some());
        let calls = kind.as_ref().map(calls);
        // What a faulty step would be is not known.
        let cache = calls.and_then(|calls| self.cache(&section, calls, defaults.cache, from));
        let possible = kind.as_ref().map(StepKind::possible).unwrap_or_default();
        let usual = match possible.iter().find_map(|kind| kind.provider()) {
            Some(_) => RetryPolicy::PROVIDER,
            None => RetryPolicy::ONCE,
        };
        let mut policies = Policies::default();
        if type_name == Some("pipeline") {
            policies = self.nested_policies(&section);
        }
        if on_error == OnError::Handle {
            self.handled_alone(&section);
        }
        if policies.continue_on_error && on_error == OnError::Fail {
            on_error = OnError::Continue;
        }
        let usual = defaults.retry.over(usual);
        let config = possible.iter().find_map(|kind| kind.chat()?.options.retry);
        let retry = match (self.retry(&section).or(policies.retry), config) {
            (Some(own), Some(config)) if names_retries(&section) => config.beside(own),
            (Some(own), _) => own,
            (None, Some(config)) => config.policy(usual),
            (None, None) => usual,
        };
        let start = section.start();
        let line = self.sources.span(start).start.line;
        let file = self.sources.name(self.sources.file_of(start)).to_string();
        let location = Location { file, line };
        // Last, as its steps have names of their own for themselves.
        let handler = self.handler(&section, place, on_error, defaults);
        condition_fits.then_some(())?;
        let step = Step {
            name: name?,
            type_name: type_name?.to_owned(),
            location: Some(location),
            condition: parsed,
            continue_on_error: on_error == OnError::Continue,
            skip_on_error: on_error == OnError::Skip,
            handler: handler?,
            error_output: error_output?,
            within_ms,
            retry,
            variables: variables?,
            output_to_global,
            clear_vars,
            output_to_file,
            cache,
            effects: effects.or(kind.as_ref().and_then(StepKind::effects)),
            value_schema,
            kind: kind?,
        };
        if let Some(shape) = Shape::of(&step)
            && self.known.place_here(&step.name) == Some(place)
        {
            self.known.shapes.insert(place, shape);
        }
        Some(step)
    }

    fn step_name(&mut self, section: &Section<'_>, place: usize) -> Option<String> {
        let Some(entry) = section.get("name") else {
            let text = "Step missing required 'name' field";
            let finding = Finding::error(Code(201), text).at(section.start());
            self.findings.push(finding.pointer(section.pointer.as_str()));
            return None;
        };
        let name = self.valid_name(entry, &section.pointer_of("name"), "step")?;
        if matches!(name.as_str(), "steps" | "loop") {
            let text = format!("`{name}` is a reserved step name");
            self.findings.push(section.fault(303, "name", text));
        } else if is_root(&name) {
            let text = format!("the step has the name of the root `{name}`");
            self.findings.push(
                Finding::new(Code(304), Severity::Warning, text)
                    .at(entry.value.extent)
                    .pointer(section.pointer_of("name"))
                    .hint(format!("templates reach it as `steps.{name}` only")),
            );
        }
        self.no_shadow(&name, section);
        if self.known.place_here(&name).is_some_and(|first| first != place) {
            let text = format!("duplicate step name `{name}`");
            self.findings.push(section.fault(301, "name", text));
        }
        Some(name)
    }

    fn step_type<'n>(&mut self, section: &Section<'n>, shown: &str) -> Option<&'n str> {
        let Some(entry) = section.get("type") else {
            let text = format!("Step '{shown}' missing required 'type' field");
            let finding = Finding::error(Code(201), text).at(section.start());
            self.findings.push(finding.pointer(section.pointer.as_str()));
            return None;
        };
        let Some(found) = section.text("type") else {
            self.findings.push(section.wrong_type("type", "a string"));
            return None;
        };
        let variant = STEP_TYPES.iter().find(|variant| variant.name == found);
        if is_templated(found) {
            if section.get("dynamic_types").is_some() {
                return Some(found);
            }
            let text = format!("Step '{shown}' has a templated type and no 'dynamic_types'");
            let hint = "name the types that it may become: `dynamic_types: [echo, claude]`";
            self.findings.push(section.fault(209, "type", text).hint(hint));
            return None;
        }
        self.idle_dynamic_types(section);
        if variant.is_some_and(|variant| !variant.later) {
            return Some(found);
        }
        let here = STEP_TYPES.iter().filter(|variant| !variant.later);
        let hint = match variant {
            Some(_) => Some(LATER.to_owned()),
            None => spelling::did_you_mean(found, here.clone().map(|variant| variant.name)),
        };
        let types = here.map(|variant| variant.name).collect::<Vec<_>>().join(", ");
        let text = format!(
            "Step '{shown}' has invalid type '{}'. Supported types: {types}",
            entry.value.shown()
        );
        self.findings.push(section.fault(208, "type", text).maybe_hint(hint));
        None
    }

    /// Edges between steps, which hold anyway while steps run one after another.
    fn depends_on(&mut self, section: &Section<'_>, from: Standpoint<'_>) {
        let Some(entry) = section.get("depends_on") else { return };
        let Some(items) = entry.value.as_list() else {
            self.findings.push(section.wrong_type("depends_on", "a list"));
            return;
        };
        let pointer = section.pointer_of("depends_on");
        for (place, item) in items.iter().enumerate() {
            let pointer = format!("{pointer}/{place}");
            let Some(name) = item.as_text() else {
                let finding = Finding::error(Code(203), "depends_on must be a list of strings");
                self.findings.push(finding.at(item.extent).pointer(pointer));
                continue;
            };
            for (extent, finding) in self.earlier(name, item.extent, from) {
                self.findings.push(finding.at(extent).pointer(pointer.as_str()));
            }
        }
    }

    pub(super) fn step_kind(
        &mut self,
        section: &Section<'_>,
        type_name: &str,
        shown: &str,
        from: Standpoint<'_>,
        within_ms: Option<u64>,
        defaults: &Defaults,
    ) -> Option<StepKind> {
        match type_name {
            templated if is_templated(templated) => {
                let dynamic = self.dynamic(section, shown, from, within_ms, defaults);
                dynamic.map(StepKind::Dynamic)
            }
            "pipeline" => self.nested(section, shown, within_ms, from).map(StepKind::Pipeline),
            "set_variable" => self.assign(section, from).map(StepKind::SetVariable),
            "claude" => {
                let prompt = self.prompt(section, shown, from);
                let options = self.step_claude_options(section, from);
                let by_task = ChatOptions {
                    model: defaults.claude_models.get(shown).cloned(),
                    ..ChatOptions::default()
                };
                let options = options.over(by_task).over(defaults.claude.clone());
                chat(ProviderKind::Claude, section, prompt, options)
            }
            "gemini" => {
                let prompt = self.prompt(section, shown, from);
                let options = self.gemini_options(section, from);
                let by_task = ChatOptions {
                    model: defaults.gemini_models.get(shown).cloned(),
                    ..ChatOptions::default()
                };
                let options = options.over(by_task).over(defaults.gemini.clone());
                chat(ProviderKind::Gemini, section, prompt, options)
            }
            "file_ops" => self.file_ops(section, from).map(StepKind::FileOps),
            _ => self.echo(section, from).map(StepKind::Echo),
        }
    }

    /// `claude_options`, or its accepted spelling `options`.
    fn step_claude_options(&mut self, section: &Section<'_>, from: Standpoint<'_>) -> ChatOptions {
        self.claude_options(section, options_key(section), from)
    }

    fn echo(&mut self, section: &Section<'_>, from: Standpoint<'_>) -> Option<Echo> {
        let value = match section.node("value") {
            Some(node) => self.template_tree(node, &section.pointer_of("value"), from),
            None => crate::expression::Template::parse("default_echo").ok().map(TemplateTree::Text),
        };
        let fail = section.flag("fail").unwrap_or(false);
        let error_message = self.template_of(section, "error_message", from);
        let delay_ms = section.count("delay_ms").unwrap_or(0).into();
        Some(Echo { value: value?, fail, error_message, delay_ms })
    }

    fn assign(&mut self, section: &Section<'_>, from: Standpoint<'_>) -> Option<Assign> {
        let scope = self.scope(section);
        let variables = if section.get("variable").is_some() {
            self.single_variable(section, from)
        } else {
            self.variables(section, from)
        };
        let write = self.write(section);
        Some(Assign { variables: variables?, scope: scope?, write: write? })
    }

    /// `append_to` or `merge_into`, the name of a variable.
    fn write(&mut self, section: &Section<'_>) -> Option<Write> {
        let mut write = Some(Write::Set);
        if section.get("append_to").is_some() && section.get("merge_into").is_some() {
            let text = "append_to and merge_into exclude each other";
            self.findings.push(section.fault(207, "merge_into", text));
            write = None;
        }
        for key in ["append_to", "merge_into"] {
            let Some(entry) = section.get(key) else { continue };
            let name = self.valid_name(entry, &section.pointer_of(key), "variable");
            let name = name.filter(|_| write.is_some());
            write = name.map(|name| match key {
                "append_to" => Write::AppendTo(name),
                _ => Write::MergeInto(name),
            });
        }
        write
    }

    fn scope(&mut self, section: &Section<'_>) -> Option<VariableScope> {
        let Some(node) = section.node("scope") else { return Some(VariableScope::Global) };
        let Some(text) = section.text("scope") else {
            self.findings.push(section.wrong_type("scope", "a string"));
            return None;
        };
        let hint = match text {
            "global" => return Some(VariableScope::Global),
            "local" => return Some(VariableScope::Local),
            "session" | "loop" => Some(LATER.to_owned()),
            other => spelling::did_you_mean(other, ["global", "local", "session", "loop"]),
        };
        let text = format!(
            "Invalid scope: must be 'global', 'session', or 'loop' (or 'local'), got: {}",
            node.shown()
        );
        self.findings.push(section.fault(204, "scope", text).maybe_hint(hint));
        None
    }

    fn variables(
        &mut self,
        section: &Section<'_>,
        from: Standpoint<'_>,
    ) -> Option<Vec<(String, TemplateTree)>> {
        let Some(entry) = section.get("variables") else {
            let text = format!("{} missing required 'variables' field", section.whole);
            let at = section.node("name").map_or(section.extent, |node| node.extent);
            let finding = Finding::error(Code(201), text).at(at);
            self.findings.push(finding.pointer(section.pointer.as_str()));
            return None;
        };
        let Some(map) = entry.value.as_map() else {
            self.findings.push(section.fault(203, "variables", "'variables' must be a map"));
            return None;
        };
        let pointer = section.pointer_of("variables");
        if map.is_empty() {
            let note = Finding::note(Code(220), "`variables` is empty: the step sets nothing");
            self.findings.push(note.at(entry.value.extent).pointer(pointer.as_str()));
        }
        let variables: Vec<Option<(String, TemplateTree)>> = map
            .iter()
            .map(|entry| {
                let inner = format!("{pointer}/{}", entry.key);
                let value = self.template_tree(&entry.value, &inner, from)?;
                Some((entry.key.clone(), value))
            })
            .collect();
        variables.into_iter().collect()
    }

    /// The accepted spelling `variable` and `value`.
    fn single_variable(
        &mut self,
        section: &Section<'_>,
        from: Standpoint<'_>,
    ) -> Option<Vec<(String, TemplateTree)>> {
        let entry = section.get("variable")?;
        let name = section.text("variable");
        let value = match section.node("value") {
            Some(node) => self.template_tree(node, &section.pointer_of("value"), from),
            None => {
                let text = "missing required 'value' field";
                let finding = Finding::error(Code(201), text).at(entry.key_extent);
                self.findings.push(finding.pointer(section.pointer.as_str()));
                None
            }
        };
        Some(vec![(name?.to_owned(), value?)])
    }
}

/// The spelling of `claude_options` that the step has.
fn options_key(section: &Section<'_>) -> &'static str {
    let written = ["claude_options", "options"].into_iter().find(|key| section.get(key).is_some());
    written.unwrap_or("claude_options")
}

/// Whether the step itself, and no default, says something of retries in its options.
fn names_retries(section: &Section<'_>) -> bool {
    let options = section.map(options_key(section));
    options.is_some_and(|options| options.get("retry_config").is_some())
}

fn chat(
    provider: ProviderKind,
    section: &Section<'_>,
    prompt: Option<Vec<crate::definition::Part>>,
    options: ChatOptions,
) -> Option<StepKind> {
    let allow_empty = section.flag("allow_empty_prompt").unwrap_or(false);
    prompt.map(|prompt| StepKind::Chat(Chat { provider, prompt, allow_empty, options }))
}

/// Whether paths may begin with `name` for another reason than a step.
fn is_root(name: &str) -> bool {
    ROOTS.contains(&name) || LATER_ROOTS.contains(&name) || name == ERROR_ROOT
}

/// Names of the steps of an inline child, and where they are found from outside.
fn collect_inside(section: &Section<'_>, outside: &str, inside: &mut HashMap<String, Inside>) {
    let Some(child) = section.node("pipeline").and_then(|node| Section::of(node, "", "", ""))
    else {
        return;
    };
    let wrapped = child.node("workflow").and_then(|node| Section::of(node, "", "", ""));
    let steps = wrapped.unwrap_or(child).node("steps").and_then(Node::as_list).unwrap_or(&[]);
    for step in steps.iter().filter_map(|node| Section::of(node, "", "", "")) {
        let Some(name) = step.node("name").and_then(Node::as_text) else { continue };
        let path = format!("{outside}.{name}");
        collect_inside(&step, &path, inside);
        inside.entry(name.to_owned()).or_insert(Inside::Child(path));
    }
}
