//! Prompts, for people who want to see what is sent (YP-12).

use perennial::{inspect::neutral, records::BuiltPrompt};

/// The prompt with a line before each of its parts, and one behind the last; control characters
/// cannot repaint the terminal.
pub(super) fn shown(prompt: &BuiltPrompt<'_>) -> String {
    let BuiltPrompt { run, job, attempt, model, parts } = prompt;
    let attempt = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
    let mut text = format!("=== prompt of {job} [{model}] (run {run}{attempt})\n");
    for (place, part) in parts.iter().enumerate() {
        let system = if part.system { ", system" } else { "" };
        let chars = part.text.chars().count();
        let (number, kind) = (place + 1, part.kind);
        text.push_str(&format!("--- part {number} ({kind}{system}, {chars} characters)\n"));
        for line in part.text.lines() {
            let plain: Vec<_> = line.split('\t').map(neutral).collect();
            text.push_str(&plain.join("\t"));
            text.push('\n');
        }
    }
    text.push_str(&format!("=== end of the prompt of {job}"));
    text
}
