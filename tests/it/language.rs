//! What documents mean, row by row: `data/language.yaml` has the cases with their ids.

use std::{
    collections::BTreeMap,
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

    fn start(&self) -> StartPipeline {
        let mut workflow = self.map("workflow");
        if let Some(steps) = self.0.get("steps") {
            workflow.insert("steps".to_owned(), steps.clone());
        }
        workflow.insert("name".to_owned(), "row".into());
        let document = json!({ "workflow": workflow }).to_string();
        let mut start =
            StartPipeline::document("row.yaml", document.into_bytes()).mode(ProviderMode::Mock);
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
        let handle = match (runtime.pipelines().start(self.start()).await, self.0.get("refused")) {
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
    match error {
        StartPipelineError::Invalid(diagnostics) => {
            let errors = diagnostics.iter().filter(|shown| shown.severity == Severity::Error);
            errors.map(|shown| shown.code.to_string()).collect()
        }
        StartPipelineError::Inputs(errors) => {
            errors.lines().into_iter().map(|(code, _)| code.to_string()).collect()
        }
        other => vec![other.to_string()],
    }
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
            "id", "case", "workflow", "steps", "inputs", "replies", "refused", "results",
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
