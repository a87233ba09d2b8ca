//! What a text has of that which a format is about (YS-26).

use serde_json::{Value, json};

use super::{
    Format,
    fences::{Fences, blocks},
    operations::key_points,
};
use crate::expression::{cut_at_word, pretty};

/// Characters of the summary of a structured text.
const LEAD: u32 = 200;
/// Brackets in a text that are tried as the beginning of JSON.
const BRACKETS_TRIED: usize = 256;

/// The part of `text` that `format` is about.
pub(super) fn found(text: &str, format: Format, at: &str) -> String {
    match format {
        Format::Text => text.to_owned(),
        Format::Json => json_in(text, at),
        Format::Structured => structured(text),
        Format::Summary => first_paragraph(text).to_owned(),
        Format::Markdown => with_headings(text),
    }
}

/// The whole text, else the first fenced block, else the first object or list that is JSON; else a record of what
/// there is instead.
fn json_in(text: &str, at: &str) -> String {
    let is_json = |text: &&str| serde_json::from_str::<Value>(text).is_ok();
    if let Some(whole) = Some(text.trim()).filter(is_json) {
        return whole.to_owned();
    }
    let fenced = blocks(text).into_iter().map(|block| block.body.trim()).find(is_json);
    if let Some(found) = fenced.or_else(|| balanced(text)) {
        return found.to_owned();
    }
    pretty(&json!({
        "extracted_content": text,
        "extraction_metadata": {
            "format": "json", "extracted_at": at, "content_length": text.chars().count(),
        },
    }))
}

fn balanced(text: &str) -> Option<&str> {
    let starts = text.match_indices(['{', '[']).take(BRACKETS_TRIED);
    starts.map(|(start, _)| &text[start..]).find_map(|rest| {
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let _value = values.next()?.ok()?;
        Some(&rest[..values.byte_offset()])
    })
}

fn structured(text: &str) -> String {
    let text = text.trim();
    let lead = cut_at_word(&text.split_whitespace().collect::<Vec<_>>().join(" "), LEAD);
    let mut all = format!("## Summary\n\n{lead}\n");
    let points = key_points(text);
    if !points.is_empty() {
        all.push_str("\n## Key Points\n\n");
        points.iter().for_each(|point| all.extend(["- ", point, "\n"]));
    }
    all + "\n## Full Content\n\n" + text
}

/// The first lines that are no heading, up to an empty one.
fn first_paragraph(text: &str) -> &str {
    let (mut from, mut at) = (None, 0);
    for line in text.split_inclusive('\n') {
        match from {
            None if line.trim().is_empty() || line.trim_start().starts_with('#') => (),
            None => from = Some(at),
            Some(from) if line.trim().is_empty() => return text[from..at].trim(),
            Some(_) => (),
        }
        at += line.len();
    }
    from.map_or(text.trim(), |from| text[from..].trim())
}

/// Whether `line` is a heading with marks before it.
pub(super) fn heading(line: &str) -> Option<(usize, &str)> {
    let text = line.trim_start_matches('#');
    let level = line.len() - text.len();
    let is_heading = (1..=6).contains(&level) && text.chars().any(|c| !c.is_whitespace());
    is_heading.then_some((level, text))
}

/// All headings as `# text` with empty lines around them; blocks of code as they are.
fn with_headings(text: &str) -> String {
    let mut fences = Fences::default();
    let mut lines: Vec<String> = Vec::new();
    let mut after_heading = false;
    let put = |lines: &mut Vec<String>, level: usize, text: &str| {
        while lines.last().is_some_and(|last| last.trim().is_empty()) {
            lines.pop();
        }
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.push(format!("{} {text}", "#".repeat(level)));
    };
    for line in text.trim().lines() {
        let held = fences.hold(line);
        if after_heading && line.trim().is_empty() {
            continue;
        }
        // A line below a paragraph of one line makes that a heading.
        let under = (!held).then(|| underline(line)).flatten();
        let above = lines.last().filter(|above| {
            let single = lines.len() < 2 || lines[lines.len() - 2].trim().is_empty();
            single && !after_heading && is_prose(above)
        });
        if let (Some(level), Some(above)) = (under, above.map(|above| above.trim().to_owned())) {
            lines.pop();
            put(&mut lines, level, &above);
            after_heading = true;
            continue;
        }
        let title = (!held).then(|| heading(line)).flatten();
        if let Some((level, title)) = title.filter(|(_, title)| title.starts_with([' ', '\t'])) {
            let bare = title.trim().trim_end_matches('#');
            let is_closed = bare.is_empty() || bare.ends_with([' ', '\t']);
            put(&mut lines, level, if is_closed { bare.trim() } else { title.trim() });
            after_heading = true;
            continue;
        }
        if after_heading {
            lines.push(String::new());
        }
        after_heading = false;
        lines.push(line.trim_end().to_owned());
    }
    lines.join("\n")
}

fn underline(line: &str) -> Option<usize> {
    let line = line.trim();
    let of = |mark: char| line.len() >= 3 && line.chars().all(|c| c == mark);
    if of('=') { Some(1) } else { of('-').then_some(2) }
}

/// Whether a line may be the text of a heading: no item of a list, no table, no quotation.
fn is_prose(line: &str) -> bool {
    let first = line.trim_start().chars().next();
    first.is_some_and(|first| !matches!(first, '-' | '*' | '+' | '|' | '>' | '`' | '~' | '#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_the_whole_text_or_a_block_or_the_first_that_there_is() {
        for (text, expected) in [
            (" {\"a\": 1} ", "{\"a\": 1}"),
            ("7", "7"),
            ("x [9]\n```\nno\n```\n```json\n{\"a\":\n 1}\n```", "{\"a\":\n 1}"),
            ("a set {x} of [1, {\"b\": [2]}] and {}", "[1, {\"b\": [2]}]"),
            ("{ \"a\": {\"b\": 1}", "{\"b\": 1}"),
        ] {
            assert_eq!(found(text, Format::Json, "now"), expected, "{text}");
        }
        let none: Value = serde_json::from_str(&found("é {x}", Format::Json, "now")).unwrap();
        let metadata = json!({"format": "json", "extracted_at": "now", "content_length": 5});
        assert_eq!(none, json!({"extracted_content": "é {x}", "extraction_metadata": metadata}));
        assert!(found(&"[".repeat(100_000), Format::Json, "now").contains("extracted_content"));
    }

    #[test]
    fn structured_texts_have_a_lead_key_points_and_everything() {
        let text = "One  two.\n- a\n2. b\n";
        let expected = "## Summary\n\nOne two. - a 2. b\n\n## Key Points\n\n- a\n- b\n\n\
            ## Full Content\n\nOne  two.\n- a\n2. b";
        assert_eq!(found(text, Format::Structured, ""), expected);
        let long = found(&"word ".repeat(100), Format::Structured, "");
        let lead = long.lines().nth(2).unwrap();
        assert!(lead.ends_with("word...") && lead.chars().count() <= 200, "{lead}");
        assert!(!long.contains("Key Points"));
    }

    #[test]
    fn the_first_paragraph_is_no_heading() {
        for (text, expected) in [
            ("# T\n\none\ntwo\n\nthree", "one\ntwo"),
            ("one", "one"),
            ("# only", "# only"),
            ("\n\n one \n \nx", "one"),
        ] {
            assert_eq!(found(text, Format::Summary, ""), expected, "{text}");
        }
    }

    #[test]
    fn headings_have_one_notation() {
        let text = "Title\n=====\ntext\n##  Two ##\nmore\n\nThree\n---\n\n\n\n#none\n- item\n---\na\nb\n===\n\
            ```\n# code\nx\n===\n```\n# C#\nend  \n";
        let expected = "# Title\n\ntext\n\n## Two\n\nmore\n\n## Three\n\n#none\n- item\n---\na\nb\n===\n\
            ```\n# code\nx\n===\n```\n\n# C#\n\nend";
        assert_eq!(found(text, Format::Markdown, ""), expected);
    }
}
