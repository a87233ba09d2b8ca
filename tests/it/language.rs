//! What documents mean, row by row: `data/language.yaml` has the cases with their ids.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use perennial::{
    ProviderMode, Runtime, Severity, StartPipeline, StartPipelineError, Store,
    records::{BuiltPrompt, RunView},
};
use serde_json::{Map, Value, json};

/// Prompts of all runs, by run and step: texts of the prompt, and of the system text.
#[derive(Clone, Default)]
struct Prompts(Arc<Mutex<BTreeMap<String, (String, String)>>>);

impl Prompts {
    fn note(&self, prompt: &BuiltPrompt<'_>) {
        let text = |system: bool| {
            let parts = prompt.parts.iter().filter(|part| part.system == system);
            parts.map(|part| part.text.as_str()).collect::<Vec<_>>().join("\n")
        };
        let key = format!("{}/{}", prompt.run, prompt.job);
        self.0.lock().unwrap().insert(key, (text(false), text(true)));
    }

    fn of(&self, run: &str, step: &str) -> Option<(String, String)> {
        self.0.lock().unwrap().get(&format!("{run}/{step}")).cloned()
    }
}

/// A row; what it does not say is not looked at.
#[derive(Debug)]
struct Row(Map<String, Value>);

impl Row {
    fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn map(&self, key: &str) -> Map<String, Value> {
        self.0.get(key).and_then(Value::as_object).cloned().unwrap_or_default()
    }

    /// Writes the files of the row into `folder`: texts, or bytes as a list of numbers.
    fn write_files(&self, folder: &Path) {
        for (name, content) in self.map("files") {
            let byte = |byte: &Value| u8::try_from(byte.as_u64().unwrap()).unwrap();
            let bytes = match content.as_array() {
                Some(bytes) => bytes.iter().map(byte).collect(),
                None => content.as_str().unwrap().as_bytes().to_vec(),
            };
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    fn start(&self, folder: &Path) -> StartPipeline {
        let mut workflow = self.map("workflow");
        if let Some(steps) = self.0.get("steps") {
            workflow.insert("steps".to_owned(), steps.clone());
        }
        workflow.insert("name".to_owned(), "row".into());
        let document = json!({ "workflow": workflow }).to_string();
        let mut start =
            StartPipeline::document("row.yaml", document.into_bytes()).mode(ProviderMode::Mock);
        if self.0.contains_key("files") {
            start = start.project_root(folder);
        }
        for (name, value) in self.map("inputs") {
            start = start.input(name, value);
        }
        match self.0.get("replies") {
            Some(replies) => start.mocks(json!({ "replies": replies })),
            None => start,
        }
    }

    /// What is different from what the row says.
    async fn differences(&self, runtime: &Runtime, prompts: &Prompts) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        self.write_files(folder.path());
        let started = runtime.pipelines().start(self.start(folder.path())).await;
        let handle = match (started, self.0.get("refused")) {
            (Ok(handle), None) => handle,
            (Ok(_), Some(codes)) => return vec![format!("started, and not refused with {codes}")],
            (Err(error), Some(codes)) => {
                let found = json!(refusal(&error));
                return if found == *codes { vec![] } else { vec![format!("{found}: {error}")] };
            }
            (Err(error), None) => return vec![format!("refused: {error} {:?}", refusal(&error))],
        };
        let outcome = handle.outcome().await.unwrap();
        let run = handle.id().as_str().to_owned();
        let mut wrong = Vec::new();
        let mut compare = |what: &str, found: Value, expected: &Value| {
            if found != *expected {
                wrong.push(format!("{what}:\n  expected {expected}\n  found    {found}"));
            }
        };
        for (step, expected) in self.map("results") {
            let found = outcome.result(&step).cloned().unwrap_or_default();
            compare(&format!("result of {step}"), found, &expected);
        }
        for (step, expected) in self.map("prompts") {
            let found = prompts.of(&run, &step).map(|(text, _)| text);
            compare(&format!("prompt of {step}"), json!(found), &expected);
        }
        for (step, expected) in self.map("systems") {
            let found = prompts.of(&run, &step).map(|(_, system)| system);
            compare(&format!("system text of {step}"), json!(found), &expected);
        }
        if let Some(expected) = self.0.get("fails") {
            let view: &RunView = &outcome.view;
            let failure = view.run.failure.clone().unwrap_or_default();
            let message = failure["message"].as_str().unwrap_or_default();
            let words = expected[2].as_str().unwrap_or_default();
            let told = if message.contains(words) { words } else { message };
            compare("failure", json!([failure["step"], failure["code"], told]), expected);
        } else if outcome.status() != "completed" {
            compare("status", json!(outcome.view.run.failure), &json!("completed"));
        }
        if let Some(expected) = self.0.get("warnings") {
            let events = handle.events().rest().await.unwrap();
            let mut warned = Map::new();
            for event in events.iter().filter(|event| event.kind == "step_warning") {
                let job = event.job.as_ref().unwrap().to_string();
                warned.insert(job, event.data["warnings"].clone());
            }
            compare("warnings", Value::Object(warned), expected);
        }
        wrong
    }
}

fn refusal(error: &StartPipelineError) -> Vec<String> {
    if let StartPipelineError::Invalid(diagnostics) = error {
        let errors = diagnostics.iter().filter(|shown| shown.severity == Severity::Error);
        return errors.map(|shown| shown.code.to_string()).collect();
    }
    if let StartPipelineError::Inputs(errors) = error {
        return errors.lines().into_iter().map(|(code, _)| code.to_string()).collect();
    }
    let text = error.to_string();
    let code = |line: &str| Some(line.strip_prefix('[')?.split_once(']')?.0.to_owned());
    let codes: Vec<String> = text.lines().filter_map(code).collect();
    if codes.is_empty() { vec![text] } else { codes }
}

#[tokio::test]
async fn documents_mean_what_their_rows_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/language.yaml");
    let rows = perennial::Pipelines::read_mocks(&path).unwrap();
    let prompts = Prompts::default();
    let noted = prompts.clone();
    let runtime = Runtime::builder()
        .store(Store::memory())
        .on_prompt(move |prompt| noted.note(prompt))
        .start()
        .await
        .unwrap();
    let mut wrong = Vec::new();
    let rows = rows.as_array().unwrap();
    for row in rows {
        let row = Row(row.as_object().unwrap().clone());
        let known = [
            "id", "files", "case", "workflow", "steps", "inputs", "replies", "refused", "results",
            "prompts", "systems", "fails", "warnings",
        ];
        assert!(row.0.keys().all(|key| known.contains(&key.as_str())), "{row:?}");
        for difference in row.differences(&runtime, &prompts).await {
            wrong.push(format!("{} {}: {difference}", row.text("id"), row.text("case")));
        }
    }
    runtime.shutdown().await;
    assert!(rows.len() > 40, "{} rows", rows.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// C-57: also when it is rewritten within the same second, at the same length.
#[tokio::test]
async fn a_file_is_read_anew_and_changes_the_request() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = Prompts::default();
    let noted = prompts.clone();
    let builder = Runtime::builder().store(Store::memory());
    let runtime = builder.on_prompt(move |prompt| noted.note(prompt)).start().await.unwrap();
    let document = "workflow:\n  name: w\n  steps:\n    - {name: ask, type: claude, \
                    prompt: [{type: file, path: a.txt}]}\n";
    let mut hashes = Vec::new();
    for text in ["one", "two", "six"] {
        fs::write(folder.path().join("a.txt"), text).unwrap();
        let start = StartPipeline::document("w.yaml", document).mode(ProviderMode::Mock);
        let run = runtime.pipelines().start(start.project_root(folder.path())).await.unwrap();
        let outcome = run.outcome().await.unwrap();
        assert_eq!(prompts.of(run.id().as_str(), "ask").unwrap().0, text);
        hashes.push(outcome.result("ask").unwrap()["request_hash"].clone());
    }
    assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2], "{hashes:?}");
    runtime.shutdown().await;
}

/// C-55: a large file is fine; what no model could read is refused before it is sent.
#[tokio::test]
async fn large_files_are_fine_within_a_bound() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = Runtime::builder().store(Store::memory()).start().await.unwrap();
    let document = "workflow:\n  name: w\n  steps:\n    - {name: ask, type: claude, \
                    prompt: [{type: file, path: a.txt}, {type: file, path: a.txt}]}\n";
    for (bytes, code) in [(1 << 20, None), (9 << 20, Some("PL805")), (17 << 20, Some("PL601"))] {
        fs::write(folder.path().join("a.txt"), "x".repeat(bytes)).unwrap();
        let start = StartPipeline::document("w.yaml", document).mode(ProviderMode::Mock);
        let run = runtime.pipelines().start(start.project_root(folder.path())).await.unwrap();
        let outcome = run.outcome().await.unwrap();
        let failure = outcome.view.run.failure.clone().unwrap_or_default();
        assert_eq!(failure["code"].as_str(), code, "{bytes}: {failure}");
    }
    runtime.shutdown().await;
}
