//! Directories of the document, and where steps leave their values (1.4, 1.9, 4.7, 4.8).

use super::{Check, Section, defaults::Defaults, references::Standpoint};
use crate::{
    definition::{DocumentFiles, Effects, Exports, OutputFile},
    deployment::Switch,
    diagnostic::{Code, Finding, Severity},
};

/// Exports with a time stamp that are kept when the document does not say.
const KEEP_LAST: u32 = 5;

impl Check<'_> {
    /// The directory keys of the workflow, and what is lenient about files.
    pub(super) fn document_files(
        &mut self,
        workflow: &Section<'_>,
        defaults: &Defaults,
    ) -> DocumentFiles {
        let own = self.directory(workflow, "output_dir");
        if let (Some(own), Some(default)) = (&own, &defaults.output_dir)
            && own != default
        {
            let text = "output_dir and defaults.output_dir say different things";
            self.findings.push(workflow.fault(207, "output_dir", text));
        }
        let mut files = DocumentFiles {
            workspace_dir: self.directory(workflow, "workspace_dir"),
            output_dir: own.or_else(|| defaults.output_dir.clone()),
            checkpoint_dir: self.directory(workflow, "checkpoint_dir"),
            exports: self.exports(workflow),
            missing_at_use: self.lenient.is("missing_files", "at_use"),
            read_outside_roots: self.lenient.is("read_outside_roots", "true"),
            ..DocumentFiles::default()
        };
        if self.around.is_empty() {
            self.deployment_files(workflow, &mut files);
        }
        files
    }

    /// A path of the document; an empty one is none.
    pub(super) fn directory(&mut self, section: &Section<'_>, key: &str) -> Option<String> {
        let path = section.text(key)?;
        if path.is_empty() || path.contains('\0') {
            let text = format!("{} must be a path", section.path_of(key));
            self.findings.push(section.fault(203, key, text));
            return None;
        }
        Some(path.to_owned())
    }

    fn exports(&mut self, workflow: &Section<'_>) -> Option<Exports> {
        let config = workflow.map("checkpoint_config");
        let mut keep_last = Some(KEEP_LAST);
        if let Some(config) = &config
            && let Some(policy) = config.text("rotation_policy")
        {
            let count = policy.strip_prefix("keep_last_").and_then(|count| count.parse().ok());
            keep_last = count.filter(|count| *count > 0);
            if keep_last.is_none() && policy != "keep_all" {
                let text = format!(
                    "checkpoint_config.rotation_policy must be one of: keep_all, keep_last_<n>, got: \"{policy}\""
                );
                self.findings.push(config.fault(204, "rotation_policy", text));
            }
        }
        let resume_explicitly =
            config.as_ref().and_then(|config| config.text("resume")) == Some("explicit");
        let max_resume_age_ms = config.as_ref().and_then(|config| config.millis("max_resume_age"));
        let interval = workflow.count("checkpoint_interval").unwrap_or(1);
        workflow
            .flag("checkpoint_enabled")
            .unwrap_or_else(|| {
                // A child exports with its run.
                self.around.is_empty() && self.deployed.switch(Switch::CheckpointEnabled)
            })
            .then_some(Exports { interval, keep_last, resume_explicitly, max_resume_age_ms })
    }

    /// `output_to_file`, or its accepted spelling `output_file`.
    pub(super) fn output_file(
        &mut self,
        section: &Section<'_>,
        from: Standpoint<'_>,
    ) -> Option<OutputFile> {
        let key =
            ["output_to_file", "output_file"].into_iter().find(|key| section.get(key).is_some())?;
        let path = section.text(key)?;
        if path.is_empty() || path.contains('\0') {
            self.findings.push(section.fault(203, key, format!("{key} must be a path")));
            return None;
        }
        if path.ends_with('/') || path.ends_with("/.") {
            let text = format!("{key} must be the path of a file, got the directory: {path}");
            self.findings.push(section.fault(521, key, text).hint("leave out the `/` at its end"));
            return None;
        }
        if climbs(path) > 0 {
            let text = format!("the path `{path}` leaves the output directory");
            self.findings.push(
                Finding::new(Code(521), Severity::Warning, text)
                    .at(section.node(key).map_or(section.extent, |node| node.extent))
                    .pointer(section.pointer_of(key))
                    .hint("it is refused when it is used, unless it leads to an allowed place"),
            );
        }
        self.template_of(section, key, from).map(OutputFile)
    }

    /// The key `effects`; without it the type of the step decides.
    pub(super) fn effects(section: &Section<'_>) -> Option<Effects> {
        Some(match section.text("effects")? {
            "none" => Effects::None,
            "read" => Effects::Read,
            _ => Effects::Write,
        })
    }
}

/// How far a relative path climbs above where it starts; one with holes is not known.
pub(super) fn climbs(path: &str) -> i32 {
    let (mut depth, mut most) = (0, 0);
    for segment in path.split('/').filter(|_| !path.contains("{{") && !path.starts_with('/')) {
        depth += match segment {
            "" | "." => 0,
            ".." => 1,
            _ => -1,
        };
        most = most.max(depth);
    }
    most
}
