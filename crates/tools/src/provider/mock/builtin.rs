//! The built-in answers (YV-21).

use std::time::Duration;

use perennial_core::FailureClass;
use serde_json::json;

use super::{Answer, Family, failure};

/// What `family` answers to `prompt` when no rule matches.
pub(super) fn answer(family: Family, prompt: &str) -> Answer {
    match family {
        Family::Claude => claude(prompt),
        Family::Gemini => gemini(prompt),
    }
}

fn claude(prompt: &str) -> Answer {
    match prompt {
        "simple test" => priced("Mock response for simple test".to_owned(), 1_000_000),
        "error test" => refused("Mock error for testing"),
        _ if prompt.contains("Python") => priced("Mock Python code response".to_owned(), 2_000_000),
        _ if prompt.contains("calculator") => {
            priced("Mock calculator implementation".to_owned(), 4_000_000)
        }
        _ => priced(format!("Mock response for: {}...", beginning(prompt)), 1_000_000),
    }
}

fn gemini(prompt: &str) -> Answer {
    match prompt {
        "simple test" => priced("Mock Gemini analysis".to_owned(), 1_000_000),
        _ if prompt.contains("This will fail") => refused("Mock function calling error"),
        _ if prompt.contains("plan") => {
            priced(json!({"plan": "Mock plan", "complexity": "medium"}).to_string(), 3_000_000)
        }
        _ if prompt.to_lowercase().contains("analyze") => {
            priced(json!({"analysis": "Mock analysis", "confidence": 0.9}).to_string(), 4_000_000)
        }
        _ => priced(format!("Mock Gemini response for: {}...", beginning(prompt)), 2_000_000),
    }
}

fn priced(text: String, cost_nano_usd: u64) -> Answer {
    Answer { outcome: Ok(text), cost_nano_usd: Some(cost_nano_usd), delay: Duration::ZERO }
}

fn refused(message: &str) -> Answer {
    let outcome = Err(failure(FailureClass::Permanent, message));
    Answer { outcome, cost_nano_usd: None, delay: Duration::ZERO }
}

fn beginning(prompt: &str) -> String {
    prompt.chars().take(50).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_built_in_answers() {
        let long = "é".repeat(60);
        let cut = format!("Mock response for: {}...", "é".repeat(50));
        for (family, prompt, text, cost) in [
            (Family::Claude, "simple test", "Mock response for simple test", 1_000_000),
            (Family::Claude, "in Python", "Mock Python code response", 2_000_000),
            (Family::Claude, "a calculator", "Mock calculator implementation", 4_000_000),
            (Family::Claude, "hi", "Mock response for: hi...", 1_000_000),
            (Family::Claude, &long, &cut, 1_000_000),
            (Family::Gemini, "simple test", "Mock Gemini analysis", 1_000_000),
            (Family::Gemini, "hi", "Mock Gemini response for: hi...", 2_000_000),
            (Family::Gemini, "a plan", r#"{"plan":"Mock plan","complexity":"medium"}"#, 3_000_000),
            (
                Family::Gemini,
                "ANALYZE",
                r#"{"analysis":"Mock analysis","confidence":0.9}"#,
                4_000_000,
            ),
        ] {
            assert_eq!(answer(family, prompt), priced(text.to_owned(), cost), "{prompt}");
        }
        assert_eq!(answer(Family::Claude, "error test"), refused("Mock error for testing"));
        let gemini = answer(Family::Gemini, "This will fail, I plan");
        assert_eq!(gemini, refused("Mock function calling error"));
    }
}
