//! What names a variable, and what its text means.

use serde_json::{Map, Value};

use crate::source::Extent;

/// `${NAME}` or `${NAME:-text}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) name: String,
    /// The text when the variable is not set, or empty.
    pub(crate) default: Option<String>,
    pub(crate) extent: Extent,
}

/// A stretch of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'t> {
    /// Text as it stands.
    Text(&'t str),
    /// `$${`, which is `${`.
    Dollar,
    Word(Word),
}

/// The word that begins at `at` of `text`. Only upper-case names are names of the environment.
pub(crate) fn word_at(text: &str, at: usize) -> Option<Word> {
    let inside = text.get(at..)?.strip_prefix("${")?;
    let is_name = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
    let length = inside.bytes().take_while(|byte| is_name(byte)).count();
    let (name, rest) = inside.split_at(length);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (default, behind) = if rest.starts_with('}') {
        (None, 1)
    } else {
        let default = rest.strip_prefix(":-")?;
        let end = default.find('}')?;
        (Some(default[..end].to_owned()), end + 3)
    };
    let end = at + 2 + length + behind;
    Some(Word { name: name.to_owned(), default, extent: Extent::new(at, end) })
}

/// `text` in pieces.
pub(crate) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let (mut from, mut at) = (0, 0);
    while let Some(next) = text[at..].find('$') {
        let start = at + next;
        let (piece, behind) = if text[start..].starts_with("$${") {
            (Piece::Dollar, start + 3)
        } else if let Some(word) = word_at(text, start) {
            let end = word.extent.end;
            (Piece::Word(word), end)
        } else {
            at = start + 1;
            continue;
        };
        if from < start {
            found.push(Piece::Text(&text[from..start]));
        }
        found.push(piece);
        (from, at) = (behind, behind);
    }
    if from < text.len() {
        found.push(Piece::Text(&text[from..]));
    }
    found
}

/// Whether the value of `name` is kept secret (YF-42).
pub(crate) fn is_secret(name: &str) -> bool {
    ["KEY", "TOKEN", "SECRET", "PASSWORD"].iter().any(|part| name.contains(part))
}

/// The value of the variable `name` that stands alone: a number, truth value or null where it reads
/// as one (YF-41). A secret stays a text, which is found in records (YF-42).
pub(crate) fn typed(name: &str, text: &str) -> Value {
    if is_secret(name) {
        return Value::String(text.to_owned());
    }
    let plain = |value: &Value| !matches!(value, Value::Array(_) | Value::Object(_));
    let bare = !text.starts_with('"') && text.trim() == text;
    match serde_json::from_str(text) {
        Ok(value) if bare && plain(&value) => value,
        Ok(_) | Err(_) => Value::String(text.to_owned()),
    }
}

/// `value` with the words in all its texts replaced; `variable` answers with their texts.
pub(crate) fn substituted(value: &Value, variable: &dyn Fn(&str) -> Option<String>) -> Value {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        Value::String(text) if !text.contains("${") => value.clone(),
        Value::String(text) => {
            let meant = |word: &Word| word.text_of(variable(&word.name)).unwrap_or_default();
            let pieces = pieces(text);
            if let [Piece::Word(word)] = pieces.as_slice() {
                return typed(&word.name, &meant(word));
            }
            let texts = pieces.iter().map(|piece| match piece {
                Piece::Text(text) => (*text).to_owned(),
                Piece::Dollar => "${".to_owned(),
                Piece::Word(word) => meant(word),
            });
            Value::String(texts.collect())
        }
        Value::Array(items) => items.iter().map(|item| substituted(item, variable)).collect(),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| (key.clone(), substituted(value, variable)))
                .collect::<Map<_, _>>(),
        ),
    }
}

impl Word {
    /// What it means when the variable is `set`: its default also stands for an empty one.
    pub(crate) fn text_of(&self, set: Option<String>) -> Option<String> {
        match (set, &self.default) {
            (Some(text), Some(default)) if text.is_empty() => Some(default.clone()),
            (Some(text), _) => Some(text),
            (None, default) => default.clone(),
        }
    }
}

/// Where `text` holds what looks like a secret: a key of a provider, or a private key.
pub(crate) fn looks_secret(text: &str) -> Option<Extent> {
    let is_inside = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    for (mark, least) in [("sk-", 16), ("AIza", 30)] {
        for (start, _) in text.match_indices(mark) {
            let begins = !text[..start].ends_with(is_inside);
            let rest = &text[start + mark.len()..];
            let length = rest.find(|c| !is_inside(c)).unwrap_or(rest.len());
            // Words with hyphens are prose: a key has digits.
            if begins && length >= least && rest[..length].contains(|c: char| c.is_ascii_digit()) {
                return Some(Extent::new(start, start + mark.len() + length));
            }
        }
    }
    let start = text.find("-----BEGIN ")?;
    let header = text[start..].find("PRIVATE KEY-----")?;
    let is_one_line = !text[start..start + header].contains('\n');
    is_one_line.then(|| Extent::new(start, start + header + "PRIVATE KEY-----".len()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn variable(name: &str) -> Option<String> {
        match name {
            "PORT" | "PORT_KEY" => Some("8080".to_owned()),
            "EMPTY" => Some(String::new()),
            "SLY" => Some("${PORT} {{ run_id }}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn words_are_replaced_once_and_typed_alone() {
        for (text, expected) in [
            ("${PORT}", json!(8080)),
            ("p${PORT}", json!("p8080")),
            ("${PORT_KEY}", json!("8080")),
            ("${PORT} ", json!("8080 ")),
            ("${NONE:-true}", json!(true)),
            ("${EMPTY:-x}", json!("x")),
            ("${EMPTY}", json!("")),
            ("$${PORT}", json!("${PORT}")),
            ("$$${PORT}", json!("$${PORT}")),
            ("${port} $PORT ${1A} ${PORT", json!("${port} $PORT ${1A} ${PORT")),
            ("${SLY}", json!("${PORT} {{ run_id }}")),
            ("${NONE:-\"a\"}", json!("\"a\"")),
            ("${NONE:-a}}", json!("a}")),
        ] {
            assert_eq!(substituted(&json!(text), &variable), expected, "{text}");
        }
    }

    #[test]
    fn keys_are_known_by_their_looks() {
        let long = "0123456789abcdef0123456789abcdef";
        for (text, is) in [
            (format!("sk-{long}"), true),
            (format!("x AIza{long}"), true),
            (format!("risk-{long}"), false),
            ("sk-is-a-prefix-of-many-long-words".to_owned(), false),
            ("-----BEGIN RSA PRIVATE KEY-----".to_owned(), true),
            ("-----BEGIN CERTIFICATE-----".to_owned(), false),
        ] {
            assert_eq!(looks_secret(&text).is_some(), is, "{text}");
        }
    }
}
