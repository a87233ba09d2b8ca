//! Finds ids, numbers, durations and times in a text.

use perennial_core::tree::TreeNode;

use super::{COUNT, ELAPSED};

/// What differs from one start to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Volatile {
    /// A ULID, a UUID, or twelve and more hexadecimal digits.
    Id,
    /// Decimal digits.
    Number,
    /// A duration such as `4h12m` or `3.1ms`, or an instant as in RFC 3339.
    Time,
    /// What stands between the angle brackets of an id's placeholder.
    Placeholder,
}

/// `text` with every volatile word replaced by what `replace` says.
pub(super) fn rewrite(text: &str, mut replace: impl FnMut(Volatile, &str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let word = alphanumeric(rest);
        // A letter of another script before it makes it the end of a word that has no meaning here.
        let (len, kind) = if let Some(len) = placeholder(&out, rest) {
            (len, Some(Volatile::Placeholder))
        } else if out.ends_with(|c: char| c.is_alphabetic() && !c.is_ascii()) {
            (word.len(), None)
        } else {
            recognize(rest, word)
        };
        let (found, after) = rest.split_at(len);
        match kind {
            Some(kind) => out.push_str(&replace(kind, found)),
            None => out.push_str(found),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// How much of `rest`, which starts with `word`, belongs together, and what it is.
fn recognize(rest: &str, word: &str) -> (usize, Option<Volatile>) {
    if let Some(len) = instant(rest) {
        return (len, Some(Volatile::Time));
    }
    if is_uuid(rest) {
        return (UUID_LEN, Some(Volatile::Id));
    }
    if is_ulid(word) || is_digest(word) {
        return (word.len(), Some(Volatile::Id));
    }
    if let Some(len) = duration(rest) {
        return (len, Some(Volatile::Time));
    }
    let number = number(rest);
    if number > 0 && !rest[number..].starts_with(|c: char| c.is_alphanumeric()) {
        return (number, Some(Volatile::Number));
    }
    (word.len(), None)
}

/// The length of the placeholder of an id at the start of `rest`, which follows `before`.
fn placeholder(before: &str, rest: &str) -> Option<usize> {
    let number = before.ends_with('<').then(|| rest.strip_prefix("id-"))??;
    let digits = number.bytes().take_while(u8::is_ascii_digit).count();
    number[digits..].starts_with('>').then_some("id-".len() + digits)
}

fn alphanumeric(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    &text[..end]
}

/// The length of the decimal number at the start of `text`.
fn number(text: &str) -> usize {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(text);
    match text[whole..].strip_prefix('.').map(digits) {
        Some(fraction) if whole > 0 && fraction > 0 => whole + 1 + fraction,
        Some(_) | None => whole,
    }
}

/// The length of the duration at the start of `text`, if no letter or digit follows it.
fn duration(text: &str) -> Option<usize> {
    let mut len = 0;
    loop {
        let digits = number(&text[len..]);
        if digits == 0 {
            break;
        }
        let after = &text[len + digits..];
        let unit = ["ns", "us", "µs", "ms", "s", "m", "h", "d"]
            .iter()
            .filter(|unit| after.starts_with(**unit))
            .map(|unit| unit.len())
            .max()?;
        len += digits + unit;
    }
    let ends = !text[len..].starts_with(|c: char| c.is_alphanumeric());
    (len > 0 && ends).then_some(len)
}

/// The length of the RFC 3339 instant at the start of `text`.
fn instant(text: &str) -> Option<usize> {
    const SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    let bytes = text.as_bytes();
    if bytes.len() < SHAPE.len() {
        return None;
    }
    let fits = SHAPE.iter().zip(bytes).all(|(shape, byte)| match shape {
        b'd' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        exact => exact == byte,
    });
    if !fits {
        return None;
    }
    let mut len = SHAPE.len();
    if bytes.get(len) == Some(&b'.') {
        len += 1 + bytes[len + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    }
    match bytes.get(len) {
        Some(b'Z' | b'z') => len += 1,
        Some(b'+' | b'-') if bytes.len() >= len + 6 && text.is_char_boundary(len + 6) => len += 6,
        Some(_) | None => {}
    }
    Some(len)
}

const UUID_LEN: usize = 36;

fn is_uuid(text: &str) -> bool {
    let Some(candidate) = text.get(..UUID_LEN) else { return false };
    !text[UUID_LEN..].starts_with(|c: char| c.is_ascii_alphanumeric())
        && candidate.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn is_ulid(word: &str) -> bool {
    word.len() == 26
        && word.starts_with(|c: char| ('0'..='7').contains(&c))
        && word.bytes().all(|byte| {
            byte.is_ascii_alphanumeric()
                && !matches!(byte.to_ascii_uppercase(), b'I' | b'L' | b'O' | b'U')
        })
}

/// Hexadecimal, and not a word or a number that happens to look so.
fn is_digest(word: &str) -> bool {
    word.len() >= 12
        && word.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        && word.bytes().any(|byte| byte.is_ascii_digit())
        && word.bytes().any(|byte| byte.is_ascii_lowercase())
}

/// All that is stable about one node, to sort it among siblings whose order is chance. It is the same
/// for a node and for its stable form.
pub(super) fn key(node: &TreeNode) -> String {
    let blur = |text: &str, number: &str| {
        rewrite(text, |kind, _| match kind {
            Volatile::Id => "<id>".to_owned(),
            Volatile::Number => number.to_owned(),
            Volatile::Time if number == COUNT => ELAPSED.to_owned(),
            Volatile::Time => number.to_owned(),
            Volatile::Placeholder => "id".to_owned(),
        })
    };
    let exit = node.last_exit.as_ref().map_or_else(String::new, |exit| {
        format!("{} {}", exit.reason, exit.message.as_deref().unwrap_or_default())
    });
    // In the name of a child that was started on demand, a number counts as an id.
    let name = blur(&node.id, "<id>");
    let detail = node.detail.to_string().replace(&format!("\"{COUNT}\""), COUNT);
    format!(
        "{name} {:?} {:?} {:?} {} {}",
        node.kind,
        node.type_name,
        node.state,
        blur(&exit, COUNT),
        blur(&detail, COUNT),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(text: &str) -> String {
        rewrite(text, |kind, word| format!("<{kind:?} {word}>"))
    }

    #[test]
    fn ids_are_found() {
        for id in [
            "01M7WD7TG0QJ5Y3B1V9K2N4X6Z",
            "01m7wd7tg0qj5y3b1v9k2n4x6z",
            "0192f0c1-7b7e-7cc3-98c4-dc0c0c07398f",
            "af1349b9f5f9",
        ] {
            assert_eq!(marked(id), format!("<Id {id}>"));
            assert_eq!(marked(&format!("/runs/{id}/x")), format!("/runs/<Id {id}>/x"));
            assert_eq!(marked(&format!("run_{id}")), format!("run_<Id {id}>"));
        }
    }

    #[test]
    fn numbers_durations_and_instants_are_found() {
        assert_eq!(marked("lag 3, 4.5 of 7"), "lag <Number 3>, <Number 4.5> of <Number 7>");
        assert_eq!(marked("3/5s after 4h12m"), "<Number 3>/<Time 5s> after <Time 4h12m>");
        assert_eq!(marked("in 3.1ms."), "in <Time 3.1ms>.");
        assert_eq!(
            marked("at 2026-03-01T10:00:00.123Z, no"),
            "at <Time 2026-03-01T10:00:00.123Z>, no"
        );
        assert_eq!(marked("2026-03-01T10:00:00+01:00"), "<Time 2026-03-01T10:00:00+01:00>");
    }

    #[test]
    fn a_placeholder_is_not_taken_for_a_number() {
        assert_eq!(marked("attempt-<id-12>/3"), "attempt-<<Placeholder id-12>>/<Number 3>");
    }

    #[test]
    fn words_are_left_alone() {
        for text in ["", "reader2", "sqlite, wal", "3rd", "größe2", "天気", "deadbeefcafe", "x86"]
        {
            assert_eq!(marked(text), text);
        }
    }
}
