//! The words of the language: its functions, and its step types with their keys.

use perennial::records::{functions, step_types};

use crate::{
    args::{OutputArgs, StepsArgs},
    exit::{self, failed},
    output,
};

pub(super) fn print_functions(args: &OutputArgs) -> anyhow::Result<i32> {
    let all = functions();
    let heads: Vec<String> =
        all.iter().map(|function| format!("{}({})", function.name, function.arguments)).collect();
    let width = heads.iter().map(|head| head.chars().count()).max().unwrap_or_default();
    for (function, head) in all.iter().zip(heads) {
        if args.json {
            output::json(&serde_json::to_value(function)?)?;
        } else {
            output::line(&format!("{head:width$}  {}", function.does))?;
        }
    }
    Ok(exit::COMPLETED)
}

pub(super) fn print_steps(args: &StepsArgs) -> anyhow::Result<i32> {
    let mut types = step_types();
    if let Some(wanted) = &args.type_name {
        types.retain(|one| one.name == *wanted);
        if types.is_empty() {
            let names: Vec<&str> = step_types().iter().map(|one| one.name).collect();
            let text = format!("no step type `{wanted}`; there are: {}", names.join(", "));
            return Err(failed(exit::NOT_FOUND, text));
        }
    }
    let width = types.iter().map(|one| one.name.len()).max().unwrap_or_default();
    for one in &types {
        if args.output.json {
            output::json(&serde_json::to_value(one)?)?;
            continue;
        }
        let later = if one.here { "" } else { " (not in this version)" };
        output::line(&format!("{:width$}  {}{later}", one.name, one.does))?;
        if args.type_name.is_none() {
            continue;
        }
        let width = one.keys.iter().map(|key| key.key.len()).max().unwrap_or_default();
        for key in &one.keys {
            let mut line = format!("  {:width$}  {}", key.key, key.does);
            if key.required {
                line.push_str(" (required)");
            }
            if let Some(default) = key.default {
                line.push_str(&format!(" (default {default})"));
            }
            output::line(&line)?;
        }
    }
    Ok(exit::COMPLETED)
}
