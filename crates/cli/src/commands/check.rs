mod compat;
mod view;

pub(super) use view::tries;

use perennial::{
    Diagnostic, Pipelines, Severity,
    records::{render, report_json},
};

use super::engine;
use crate::{
    args::{CheckArgs, ReportForm},
    exit, output,
};

pub(super) async fn check(args: &CheckArgs) -> anyhow::Result<i32> {
    let mut code = exit::COMPLETED;
    let json = args.output.json || args.format == ReportForm::Json;
    let leniency = args.reading.leniency().map_err(|error| exit::failed(exit::USAGE, error))?;
    let leniency = leniency.environment_later();
    let config = engine::config(args.config.as_deref())?;
    let deployment = args.deployment.over(config.deployment());
    let deployment = deployment.map_err(|error| exit::failed(exit::USAGE, error))?;
    let older = match &args.compat {
        Some(_) if args.files.len() > 1 => {
            return Err(exit::failed(exit::USAGE, "--compat compares one file with another"));
        }
        Some(old) => Some((old, compat::older(old, &leniency, &deployment)?)),
        None => None,
    };
    for path in &args.files {
        let checked = match Pipelines::check_deployed(path, &leniency, &deployment) {
            Ok(checked) => checked,
            Err(error) => {
                code = exit::INVALID;
                if json {
                    output::json(&serde_json::json!({
                        "file": path.display().to_string(),
                        "valid": false,
                        "diagnostics": [{
                            "code": "PL101", "severity": "error", "message": error.to_string(),
                            "hint": null, "file": path.display().to_string(), "pointer": "",
                            "span": null, "excerpt": null, "related": [],
                        }],
                        "inputs": [],
                        "summary": { "errors": 1, "warnings": 0, "notes": 0 },
                    }))?;
                } else {
                    output::line(&format!("error[PL101]: {error}"))?;
                }
                continue;
            }
        };
        let errors = checked.count(Severity::Error);
        let denied = args.reading.deny_warnings && !checked.diagnostics.is_empty();
        if errors > 0 || denied {
            code = exit::INVALID;
        }
        let file = path.display().to_string();
        let compat = match (&older, &checked.pipeline) {
            (Some((old, before)), Some(new)) => {
                let compared = compat::compat((old.as_path(), before), new, args.store.as_ref());
                Some(compared.await?)
            }
            (Some(_), None) | (None, _) => None,
        };
        if json {
            let mut report = report_json(&file, &checked.diagnostics, &checked.inputs);
            let chosen =
                checked.pipeline.as_ref().and_then(|valid| view::chosen(&args.view, valid));
            if let Some((name, value)) = chosen {
                report[name] = value;
            }
            if let Some(compat) = &compat {
                report["compat"] = compat.json();
            }
            output::json(&report)?;
            continue;
        }
        for shown in folded(&checked.diagnostics, args.verbose) {
            match shown {
                Shown::Whole(diagnostic) => {
                    let colour = args.output.color.on(&std::io::stdout());
                    output::text(&render(diagnostic, colour))?;
                    output::text("\n")?;
                }
                Shown::Line(line) => {
                    output::line(&line)?;
                    output::line("")?;
                }
            }
        }
        let (warnings, notes) = (checked.count(Severity::Warning), checked.count(Severity::Note));
        let verdict = match (errors, denied) {
            (0, false) => "valid",
            (0, true) => "valid, and refused: --deny-warnings allows no warning and no note",
            (_, _) => "invalid",
        };
        output::line(&format!(
            "{file}: {verdict} ({}, {}, {})",
            counted(errors, "error"),
            counted(warnings, "warning"),
            counted(notes, "note"),
        ))?;
        if let Some(pipeline) = &checked.pipeline {
            view::print(&args.view, pipeline)?;
        }
        if let Some(compat) = &compat {
            compat.print()?;
        }
    }
    Ok(code)
}

/// A diagnostic as it is shown.
#[derive(Debug, PartialEq)]
enum Shown<'d> {
    Whole(&'d Diagnostic),
    /// Several notes that say the same.
    Line(String),
}

/// Notes that say the same, of one line each unless `verbose` shows them all. The line stands where the first of
/// them would.
fn folded(diagnostics: &[Diagnostic], verbose: bool) -> Vec<Shown<'_>> {
    let same = |one: &Diagnostic, other: &Diagnostic| {
        (one.severity, one.code, &one.message) == (other.severity, other.code, &other.message)
            && one.file == other.file
    };
    let mut shown = Vec::new();
    for (place, one) in diagnostics.iter().enumerate() {
        let all: Vec<&Diagnostic> = diagnostics.iter().filter(|other| same(one, other)).collect();
        if verbose || one.severity != Severity::Note || all.len() < 2 {
            shown.push(Shown::Whole(one));
        } else if !diagnostics[..place].iter().any(|before| same(before, one)) {
            let lines =
                all.iter().filter_map(|one| one.span.map(|span| span.start.line.to_string()));
            let lines: Vec<String> = lines.collect();
            shown.push(Shown::Line(format!(
                "note[{}]: {} ({} times in {}, lines {}; --verbose shows each)",
                one.code,
                one.message,
                all.len(),
                one.file,
                lines.join(", "),
            )));
        }
    }
    shown
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
