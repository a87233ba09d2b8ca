//! The words of the language: its functions, and its step types with their keys.

use perennial::records::{KeyEntry, functions, nearest, step_types};

use crate::{
    args::{OutputArgs, StepsArgs},
    exit::{self, failed, failed_with},
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
            entry(&head, width, function.does)?;
        }
    }
    Ok(exit::COMPLETED)
}

pub(super) fn print_steps(args: &StepsArgs) -> anyhow::Result<i32> {
    let mut types = step_types();
    if let Some(wanted) = &args.type_name {
        types.retain(|one| one.name == *wanted);
        if types.is_empty() {
            let types = step_types();
            let here = types.iter().filter(|one| one.here);
            let names: Vec<&str> = here.map(|one| one.name).collect();
            let text = format!("no step type `{wanted}`; there are: {}", names.join(", "));
            return Err(match nearest(wanted, names) {
                Some(near) => failed_with(exit::USAGE, text, format!("perennial steps {near}")),
                None => failed(exit::USAGE, text),
            });
        }
    }
    let width = types.iter().map(|one| one.name.len()).max().unwrap_or_default();
    for one in &types {
        if args.output.json {
            output::json(&serde_json::to_value(one)?)?;
            continue;
        }
        if !one.here && args.type_name.is_none() {
            continue;
        }
        entry(one.name, width, one.does)?;
        if args.type_name.is_none() {
            continue;
        }
        if let Some(example) = one.example {
            entry("  for example", 0, example)?;
        }
        let keys: Vec<(String, &KeyEntry)> = one
            .keys
            .iter()
            .flat_map(|key| {
                let inner = key.keys.iter().map(move |inner| (name(Some(key), inner), inner));
                std::iter::once((name(None, key), key)).chain(inner)
            })
            .collect();
        let width = keys.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, key) in keys {
            entry(&name, width, &about(key))?;
        }
    }
    let later: Vec<&str> = types.iter().filter(|one| !one.here).map(|one| one.name).collect();
    if !later.is_empty() && args.type_name.is_none() && !args.output.json {
        entry("not in this version:", 0, &later.join(", "))?;
    }
    Ok(exit::COMPLETED)
}

/// Writes a name and what it is.
fn entry(head: &str, column: usize, text: &str) -> anyhow::Result<()> {
    for line in output::entry(head, column, text, output::width()).lines() {
        output::line(line)?;
    }
    Ok(())
}

fn name(around: Option<&KeyEntry>, key: &KeyEntry) -> String {
    match around {
        Some(around) => format!("  {}.{}", around.key, key.key),
        None => format!("  {}", key.key),
    }
}

fn about(key: &KeyEntry) -> String {
    let mut text = key.does.to_owned();
    if !key.values.is_empty() {
        text.push_str(&format!(": {}", key.values.join(", ")));
    }
    if key.required {
        text.push_str(" (required)");
    }
    if let Some(default) = key.default {
        text.push_str(&format!(" (default {default})"));
    }
    text
}
