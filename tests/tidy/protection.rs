//! There is one breaker, one limiter, one permit and one back-off (INV-INF-1): whoever needs one has that.

use std::path::Path;

use super::{Source, has_word, sources};

/// Where they are.
const HOMES: [&str; 4] = [
    "crates/core/src/protection",
    "crates/core/src/retry",
    "crates/tools/src/protection",
    "tests/tidy/protection.rs",
];

/// A type whose name has one of these is one of them.
const NAMES: [&str; 8] =
    ["Breaker", "Limiter", "Permit", "Semaphore", "Backoff", "BackOff", "TokenBucket", "Throttle"];

/// What a pause that grows, or is left to chance, is made of when it is made by hand.
const BY_HAND: [&str; 5] = ["mul_f64(", "_u32.pow(", "checked_shl(", "* 2).min(", "_mul(1 <<"];

/// What is allowed elsewhere: where, what, and why it is none of them.
const EXCEPTIONS: [(&str, &str, &str); 5] = [
    ("crates/supervision/", "Semaphore", "places in mailboxes and queues: a message holds one"),
    ("crates/tools/src/registry/permit.rs", "Permit", "the name of a tool beside the one permit"),
    (
        "crates/engine/src/external/calls.rs",
        "Permit",
        "a service beside the guards of its one call",
    ),
    ("crates/engine/src/run/machine/rest.rs", "mul_f64(", "a share of a wait, at which it is late"),
    ("crates/pipeline/src/run/limits.rs", "mul_f64(", "a share of a limit, at which it is warned"),
];

/// What `line` has that belongs to one of the homes.
fn found(line: &str) -> Option<&'static str> {
    let declares = ["struct", "enum", "trait"].iter().any(|word| has_word(line, word));
    let name = NAMES.into_iter().find(|name| declares && line.contains(name));
    let semaphore = has_word(line, "Semaphore").then_some("Semaphore");
    let by_hand = BY_HAND.into_iter().find(|pattern| line.contains(pattern));
    name.or(semaphore).or(by_hand)
}

fn is_at_home(source: &Source) -> bool {
    HOMES.iter().any(|home| source.path.starts_with(home) || source.path == Path::new(home))
        || source.path == Path::new("crates/core/src/retry.rs")
}

/// Its code without its tests, which come last.
fn product(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    let tests = source.text.lines().position(|line| line.trim() == "#[cfg(test)]");
    let inline = source.text.contains("\nmod tests {");
    let end = tests.filter(|_| inline).unwrap_or(usize::MAX);
    source.code().take_while(move |(number, _)| *number <= end)
}

/// Proves INV-INF-1.
#[test]
fn there_is_one_breaker_one_limiter_one_permit_and_one_back_off() {
    let mut used = [0; EXCEPTIONS.len()];
    let mut strange = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test() && !is_at_home(source)) {
        for (number, line) in product(source) {
            let Some(what) = found(line) else { continue };
            let path = source.path.to_str().unwrap();
            let excepted =
                EXCEPTIONS.iter().position(|(at, of, _)| path.starts_with(at) && *of == what);
            match excepted {
                Some(place) => used[place] += 1,
                None => strange.push(format!("{path}:{number} {what}: {}", line.trim())),
            }
        }
    }
    assert!(strange.is_empty(), "use what `protection` and `retry` have: {strange:#?}");
    for ((at, what, _), used) in EXCEPTIONS.iter().zip(used) {
        assert!(used > 0, "{at} has no {what} any more: take it from the list");
    }
}

#[test]
fn the_look_for_second_ones_sees_them() {
    for (line, what) in [
        ("pub struct CircuitBreaker {", Some("Breaker")),
        ("    slots: Arc<Semaphore>,", Some("Semaphore")),
        ("pause = (pause * 2).min(LONGEST);", Some("* 2).min(")),
        ("let pause = first * 2_u32.pow(tries);", Some("_u32.pow(")),
        ("let permit = permits.acquire().await;", None),
        ("use crate::protection::Breakers;", None),
    ] {
        assert_eq!(found(line), what, "{line}");
    }
}
