//! What calls to models used and cost, in words. Nothing is made up: unknown is said to be (YM-24).

use perennial::records::Performance;

/// Cost and tokens of one call.
pub(super) fn told(cost: Option<f64>, tokens: Option<u64>) -> String {
    let cost = cost.map_or("cost unknown".to_owned(), |cost| format!("${cost:.4}"));
    let tokens = tokens.map_or("tokens unknown".to_owned(), |count| format!("{count} tokens"));
    format!("{cost}, {tokens}")
}

/// What a run cost; nothing where it made no call.
pub(super) fn cost(performance: &Performance) -> Option<String> {
    let Performance { llm_calls: calls, llm_calls_unpriced: unpriced, .. } = *performance;
    if calls == 0 {
        return None;
    }
    Some(match performance.total_cost {
        Some(cost) => format!("${cost:.4}"),
        None if unpriced == calls => "unknown".to_owned(),
        None => {
            let known = performance.known_cost;
            format!("${known:.4} and what {unpriced} of {calls} calls cost")
        }
    })
}

/// Tokens by kind; nothing where the run made no call.
pub(super) fn usage(performance: &Performance) -> Option<String> {
    if performance.llm_calls == 0 {
        return None;
    }
    let tokens = |kind: &str| performance.usage.get(kind).and_then(serde_json::Value::as_u64);
    let kinds = [tokens("input_tokens"), tokens("cached_tokens"), tokens("output_tokens")];
    if kinds.iter().all(Option::is_none) {
        return Some("unknown".to_owned());
    }
    let word = |count: Option<u64>| count.map_or("unknown".to_owned(), |count| count.to_string());
    let [read, cached, written] = kinds.map(word);
    Some(format!("{read} read (cached: {cached}), {written} written"))
}
