//! `show --trace`: the spans of a run with their times, and what they say together (YM-13).

use perennial::records::{Component, DepthSummary, Grade, Span, SpanKind, Trace, Went};

use super::spending;
use crate::output;

/// Room for the times of spans.
const TIME_COLUMNS: usize = 9;

/// Writes the trace for people.
pub(super) fn print(trace: &Trace) -> anyhow::Result<()> {
    output::line(&format!("run        {}", trace.run_id))?;
    output::line(&format!("workflow   {}", trace.workflow))?;
    output::line(&format!("trace      {}", trace.trace_id))?;
    output::line("")?;
    let room = output::width().unwrap_or(usize::MAX);
    for span in &trace.spans {
        output::line(&output::cut(&line(span), room))?;
    }
    let verdict = &trace.verdict;
    if !verdict.depths.is_empty() {
        output::line("")?;
    }
    let heading = ["DEPTH", "STEPS", "FAILED", "TOTAL", "MEAN", "SHORTEST", "LONGEST"];
    let rows = verdict.depths.iter().map(row);
    let heading = (!verdict.depths.is_empty()).then(|| heading.map(str::to_owned));
    for line in output::columns(heading.into_iter().chain(rows)) {
        output::line(&line)?;
    }
    output::line("")?;
    output::line(&format!("grade      {}", graded(&verdict.grade)))?;
    let efficiency = verdict.efficiency.map_or("unknown".to_owned(), |it| format!("{it:.1}"));
    output::line(&format!("efficiency {efficiency} steps per second and 100 MB"))?;
    for issue in &verdict.issues {
        output::line(&format!("issue      {issue}"))?;
    }
    for bottleneck in &verdict.bottlenecks {
        output::line(&format!("bottleneck {bottleneck}"))?;
    }
    for finding in &verdict.findings {
        output::line(&format!("finding    {}", finding.message))?;
    }
    Ok(())
}

fn line(span: &Span) -> String {
    let took = time(span.duration_ms);
    let step_type = span.step_type.as_deref().filter(|_| span.kind == SpanKind::Step);
    let kind = step_type.map(|name| format!(" ({name})")).unwrap_or_default();
    let mock = if span.mock { ", mock" } else { "" };
    let model = span.model.as_ref().map(|model| format!(" [{model}{mock}]")).unwrap_or_default();
    let spent = match span.kind {
        SpanKind::LlmCall => format!("  {}", spending::told(span.cost, span.tokens.0)),
        SpanKind::Run | SpanKind::Step | SpanKind::Attempt | SpanKind::Call => String::new(),
    };
    // What went as it should needs no word.
    let status = match span.went {
        Went::Well => String::new(),
        Went::Badly | Went::Open | Went::Aside => format!("  {}", span.status.replace('_', " ")),
    };
    let indent = 2 * span.level;
    let name = format!("{}{kind}{model}{spent}{status}", span.name);
    format!("{took:>TIME_COLUMNS$}  {:indent$}{name}", "")
}

fn row(depth: &DepthSummary) -> [String; 7] {
    [
        depth.depth.to_string(),
        depth.count.to_string(),
        depth.failures.to_string(),
        time(Some(depth.total_ms).filter(|_| depth.avg_ms.is_some())),
        time(depth.avg_ms),
        time(depth.min_ms),
        time(depth.max_ms),
    ]
}

/// Milliseconds, where it took any time.
fn time(ms: Option<u64>) -> String {
    ms.map_or("-".to_owned(), |ms| output::took(std::time::Duration::from_millis(ms)))
}

fn graded(grade: &Grade) -> String {
    let part = |name: &str, part: Component| format!("{name} {:.1}", part.grade);
    let success = grade.success.map(|success| part("success", success));
    let parts = [
        success.unwrap_or_else(|| "success unknown".to_owned()),
        part("duration", grade.duration),
        part("depth", grade.depth),
        part("memory", grade.memory),
    ];
    format!("{} {:.2} ({})", grade.word.name(), grade.mean, parts.join(", "))
}
