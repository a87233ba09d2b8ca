mod compat;
mod view;

use perennial::{
    Pipelines, Severity,
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
        for diagnostic in &checked.diagnostics {
            output::text(&render(diagnostic, args.output.color.on(&std::io::stdout())))?;
            output::text("\n")?;
        }
        let (warnings, notes) = (checked.count(Severity::Warning), checked.count(Severity::Note));
        let verdict = if errors == 0 { "valid" } else { "invalid" };
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

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
