//! What came of a study.

use std::fmt;

use perennial::engine::staged::{Item, RunReport};
use perennial::records::JobState;

use super::{analysis::Findings, generation::App};

#[derive(Clone, Debug)]
pub(crate) struct StudyReport {
    /// The apps that are there.
    pub(crate) apps: Vec<App>,
    /// What became of each pair, by its key.
    pub(crate) generated: Vec<Row>,
    /// How each app was found, in the same order.
    pub(crate) analyses: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// Of the pair.
    pub(crate) key: String,
    pub(crate) state: JobState,
    pub(crate) told: String,
}

impl StudyReport {
    pub(super) fn of(report: &RunReport) -> Self {
        let items = |stage: &str| {
            let mut items = report.stage(stage).map_or_else(Vec::new, |stage| stage.items.clone());
            // They were made in the order in which they could be.
            items.sort_by(|one, other| one.key.cmp(&other.key));
            items
        };
        let generated = items("generation");
        Self {
            apps: generated.iter().filter_map(Item::output::<App>).collect(),
            generated: generated.iter().map(|item| Row::of(item, numbered)).collect(),
            analyses: items("analysis").iter().map(|item| Row::of(item, found)).collect(),
        }
    }
}

impl Row {
    fn of(item: &Item, told: fn(&Item) -> Option<String>) -> Self {
        let failed = || item.result.as_ref().and_then(|it| it["message"].as_str());
        let told = match item.skipped {
            Some(why) => format!("because of {why}"),
            None => told(item).or_else(|| failed().map(str::to_owned)).unwrap_or_default(),
        };
        Self { key: item.key.clone(), state: item.state, told }
    }
}

fn numbered(item: &Item) -> Option<String> {
    item.output::<App>().map(|app| format!("{} {}: a {}", app.model, app.number, app.template))
}

fn found(item: &Item) -> Option<String> {
    let found = item.output::<Findings>()?;
    let tools = found.0.iter().map(|(analyzer, tools)| format!("{} {analyzer}", tools.len()));
    let tools: Vec<String> = tools.collect();
    let worst = found.worst().map_or(String::new(), |worst| format!(", at worst {worst:?}"));
    Some(format!("{}: {} issues{worst}", tools.join(", "), found.issues()))
}

impl fmt::Display for StudyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (stage, rows) in [("generation", &self.generated), ("analysis", &self.analyses)] {
            for Row { key, state, told } in rows {
                writeln!(f, "  {stage:<11} {key:<14} {:<10} {told}", state.name())?;
            }
        }
        Ok(())
    }
}
