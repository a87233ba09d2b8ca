//! What analyzers answer: a report for each tool, in one of five forms, and what is read from it. What cannot be read is no
//! issue and no failure: the rest is kept, and it is said what is missing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    #[serde(alias = "Informational", alias = "note")]
    Info,
    #[serde(alias = "Low", alias = "warning")]
    Low,
    #[serde(alias = "Medium", alias = "moderate")]
    Medium,
    #[serde(alias = "High", alias = "error", alias = "critical")]
    High,
}

/// What a tool found. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) issues: u64,
    /// Of the worst of them, where the tool says so.
    pub(crate) worst: Option<Severity>,
}

/// The forms. What fits several is read as the first of them: rows are counted before a count is believed.
#[derive(Deserialize)]
#[serde(untagged)]
enum Report {
    /// As linters have it.
    Listed { issues: Vec<Rated> },
    /// SARIF.
    Runs { runs: Vec<Run> },
    /// As a scanner of pages has it: each kind of alert, and how often.
    Alerts { alerts: Vec<Alert> },
    /// As checkers of dependencies have it.
    BySeverity { by_severity: BTreeMap<Severity, u64> },
    /// A count, and nothing else.
    Counted { total_issues: u64 },
}

#[derive(Deserialize)]
struct Rated {
    severity: Option<Severity>,
}

#[derive(Deserialize)]
struct Run {
    results: Vec<Leveled>,
}

#[derive(Deserialize)]
struct Leveled {
    level: Option<Severity>,
}

#[derive(Deserialize)]
struct Alert {
    risk: Option<Severity>,
    count: Count,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Count {
    Number(u64),
    Text(String),
}

impl Found {
    /// From rows of which each stands for so many issues.
    fn of(rows: impl IntoIterator<Item = (Option<Severity>, u64)>) -> Self {
        rows.into_iter().filter(|(_, count)| *count > 0).fold(Self::default(), |found, row| Self {
            issues: found.issues.saturating_add(row.1),
            worst: found.worst.max(row.0),
        })
    }

    /// What one tool reports, or why that cannot be read.
    fn in_report(report: &Value) -> Result<Self, String> {
        let known = Report::deserialize(report).map_err(|_| "its form is not known".to_owned())?;
        Ok(match known {
            Report::Listed { issues } => Self::of(issues.iter().map(|it| (it.severity, 1))),
            Report::Runs { runs } => {
                Self::of(runs.iter().flat_map(|run| &run.results).map(|it| (it.level, 1)))
            }
            Report::Alerts { alerts } => {
                let rows: Result<Vec<_>, String> =
                    alerts.iter().map(|it| Ok((it.risk, it.count.read()?))).collect();
                Self::of(rows?)
            }
            Report::BySeverity { by_severity } => {
                Self::of(by_severity.into_iter().map(|(severity, count)| (Some(severity), count)))
            }
            Report::Counted { total_issues } => Self { issues: total_issues, worst: None },
        })
    }
}

impl Count {
    fn read(&self) -> Result<u64, String> {
        match self {
            Self::Number(count) => Ok(*count),
            Self::Text(text) => text.parse().map_err(|_| format!("{text:?} is no count")),
        }
    }
}

/// What each of `tools` found by the answer to them all, and what could not be read of it.
pub(crate) fn read(answer: &str, tools: &[String]) -> (BTreeMap<String, Found>, Vec<String>) {
    let mut problems = Vec::new();
    let reports: BTreeMap<String, Value> = serde_json::from_str(answer).unwrap_or_else(|error| {
        problems.push(format!("the answer cannot be read: {error}"));
        BTreeMap::new()
    });
    let is_whole = problems.is_empty();
    let mut found_by = |tool: &String| {
        let found = match reports.get(tool) {
            Some(report) => Found::in_report(report),
            None if is_whole => Err("there is none".to_owned()),
            None => return (tool.clone(), Found::default()),
        };
        let found = found.unwrap_or_else(|why| {
            problems.push(format!("report of {tool}: {why}"));
            Found::default()
        });
        (tool.clone(), found)
    };
    (tools.iter().map(&mut found_by).collect(), problems)
}
