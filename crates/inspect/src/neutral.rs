//! Text from outside, made harmless (FMT-3): the name of a tool must not be able to repaint a
//! terminal, to start a line of its own, or to reverse the reading order.

use std::{borrow::Cow, fmt::Write as _};

use unicode_width::UnicodeWidthStr;

/// `text` with every control, line-breaking, invisible and reordering character written as its escape,
/// for example `\n` or `\u{1b}`.
///
/// ```
/// use perennial_inspect::neutral;
///
/// assert_eq!(neutral("an ordinary name"), "an ordinary name");
/// assert_eq!(neutral("\u{1b}[2J"), r"\u{1b}[2J"); // would have cleared the screen
/// ```
pub fn neutral(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if acts(c) => {
                write!(out, "{}", c.escape_unicode()).expect("a String takes every write");
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Whether a character does something to the text around it instead of being seen.
/// The joiners U+200C and U+200D stay: scripts and emoji need them.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// How many columns of a terminal `text` takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// [`neutral`] text of at most `columns` columns; `mark` stands for what was cut.
pub(crate) fn neutral_within(text: &str, columns: usize, mark: &str) -> String {
    // A column takes at least one character unless marks without width are stacked on it; a few on
    // each are writing, more are an attack on the reader or on the quadratic loop below.
    let chars_max = columns * 4;
    let looked_at = text.char_indices().nth(chars_max).map_or(text, |(end, _)| &text[..end]);
    let safe = neutral(looked_at);
    if looked_at.len() == text.len() && width(&safe) <= columns {
        return safe.into_owned();
    }
    let room = columns.saturating_sub(width(mark));
    let end = safe
        .char_indices()
        .map(|(start, c)| start + c.len_utf8())
        .take_while(|end| width(&safe[..*end]) <= room)
        .last()
        .unwrap_or(0);
    format!("{}{mark}", safe[..end].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_sequence_is_shown_and_not_obeyed() {
        assert_eq!(neutral("\u{1b}[31mred\u{1b}[0m"), "\\u{1b}[31mred\\u{1b}[0m");
        assert_eq!(neutral("one\ntwo\r\tthree"), "one\\ntwo\\r\\tthree");
        assert_eq!(neutral("\u{9b}2J\u{7f}\u{0}"), "\\u{9b}2J\\u{7f}\\u{0}");
        assert_eq!(neutral("a\u{202e}b\u{2028}c\u{feff}"), "a\\u{202e}b\\u{2028}c\\u{feff}");
    }

    #[test]
    fn harmless_text_is_left_alone() {
        for text in ["", "plain", "Grüße", "天気", "👩‍🚀", "back\\slash"] {
            assert!(matches!(neutral(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn no_character_that_acts_survives() {
        for c in '\0'..=char::MAX {
            let text = c.to_string();
            assert!(!neutral(&text).contains(acts), "{:x}", u32::from(c));
        }
    }

    #[test]
    fn a_cut_text_never_takes_more_columns_than_allowed() {
        for text in
            ["abcdefghijklmnop", "天気天気天気天気", "a\u{1b}b\u{1b}c\u{1b}d", "👩‍🚀👩‍🚀👩‍🚀👩‍🚀👩‍🚀👩‍🚀"]
        {
            for columns in 1..20 {
                let cut = neutral_within(text, columns, "…");
                assert!(width(&cut) <= columns, "{cut} in {columns}");
            }
        }
        assert_eq!(neutral_within("abcdef", 6, "…"), "abcdef");
        assert_eq!(neutral_within("abcdef", 5, "…"), "abcd…");
        assert_eq!(neutral_within("天気予報", 5, "…"), "天気…");
    }

    #[test]
    fn stacked_marks_without_width_are_bounded() {
        let tower = format!("a{}", "\u{301}".repeat(1_000_000));
        assert!(neutral_within(&tower, 10, "…").chars().count() <= 41);
    }
}
