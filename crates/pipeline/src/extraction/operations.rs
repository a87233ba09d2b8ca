//! What is looked for in an extracted text (YS-28). Each operation reads the text as it was extracted, never what
//! another has appended.

use std::{borrow::Cow, collections::BTreeSet, fmt::Write as _};

use super::{
    Operation,
    fences::{Fences, blocks},
    found::heading,
};
use crate::expression::cut_at_word;

/// Findings of one operation; what a text has more of is left out, and told.
const FINDINGS_MAX: usize = 1_000;
/// Characters of a generated summary.
const SUMMARY_CHARS: u32 = 200;

/// `text` with what `operations` append and put before it.
pub(super) fn applied(text: &str, operations: &[Operation]) -> String {
    let mut all = text.to_owned();
    for operation in operations {
        match section(*operation, text) {
            Change::Nothing => (),
            Change::Before(head) => all.insert_str(0, &head),
            Change::After(section) => {
                all.truncate(all.trim_end().len());
                all.extend(["\n\n", &section]);
            }
        }
    }
    all
}

enum Change {
    Nothing,
    Before(String),
    After(String),
}

fn section(operation: Operation, text: &str) -> Change {
    let (title, found) = match operation {
        Operation::FormatMarkdown => {
            let has = text.lines().any(|line| heading(line).is_some());
            return if has { Change::Nothing } else { Change::Before("# Content\n\n".to_owned()) };
        }
        Operation::GenerateSummary => {
            return Change::After(format!("## Generated Summary\n\n{}", generated(text)));
        }
        Operation::ExtractCodeBlocks => return code_blocks(text),
        Operation::ExtractRecommendations => {
            ("Recommendations", lines_with(text, &["recommend", "suggest"]))
        }
        Operation::ExtractLinks => ("Links", owned(links(text))),
        Operation::ExtractKeyPoints => ("Key Points", owned(key_points(text))),
        Operation::ExtractErrors => ("Errors", lines_with(text, &["error", "exception", "failed"])),
        Operation::ExtractMetrics => ("Metrics", metrics(text)),
        Operation::ExtractDependencies => ("Dependencies", owned(dependencies(text))),
        Operation::ExtractEntities => ("Entities", entities(text)),
    };
    let mut seen = BTreeSet::new();
    let found: Vec<String> = found.into_iter().filter(|one| seen.insert(one.clone())).collect();
    if found.is_empty() {
        return Change::Nothing;
    }
    let mut all = format!("## {title} Extracted\n");
    found.iter().take(FINDINGS_MAX).for_each(|one| all.extend(["\n- ", one]));
    if let Some(more) = found.len().checked_sub(FINDINGS_MAX).filter(|more| *more > 0) {
        let _infallible = write!(all, "\n- and {more} more");
    }
    Change::After(all)
}

fn owned(texts: Vec<&str>) -> Vec<String> {
    texts.into_iter().map(str::to_owned).collect()
}

fn code_blocks(text: &str) -> Change {
    let found = blocks(text);
    if found.is_empty() {
        return Change::Nothing;
    }
    let mut all = "## Code Blocks Extracted".to_owned();
    for block in found.iter().take(FINDINGS_MAX) {
        // The fence is longer than every run of marks inside.
        let runs = block.body.split(|c| c != '`').map(str::len);
        let fence = "`".repeat(runs.max().unwrap_or(0).max(2) + 1);
        let body = block.body.trim_end_matches('\n');
        let _infallible = write!(all, "\n\n{fence}{}\n{body}\n{fence}", block.language);
    }
    if let Some(more) = found.len().checked_sub(FINDINGS_MAX).filter(|more| *more > 0) {
        let _infallible = write!(all, "\n\n{more} more");
    }
    Change::After(all)
}

/// Lines outside of blocks of code, trimmed, that are no headings.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut fences = Fences::default();
    let prose = text.lines().filter(move |line| !fences.hold(line)).map(str::trim);
    prose.filter(|line| !line.is_empty() && heading(line).is_none())
}

fn lines_with(text: &str, words: &[&str]) -> Vec<String> {
    let has = |line: &&str| {
        let lower = line.to_lowercase();
        words.iter().any(|word| lower.contains(word))
    };
    lines(text).filter(has).map(|line| item(line).unwrap_or(line).to_owned()).collect()
}

/// Texts of the lines that begin with `- `, `* ` or `1.`
pub(super) fn key_points(text: &str) -> Vec<&str> {
    lines(text).filter_map(item).collect()
}

/// The text of a list's item.
fn item(line: &str) -> Option<&str> {
    let bullet = line.strip_prefix("- ").or_else(|| line.strip_prefix("* "));
    let numbered = || {
        let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
        let text = rest.strip_prefix('.').filter(|_| rest.len() < line.len())?;
        // `3.5 percent` is no item.
        text.starts_with(char::is_whitespace).then_some(text)
    };
    bullet.or_else(numbered).map(str::trim).filter(|text| !text.is_empty())
}

/// Addresses with `http` or `https`, without what a sentence puts around them.
fn links(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut from = 0;
    for (start, _) in text.match_indices("http") {
        let rest = &text[start..];
        let scheme = ["https://", "http://"].into_iter().find(|scheme| rest.starts_with(scheme));
        let Some(scheme) = scheme.filter(|_| start >= from) else { continue };
        let link =
            rest[..link_end(rest)].trim_end_matches(['.', ',', ';', ':', '!', '?', '*', '_']);
        from = start + link.len();
        if link.len() > scheme.len() {
            found.push(link);
        }
    }
    found
}

/// Where an address ends: before white space, a mark that is none of it, or a bracket that it did not open.
fn link_end(text: &str) -> usize {
    let mut open = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' => open += 1,
            ')' if open == 0 => return at,
            ')' => open -= 1,
            '<' | '>' | '"' | '`' | '\'' | '|' | ']' => return at,
            c if c.is_whitespace() => return at,
            _ => (),
        }
    }
    text.len()
}

/// Pairs of a name and a number: `name: 3.5 ms`, `name = 7%`.
fn metrics(text: &str) -> Vec<String> {
    let pair = |line: &str| {
        let line = item(line).unwrap_or(line);
        let line = line.replace(['*', '`', '|'], "");
        let (name, value) = line.split_once([':', '='])?;
        let is_clock = name.ends_with(|c: char| c.is_ascii_digit())
            && value.starts_with(|c: char| c.is_ascii_digit());
        let (name, value) = (name.trim(), value.trim());
        let fits = name.chars().any(char::is_alphabetic) && name.chars().count() <= 60;
        let number = value.strip_prefix(['-', '+', '$', '€', '~']).unwrap_or(value);
        let digits: String = number
            .chars()
            .take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ',' | '_'))
            .collect();
        let behind = &number[digits.len()..];
        let unit: String = behind.trim_start().chars().take_while(|c| !c.is_whitespace()).collect();
        let is_number = digits.starts_with(|c: char| c.is_ascii_digit());
        // A date or a version is no number.
        let ends = !behind.starts_with([':', '-', '/']) && digits.matches('.').count() < 2;
        let unit = unit.trim_end_matches(['.', ',', ';', ')']);
        let sign = &value[..value.len() - number.len()];
        let digits = digits.trim_end_matches(['.', ',', '_']);
        let gap = if unit.is_empty() || unit.starts_with('%') || !behind.starts_with(' ') {
            ""
        } else {
            " "
        };
        (fits && is_number && ends && !is_clock)
            .then(|| format!("{name}: {sign}{digits}{gap}{unit}"))
    };
    lines(text).filter_map(pair).collect()
}

/// Lines that bring something in from elsewhere, in the words of many languages; also in blocks of code.
fn dependencies(text: &str) -> Vec<&str> {
    const WORDS: [&str; 9] = [
        "import ",
        "from ",
        "use ",
        "require ",
        "require(",
        "#include ",
        "include ",
        "using ",
        "alias ",
    ];
    let is_one = |line: &str| {
        let word = WORDS.iter().find(|word| line.starts_with(**word));
        let assigned = ["= require(", "= await import(", "= import("];
        let code = |line: &str| {
            // Prose that begins with such a word has many, and ends as a sentence.
            line.split_whitespace().count() <= 8 && !line.ends_with(['.', ':', '?', '!'])
        };
        match word {
            Some(&"from ") => line.contains(" import "),
            Some(_) => code(line),
            None => assigned.iter().any(|mark| line.contains(mark)),
        }
    };
    text.lines().map(str::trim).filter(|line| is_one(line)).collect()
}

/// Names of several capitalised words, addresses and paths.
fn entities(text: &str) -> Vec<String> {
    let mut found = owned(links(text));
    for line in lines(text) {
        let line = item(line).unwrap_or(line);
        let mut name: Vec<&str> = Vec::new();
        let end = |name: &mut Vec<&str>, found: &mut Vec<String>| {
            if name.len() > 1 {
                found.push(name.join(" "));
            }
            name.clear();
        };
        for whole in line.split_whitespace() {
            let word = whole.trim_matches(|c: char| {
                !c.is_alphanumeric() && !matches!(c, '/' | '_' | '.' | '~')
            });
            let word = word.trim_end_matches('.');
            let is_link = whole.contains("://");
            if !is_link && (is_address(word) || is_path(word)) {
                end(&mut name, &mut found);
                found.push(word.to_owned());
                continue;
            }
            let capital = word.chars().next().is_some_and(char::is_uppercase);
            let plain =
                word.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '\'' | '’' | '&'));
            // `I`, and `A` before a name, begin none.
            let begins = !name.is_empty() || word.chars().nth(1).is_some();
            if is_link || !capital || !plain || !begins {
                end(&mut name, &mut found);
                continue;
            }
            name.push(word);
            if whole.ends_with(['.', ',', ';', ':', '!', '?', ')']) {
                end(&mut name, &mut found);
            }
        }
        end(&mut name, &mut found);
    }
    found
}

fn is_address(word: &str) -> bool {
    word.split_once('@').is_some_and(|(name, host)| {
        let dot = host.find('.').is_some_and(|at| at > 0 && at + 1 < host.len());
        !name.is_empty() && dot && !host.contains('@')
    })
}

/// `/etc/hosts`, `src/main.rs`, `./x`: with a slash between names, and no fraction or choice of words.
fn is_path(word: &str) -> bool {
    let rooted = word.starts_with('/')
        || word.starts_with("./")
        || word.starts_with("../")
        || word.starts_with("~/");
    let names = word.split('/').filter(|name| !name.is_empty()).count();
    let file = word.rsplit('/').next().unwrap_or_default();
    let has_suffix =
        file.rsplit_once('.').is_some_and(|(stem, suffix)| !stem.is_empty() && !suffix.is_empty());
    (rooted && names > 0 && word.chars().any(char::is_alphanumeric)) || (names > 1 && has_suffix)
}

/// The first three sentences outside of headings and code, closed with `...`.
fn generated(text: &str) -> String {
    let prose = lines(text).map(|line| item(line).unwrap_or(line)).collect::<Vec<_>>().join(" ");
    let mut rest = prose.as_str();
    let mut end = 0;
    for _ in 0..3 {
        let Some(at) = sentence_end(rest) else {
            end = prose.len();
            break;
        };
        end += at;
        rest = &rest[at..];
    }
    let sentences: Cow<'_, str> = match prose[..end].trim_end() {
        "" => text.trim().into(),
        some => some.into(),
    };
    let bare = sentences.trim_end_matches(['.', '…', ' ']);
    let whole = format!("{bare}...");
    if whole.chars().count() <= SUMMARY_CHARS as usize {
        whole
    } else {
        cut_at_word(&sentences, SUMMARY_CHARS)
    }
}

/// Behind the first `.`, `!` or `?` that white space follows.
fn sentence_end(text: &str) -> Option<usize> {
    let mut before = None;
    for (at, c) in text.char_indices() {
        if c.is_whitespace() && matches!(before, Some('.' | '!' | '?' | '…')) {
            return Some(at);
        }
        before = Some(c);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Report\n\nWe recommend Rust. See [docs](https://a.b/c_(d))(https://x.y) or \
        http://z/.\n\n- Latency: 3.5 ms\n* It failed\n1. I Suggest it\n\n```rust\nuse a::b;\nlet error = 1;\n```\n\
        At 10:30 **Ann Lee Smith**, of Big Corp, wrote to ann@x.org about src/main.rs and and/or. Cost = $7\n\
        Version: 1.2.3\nThroughput = 1,200 req/s, later 3\nUse a tool when you need one for all of it.";

    fn of(operation: Operation) -> String {
        let all = applied(TEXT, &[operation]);
        all.strip_prefix(TEXT).unwrap_or(&all).trim_start().to_owned()
    }

    #[test]
    fn each_operation_appends_what_it_finds() {
        for (operation, expected) in [
            (
                Operation::ExtractCodeBlocks,
                "## Code Blocks Extracted\n\n```rust\nuse a::b;\nlet error = 1;\n```",
            ),
            (
                Operation::ExtractRecommendations,
                "## Recommendations Extracted\n\n- We recommend Rust. See [docs](https://a.b/c_(d))(https://x.y) or \
                 http://z/.\n- I Suggest it",
            ),
            (
                Operation::ExtractLinks,
                "## Links Extracted\n\n- https://a.b/c_(d)\n- https://x.y\n- http://z/",
            ),
            (
                Operation::ExtractKeyPoints,
                "## Key Points Extracted\n\n- Latency: 3.5 ms\n- It failed\n- I Suggest it",
            ),
            (Operation::ExtractErrors, "## Errors Extracted\n\n- It failed"),
            (
                Operation::ExtractMetrics,
                "## Metrics Extracted\n\n- Latency: 3.5 ms\n- Throughput: 1,200 req/s",
            ),
            (Operation::ExtractDependencies, "## Dependencies Extracted\n\n- use a::b;"),
            (
                Operation::ExtractEntities,
                "## Entities Extracted\n\n- https://a.b/c_(d)\n- https://x.y\n- http://z/\n- Ann Lee Smith\n\
                 - Big Corp\n- ann@x.org\n- src/main.rs",
            ),
            (Operation::FormatMarkdown, ""),
        ] {
            assert_eq!(of(operation), expected, "{operation:?}");
        }
        let summary = of(Operation::GenerateSummary);
        assert!(
            summary.starts_with("## Generated Summary\n\nWe recommend Rust. See [docs]"),
            "{summary}"
        );
        assert!(summary.ends_with("...") && summary.chars().count() <= 200 + 22, "{summary}");
    }

    #[test]
    fn nothing_is_appended_where_nothing_is_found() {
        let mut all = Operation::ALL.map(|(_, operation)| operation).to_vec();
        assert_eq!(
            applied("plain words", &all),
            "# Content\n\nplain words\n\n## Generated Summary\n\nplain words..."
        );
        all.retain(|operation| {
            !matches!(operation, Operation::FormatMarkdown | Operation::GenerateSummary)
        });
        assert_eq!(applied("plain words ", &all), "plain words ");
    }

    #[test]
    fn operations_do_not_read_what_others_appended() {
        let both = [Operation::ExtractLinks, Operation::ExtractKeyPoints];
        assert_eq!(
            applied("see http://a/b now", &both),
            "see http://a/b now\n\n## Links Extracted\n\n- http://a/b"
        );
    }

    #[test]
    fn a_summary_has_three_sentences() {
        assert_eq!(generated("One. Two! Three? Four."), "One. Two! Three?...");
        assert_eq!(generated("One..."), "One...");
        let long = generated(&"word ".repeat(100));
        assert!(long.ends_with(" word...") && long.chars().count() <= 200, "{long}");
    }

    #[test]
    fn findings_are_bounded_and_told_once() {
        let mut text = "- same\n- same\n".to_owned();
        for number in 0..FINDINGS_MAX {
            let _infallible = writeln!(text, "- point {number}");
        }
        let all = applied(&text, &[Operation::ExtractKeyPoints]);
        assert!(all.ends_with("\n- and 1 more"), "{}", &all[all.len() - 60..]);
    }
}
