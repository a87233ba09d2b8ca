//! What `run` is given: files, and inputs among them.

use std::{ffi::OsString, path::PathBuf};

use crate::exit::{self, failed};

/// The arguments of `run`, told apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Targets {
    pub(super) files: Vec<PathBuf>,
    pub(super) inputs: Vec<String>,
}

/// What has a name before its first `=` is an input, everything else a file.
///
/// # Errors
///
/// When no file is among them.
pub(super) fn told_apart(targets: &[OsString]) -> anyhow::Result<Targets> {
    let mut told = Targets::default();
    for target in targets {
        match target.to_str() {
            Some(text) if is_input(text) => told.inputs.push(text.to_owned()),
            Some(_) | None => told.files.push(target.into()),
        }
    }
    if told.files.is_empty() {
        let text = "no workflow file is given; one with `=` in its name is given as ./NAME";
        return Err(failed(exit::USAGE, text));
    }
    Ok(told)
}

/// `name=…`, where a dot leads into the name's fields; also `=…`, which is a mistake and no file.
fn is_input(text: &str) -> bool {
    let Some((name, _)) = text.split_once('=') else { return false };
    name.chars().next().is_none_or(|first| first.is_alphabetic() || first == '_')
        && name.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_inputs_are_told_apart_by_what_stands_before_the_equals_sign() {
        let files = ["a.yaml", "./a=b.yaml", "dir/a=b.yaml", "1=2", "who", "a b=c"];
        let inputs = ["a=b.yaml", "who=", "global_vars.x=1", "größe=2", "_=1", "=me", "a=b=c"];
        let all: Vec<OsString> = files.iter().chain(&inputs).map(OsString::from).collect();
        let told = told_apart(&all).unwrap();
        assert_eq!(told.files, files.map(PathBuf::from));
        assert_eq!(told.inputs, inputs);
        assert!(told_apart(&["a=b".into()]).is_err());
    }
}
