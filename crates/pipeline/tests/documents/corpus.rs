//! The documents of the tests: faulty ones with what is wrong with them, and sound ones.

#![allow(dead_code, reason = "each test binary needs a part of it")]
#![allow(clippy::unwrap_used, reason = "the files of the tests are well-formed")]

/// A document of `data/faulty.txt`.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) document: String,
    /// Code and place of each diagnostic, such as `PL202 3:5`.
    pub(crate) expected: Vec<String>,
    /// What the message of each has in it.
    pub(crate) words: Vec<String>,
}

/// The rows of `data/faulty.txt`.
pub(crate) fn faulty() -> Vec<Row> {
    let rows = include_str!("../data/faulty.txt").trim_start_matches("=== ").split("\n=== ");
    rows.map(|row| {
        let (name, rest) = row.split_once('\n').unwrap();
        let expected = rest.lines().filter_map(|line| line.strip_prefix("--- "));
        let expected = expected.map(|told| told.split_once(": ").unwrap_or((told, "")));
        let (expected, words): (Vec<&str>, Vec<&str>) = expected.unzip();
        let lines = rest.lines().filter(|line| !line.starts_with("--- "));
        Row {
            name: name.to_owned(),
            document: lines.map(|line| format!("{line}\n")).collect(),
            expected: expected.into_iter().map(str::to_owned).collect(),
            words: words.into_iter().map(str::to_owned).collect(),
        }
    })
    .collect()
}

/// The documents of `data/sound.txt`, by name: they load without an error.
pub(crate) fn sound() -> Vec<(String, String)> {
    let rows = include_str!("../data/sound.txt").trim_start_matches("=== ").split("\n=== ");
    let named = rows.map(|row| row.split_once('\n').unwrap());
    named.map(|(name, document)| (name.to_owned(), document.to_owned())).collect()
}

/// All of them; and the samples, where `PERENNIAL_SAMPLES` names their folder.
pub(crate) fn documents() -> Vec<(String, String)> {
    let mut documents: Vec<(String, String)> =
        faulty().into_iter().map(|row| (row.name, row.document)).collect();
    documents.extend(sound());
    let folder = std::env::var("PERENNIAL_SAMPLES").ok();
    for entry in folder.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            documents.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
    documents
}
