//! Texts from documents, made harmless and short enough for a picture.

/// Longest name or label.
const CHARS_MAX: usize = 80;
/// Lines of a label; of more it says how many.
const LINES_MAX: usize = 4;

/// One line of at most so many characters, in which nothing acts on the text around it.
pub(super) fn plain(text: &str) -> String {
    let harmless = |c: char| if acts(c) { '\u{fffd}' } else { c };
    let words: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut plain: String = words.chars().take(CHARS_MAX).map(harmless).collect();
    if words.chars().nth(CHARS_MAX).is_some() {
        plain.pop();
        plain.push('…');
    }
    plain
}

/// The lines of a label, each [`plain`].
pub(super) fn lines(label: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = label.iter().take(LINES_MAX).map(|line| plain(line)).collect();
    if label.len() > LINES_MAX {
        lines.push(format!("… {} more", label.len() - LINES_MAX));
    }
    lines
}

/// Control characters, and those that reverse or hide what stands around them.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}
