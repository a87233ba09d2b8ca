//! Where the child of a `pipeline` step works (2.16).

use super::{Check, Section, references::Standpoint};
use crate::{
    definition::Workspace,
    deployment::Switch,
    diagnostic::{Code, Finding},
};

/// A key of `config`, and what it is called in `config.workspace`.
const FLAGS: [(&str, &str); 3] = [
    ("workspace_enabled", "create_on_start"),
    ("cleanup_on_success", "cleanup_on_success"),
    ("cleanup_on_error", "cleanup_on_error"),
];

impl Check<'_> {
    /// `Some(None)` when the child works where its parent does.
    pub(super) fn child_workspace(
        &mut self,
        config: &Section<'_>,
        from: Standpoint<'_>,
    ) -> Option<Option<Workspace>> {
        let long = config.map("workspace");
        let mut flags = [
            self.deployed.switch(Switch::ScratchWorkspace),
            true,
            self.deployed.switch(Switch::CleanupOnError),
        ];
        for ((short, in_long), flag) in FLAGS.into_iter().zip(&mut flags) {
            let other = long.as_ref().filter(|long| long.get(in_long).is_some());
            if other.is_some() && config.get(short).is_some() {
                let text =
                    format!("config.{short} and config.workspace.{in_long} exclude each other");
                self.findings.push(config.fault(207, short, text));
            }
            let own = other.map_or_else(|| config.flag(short), |long| long.flag(in_long));
            *flag = own.unwrap_or(*flag);
        }
        let [is_enabled, after_success, after_error] = flags;
        if is_enabled {
            if config.get("workspace_dir").is_some() {
                let text = "config.workspace_dir and a fresh workspace exclude each other";
                self.findings.push(config.fault(207, "workspace_dir", text));
            }
            return Some(Some(Workspace::Scratch { after_success, after_error }));
        }
        for (short, in_long) in &FLAGS[1..] {
            self.no_scratch(config, short);
            if let Some(long) = &long {
                self.no_scratch(long, in_long);
            }
        }
        let Some(path) = config.get("workspace_dir") else { return Some(None) };
        if path.value.as_text().is_some_and(|path| path.is_empty() || path.contains('\0')) {
            let text = "config.workspace_dir must be a path";
            self.findings.push(config.fault(203, "workspace_dir", text));
            return None;
        }
        self.template_of(config, "workspace_dir", from).map(|path| Some(Workspace::At(path)))
    }

    /// A directory that the child shares is never removed: a key that says when is told to have no effect.
    fn no_scratch(&mut self, section: &Section<'_>, key: &str) {
        let Some(entry) = section.get(key) else { return };
        let text = format!("`{key}` has no effect: the child has no fresh workspace");
        let note = Finding::note(Code(220), text).at(entry.key_extent);
        let hint = "`workspace_enabled: true` gives it one";
        self.findings.push(note.pointer(section.pointer_of(key)).hint(hint));
    }
}
