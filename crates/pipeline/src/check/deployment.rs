//! Mode, limits and the other deployment sections of a document (1.6, 1.11, 6.5, 6.6).

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Check, Section, keys};
use crate::{
    definition::{DocumentFiles, Ordered},
    deployment::{Deployed, EnvironmentMode, Limit, Settled, settle, value_of},
    diagnostic::{Code, Finding, Severity},
    expression::{Path, Segment},
    source::{Extent, Node},
    spelling,
};

/// The variable that names the mode.
const MODE: &str = "PERENNIAL_ENV";

/// Sections that speak of the run: those of a child have no effect.
pub(super) const OF_THE_RUN: [&str; 4] =
    ["environment", "directories", "workspace_config", "output_config"];

/// Flags that can only be on in this version.
const ALWAYS_ON: [(&str, &str); 3] = [
    ("safety", "detect_circular_deps"),
    ("workspace_config", "preserve_structure"),
    ("output_config", "create_subdirs"),
];

/// A limit that the document names.
struct Written {
    value: u64,
    section: &'static str,
    key: &'static str,
}

/// Where documents name a limit, the first place first.
fn places(limit: Limit) -> &'static [(&'static str, &'static str)] {
    match limit {
        Limit::MaxNestingDepth => &[
            ("resource_limits", "max_nesting_depth"),
            ("resource_limits", "max_depth"),
            ("safety", "max_nesting_depth"),
        ],
        Limit::MaxTotalSteps => &[("resource_limits", "max_total_steps")],
        Limit::MaxStepExecutions => &[("resource_limits", "max_step_executions")],
        Limit::MemoryLimitMb => {
            &[("resource_limits", "memory_limit_mb"), ("resource_limits", "max_memory_mb")]
        }
        Limit::MaxFileOperations => {
            &[("resource_limits", "max_file_operations"), ("safety", "max_file_operations")]
        }
        Limit::MaxExecutionSeconds => &[
            ("", "max_execution_time"),
            ("resource_limits", "max_execution_time_s"),
            ("resource_limits", "timeout_seconds"),
        ],
        // Steps name these.
        Limit::NestedTimeoutSeconds | Limit::GeminiCallMs => &[],
    }
}

impl Check<'_> {
    /// The mode and the limits of the document `root`, and how long a run of it may take, in
    /// milliseconds.
    pub(super) fn deployed(&mut self, root: &Node) -> (Deployed, Option<u64>) {
        let workflow = Section::of(root, "", "", "the document")
            .and_then(|root| Section::of(root.node("workflow")?, "/workflow", "", "`workflow`"));
        let Some(workflow) = workflow else { return (Deployed::default(), None) };
        let workflow = workflow.read_by(&[&keys::WORKFLOW]);
        let mode = self.mode(&workflow);
        let section = workflow.node("environment").map(Node::to_value);
        let section = section.as_ref().and_then(Value::as_object);
        let section = section.map(|section| Ordered(Deployed::in_mode(section, mode)));
        let sandbox = workflow.map("safety").and_then(|safety| safety.flag("sandbox_mode"));
        let mut limits = BTreeMap::new();
        let mut within_ms = None;
        for limit in Limit::SETTABLE {
            let written = self.written(&workflow, limit);
            let settled = self.settled(&workflow, limit, written.as_ref());
            if limit == Limit::MaxExecutionSeconds {
                // As exact as the document says it, where that is what holds.
                let exact = written.filter(|written| settled.value() == Some(seconds(written)));
                within_ms = exact
                    .map(|written| written.value)
                    .or(settled.value().map(|value| value.saturating_mul(1_000)));
            } else if let Some(value) = settled.value() {
                limits.insert(limit, value);
            }
        }
        (Deployed { mode, section, limits, sandbox }, within_ms)
    }

    fn mode(&mut self, workflow: &Section<'_>) -> Option<EnvironmentMode> {
        let section = workflow.map("environment");
        let written = section.as_ref().and_then(|section| section.text("mode"));
        // What is no mode, the walk over the table reports.
        let document = written.and_then(|text| text.parse().ok());
        if let Some(mode) = self.deployment.chosen_mode().or(document) {
            return Some(mode);
        }
        let variable = self.loader.variable(MODE).filter(|text| !text.is_empty());
        let named = variable.as_ref().and_then(|text| text.parse().ok());
        if let (Some(text), None) = (&variable, named) {
            let names = EnvironmentMode::ALL.map(EnvironmentMode::name).join(", ");
            let text =
                format!("the environment variable {MODE} must be one of: {names}, got: {text}");
            let finding = Finding::error(Code(204), text).at(workflow.start());
            self.findings.push(finding.pointer(workflow.pointer.as_str()));
        }
        self.deployment.mode(document, named)
    }

    /// What the document says of `limit`; of times the milliseconds.
    fn written(&mut self, workflow: &Section<'_>, limit: Limit) -> Option<Written> {
        let mut found: Option<Written> = None;
        for (section, key) in places(limit).iter().copied() {
            let holder = match section {
                "" => Some(workflow.clone()),
                // The walk over the table compares the two spellings.
                "resource_limits" => {
                    workflow.map(section).or_else(|| workflow.map("safety_config"))
                }
                section => workflow.map(section),
            };
            let Some(holder) = holder else { continue };
            let value = match limit {
                Limit::MaxExecutionSeconds => holder.millis(key),
                Limit::MaxNestingDepth
                | Limit::MaxTotalSteps
                | Limit::MaxStepExecutions
                | Limit::MemoryLimitMb
                | Limit::NestedTimeoutSeconds
                | Limit::GeminiCallMs
                | Limit::MaxFileOperations => {
                    holder.count(key).filter(|count| *count > 0).map(u64::from)
                }
            };
            let Some(value) = value else { continue };
            match &found {
                // Two keys of one section the walk compares.
                Some(other) if other.value != value && other.section != section => {
                    let text = format!(
                        "{} and {} say different things",
                        named(other.section, other.key),
                        named(section, key)
                    );
                    self.findings.push(holder.fault(207, key, text));
                }
                Some(_) => (),
                None => found = Some(Written { value, section, key }),
            }
        }
        found
    }

    /// What holds, and a warning when more was asked for than the configuration lets anybody have.
    fn settled(
        &mut self,
        workflow: &Section<'_>,
        limit: Limit,
        written: Option<&Written>,
    ) -> Settled {
        let variable = limit.variable().and_then(|name| {
            let text = self.loader.variable(name).filter(|text| !text.is_empty())?;
            Some((name, value_of(limit, &text), text))
        });
        let document = written.map(|written| {
            if limit == Limit::MaxExecutionSeconds { seconds(written) } else { written.value }
        });
        let value = variable.as_ref().and_then(|(_, value, _)| *value);
        let (said, enforced) = self.deployment.said(limit, document, value);
        if said.option.is_none()
            && document.is_none()
            && let Some((name, None, text)) = &variable
        {
            let text = format!(
                "the environment variable {name} must be a number of seconds or a duration, got: {text}"
            );
            let finding = Finding::error(Code(205), text).at(workflow.start());
            self.findings.push(finding.pointer(workflow.pointer.as_str()));
        }
        let settled = settle(said, enforced);
        if let Settled::Narrowed { asked, to } = settled {
            let text = format!("{} is {to} here, and not {asked}", limit.name());
            let finding = Finding::new(Code(513), Severity::Warning, text);
            let finding = finding.hint("the configuration enforces it");
            let in_document = written.filter(|_| said.option.is_none());
            let (at, pointer) = in_document
                .and_then(|written| place_of(workflow, written))
                .unwrap_or((workflow.start(), workflow.pointer.clone()));
            self.findings.push(finding.at(at).pointer(pointer));
        }
        settled
    }

    /// What the deployment sections say of directories and files.
    pub(super) fn deployment_files(&mut self, workflow: &Section<'_>, files: &mut DocumentFiles) {
        for (section, key) in ALWAYS_ON {
            if let Some(section) = workflow.map(section)
                && section.flag(key) == Some(false)
            {
                self.later(&section, key, &format!("`{key}: false`"));
            }
        }
        if let Some(structure) = workflow.map("directories").and_then(|map| map.map("structure")) {
            let DocumentFiles { workspace_dir, output_dir, checkpoint_dir, .. } = files;
            let all = [
                ("workspace", "workspace_dir", workspace_dir),
                ("outputs", "output_dir", output_dir),
                ("checkpoints", "checkpoint_dir", checkpoint_dir),
            ];
            for (key, same_as, own) in all {
                let Some(path) = self.directory(&structure, key) else { continue };
                if own.as_ref().is_some_and(|own| *own != path) {
                    let text =
                        format!("directories.structure.{key} and {same_as} say different things");
                    self.findings.push(structure.fault(207, key, text));
                }
                own.get_or_insert(path);
            }
        }
        let flag = |section: &str, key: &str| workflow.map(section).and_then(|map| map.flag(key));
        files.workspace_exists = flag("workspace_config", "create_if_missing") == Some(false);
        files.by_step = flag("output_config", "organize_by_step") == Some(true);
        files.unrestricted = flag("safety", "restrict_file_access") == Some(false);
        if let Some(safety) = workflow.map("safety") {
            files.allowed_paths = self.paths(&safety, "allowed_paths");
            files.read_only_paths = self.paths(&safety, "read_only_paths");
        }
    }

    fn paths(&mut self, section: &Section<'_>, key: &str) -> Vec<String> {
        let items = section.list(key).unwrap_or(&[]);
        let texts: Vec<(usize, &str)> =
            items.iter().enumerate().filter_map(|(at, item)| Some((at, item.as_text()?))).collect();
        for (place, text) in &texts {
            if text.is_empty() || text.contains('\0') {
                let text = format!("{}[{place}] must be a path", section.path_of(key));
                let finding = Finding::error(Code(203), text).at(items[*place].extent);
                self.findings.push(finding.pointer(format!("{}/{place}", section.pointer_of(key))));
            }
        }
        texts.into_iter().map(|(_, text)| text.to_owned()).collect()
    }

    /// The fault of a path that begins with `environment`, as far as it can be followed at load.
    pub(super) fn unknown_in_environment(&self, path: &Path) -> Option<(Extent, Finding)> {
        let facts = self.deployed.facts();
        let mut here = &facts;
        let mut so_far = "environment".to_owned();
        for segment in &path.segments {
            // Values that are no maps are looked into when the step runs.
            let map = here.as_object()?;
            let (name, extent) = Segment::field(segment)?;
            let Some(next) = map.get(name) else {
                let text = format!("unknown path `{so_far}.{name}`");
                let mode = self.deployed.mode.unwrap_or_default();
                let near = spelling::did_you_mean(name, map.keys().map(String::as_str));
                let hint = near.unwrap_or_else(|| {
                    format!("the document names no such key for the mode {mode}; `?? x` gives a value for it")
                });
                return Some((extent, Finding::error(Code(314), text).hint(hint)));
            };
            so_far = format!("{so_far}.{name}");
            here = next;
        }
        None
    }
}

/// Seconds of a time, rounded up.
fn seconds(written: &Written) -> u64 {
    written.value.div_ceil(1_000)
}

fn named(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

fn place_of(workflow: &Section<'_>, written: &Written) -> Option<(Extent, String)> {
    let holder = match written.section {
        "" => workflow.clone(),
        section => workflow.map(section).or_else(|| workflow.map("safety_config"))?,
    };
    Some((holder.node(written.key)?.extent, holder.pointer_of(written.key)))
}
