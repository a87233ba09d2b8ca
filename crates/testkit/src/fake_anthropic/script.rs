//! Which reply a request gets.

use std::{collections::HashMap, time::Duration};

use super::reply::FakeReply;

#[derive(Debug, Default)]
pub(super) struct Scripts {
    scripts: Vec<Script>,
    pub(super) delay: Duration,
}

#[derive(Debug)]
struct Script {
    words: String,
    replies: Vec<FakeReply>,
    /// Requests answered, per idempotency key: concurrent calls do not take each other's replies.
    answered: HashMap<String, usize>,
}

impl Scripts {
    pub(super) fn add(&mut self, words: String, replies: Vec<FakeReply>) {
        self.scripts.push(Script { words, replies, answered: HashMap::new() });
    }

    /// The reply to the next request of `key`.
    pub(super) fn next(&mut self, key: &str, prompt: &str) -> FakeReply {
        let fitting = self.scripts.iter_mut().filter(|script| prompt.contains(&script.words));
        let Some(script) = fitting.max_by_key(|script| script.words.len()) else {
            return FakeReply::echo();
        };
        let answered = script.answered.entry(key.to_owned()).or_default();
        let place = (*answered).min(script.replies.len() - 1);
        *answered += 1;
        script.replies[place].clone()
    }
}
