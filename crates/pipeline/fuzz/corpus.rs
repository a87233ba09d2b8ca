//! Between the corpus that is kept (one file for each target, so that it can be read and compared)
//! and the folders of files that the fuzzer wants.
//!
//! ```text
//! corpus unpack TARGET FOLDER     every kept input becomes a file
//! corpus pack TARGET FOLDER MOST  files of at most MOST bytes become the kept inputs
//! ```

use std::{env, error::Error, fs, path::Path, process::ExitCode};

use serde_json::Value;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["unpack", target, folder] => unpack(target, Path::new(folder)),
        ["pack", target, folder, most] => pack(target, Path::new(folder), most),
        _ => Err("unpack TARGET FOLDER, or pack TARGET FOLDER MOST".into()),
    };
    match done {
        Ok(count) => {
            println!("{count} inputs");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn kept(target: &str) -> String {
    format!("{}/../tests/data/corpus/{target}.json", env!("CARGO_MANIFEST_DIR"))
}

fn unpack(target: &str, folder: &Path) -> Result<usize, Box<dyn Error>> {
    let inputs: Vec<Value> = serde_json::from_slice(&fs::read(kept(target))?)?;
    fs::create_dir_all(folder)?;
    for (place, input) in inputs.iter().enumerate() {
        fs::write(folder.join(format!("kept-{place:05}")), bytes(input))?;
    }
    Ok(inputs.len())
}

/// A text, or the bytes of what is none.
fn bytes(input: &Value) -> Vec<u8> {
    let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
    match input {
        Value::String(text) => text.clone().into_bytes(),
        Value::Array(bytes) => bytes.iter().filter_map(byte).collect(),
        _ => Vec::new(),
    }
}

fn pack(target: &str, folder: &Path, most: &str) -> Result<usize, Box<dyn Error>> {
    let most: usize = most.parse()?;
    let mut inputs = Vec::new();
    for entry in fs::read_dir(folder)? {
        let bytes = fs::read(entry?.path())?;
        if bytes.len() <= most {
            inputs.push(bytes);
        }
    }
    inputs.sort();
    inputs.dedup();
    let lines: Vec<String> = inputs
        .into_iter()
        .map(|bytes| match String::from_utf8(bytes) {
            Ok(text) => Value::from(text),
            Err(error) => Value::from(error.into_bytes()),
        })
        .map(|input| input.to_string())
        .collect();
    fs::write(kept(target), format!("[\n{}\n]\n", lines.join(",\n")))?;
    Ok(lines.len())
}
