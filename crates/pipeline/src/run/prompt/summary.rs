//! Extracts: the sentences and list items of a text that come first, or are about something.

use crate::expression::cut_at_word;

/// A sentence or an item of a list.
#[derive(Debug)]
struct Unit<'t> {
    text: &'t str,
    chars: usize,
    /// Whether it is about what is asked for.
    fits: bool,
}

/// At most `most` characters of `text`: whole sentences and items in their order, those about
/// `focus` before all others. Without any that is short enough, the beginning of the best one.
pub(super) fn summary(text: &str, focus: &str, bullets: bool, most: u32) -> String {
    let words: Vec<String> = words(focus).collect();
    let units: Vec<Unit<'_>> = units(text)
        .map(|text| {
            let fits = !words.is_empty() && self::words(text).any(|word| words.contains(&word));
            Unit { text, chars: text.chars().count(), fits }
        })
        .collect();
    let lead = if bullets { 2 } else { 0 };
    let mut left = usize::try_from(most).unwrap_or(usize::MAX);
    let mut taken = vec![false; units.len()];
    let mut any = false;
    for wanted in [true, false] {
        for (place, unit) in units.iter().enumerate().filter(|(_, unit)| unit.fits == wanted) {
            let needed = unit.chars + lead + usize::from(any);
            if needed > left {
                // Leading sentences: none is left out between two that are taken.
                break;
            }
            left -= needed;
            taken[place] = true;
            any = true;
        }
    }
    let shown = |text: &str| if bullets { format!("- {text}") } else { text.to_owned() };
    if !any {
        let best = units.iter().find(|unit| unit.fits).or(units.first());
        return best.map_or(String::new(), |unit| cut_at_word(&shown(unit.text), most));
    }
    let kept =
        units.iter().zip(taken).filter(|(_, taken)| *taken).map(|(unit, _)| shown(unit.text));
    kept.collect::<Vec<_>>().join(if bullets { "\n" } else { " " })
}

/// Lower-case words of three characters or more.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    let all =
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.chars().nth(2).is_some());
    all.map(str::to_lowercase)
}

/// Sentences of paragraphs, and items of lists without their marks; headings and rules are none.
fn units(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.starts_with('#')).flat_map(|line| {
        let (item, is_item) = item(line);
        let sentences = if is_item { Sentences::whole(item) } else { Sentences::of(item) };
        sentences.filter(|unit| unit.chars().any(char::is_alphanumeric))
    })
}

/// The text of a list item, and whether `line` is one.
fn item(line: &str) -> (&str, bool) {
    for mark in ["- ", "* ", "+ ", "• "] {
        if let Some(item) = line.strip_prefix(mark) {
            return (item.trim_start(), true);
        }
    }
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let behind = &line[digits..];
    match behind.strip_prefix(". ").or(behind.strip_prefix(") ")) {
        Some(item) if digits > 0 => (item.trim_start(), true),
        Some(_) | None => (line, false),
    }
}

/// The sentences of one line.
struct Sentences<'t> {
    rest: &'t str,
    whole: bool,
}

impl<'t> Sentences<'t> {
    fn of(rest: &'t str) -> Self {
        Self { rest, whole: false }
    }

    fn whole(rest: &'t str) -> Self {
        Self { rest, whole: true }
    }
}

impl<'t> Iterator for Sentences<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        if self.rest.is_empty() {
            return None;
        }
        let end = if self.whole { None } else { sentence_end(self.rest) };
        let (sentence, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest.trim_start();
        Some(sentence.trim_end())
    }
}

/// Where the first sentence ends: behind `.`, `!` or `?` and closing marks, before white space.
fn sentence_end(text: &str) -> Option<usize> {
    let mut ended = false;
    for (at, c) in text.char_indices() {
        match c {
            '.' | '!' | '?' | '…' => ended = true,
            '"' | '\'' | ')' | ']' | '”' | '’' => (),
            c if c.is_whitespace() && ended => return Some(at),
            _ => ended = false,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Report\n\nAll is well. Costs rose by 3.5 percent! Why?\n\n\
        - faster disks\n- new *staff*\n1. better locks\n---\nThe end (for now). More.";

    #[test]
    fn summaries_are_leading_sentences_and_items() {
        for (focus, bullets, most, expected) in [
            ("", false, 50, "All is well. Costs rose by 3.5 percent! Why?"),
            ("", true, 60, "- All is well.\n- Costs rose by 3.5 percent!\n- Why?"),
            (
                "",
                false,
                1000,
                "All is well. Costs rose by 3.5 percent! Why? faster disks \
              new *staff* better locks The end (for now). More.",
            ),
            ("locks and disks", true, 32, "- faster disks\n- better locks"),
            ("LOCKS", false, 30, "All is well. better locks"),
            ("", false, 10, "All is..."),
            ("staff", false, 8, "new..."),
        ] {
            let found = summary(TEXT, focus, bullets, most);
            assert_eq!(found, expected, "{focus} {bullets} {most}");
            assert!(found.chars().count() <= most as usize);
        }
        assert_eq!(summary("", "", false, 10), "");
        assert_eq!(summary(" \n# head\n---\n", "", true, 10), "");
    }
}
