//! Lines of Markdown: which stand in a fenced block, and the blocks.

/// A fenced block of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block<'t> {
    /// What stands behind the opening fence.
    pub(super) language: &'t str,
    /// Its lines.
    pub(super) body: &'t str,
}

/// The fence that `line` is: its mark, how often it stands there, and what follows.
fn fence(line: &str) -> Option<(char, usize, &str)> {
    let line = line.trim_start();
    let mark = line.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
    let rest = line.trim_start_matches(mark);
    let count = line.len() - rest.len();
    (count >= 3).then(|| (mark, count, rest.trim()))
}

/// Follows fences line by line.
#[derive(Debug, Default)]
pub(super) struct Fences {
    open: Option<(char, usize)>,
}

impl Fences {
    /// Whether `line`, the next one, is a fence or stands in a block.
    pub(super) fn hold(&mut self, line: &str) -> bool {
        match (self.open, fence(line)) {
            (Some((mark, count)), Some((found, times, behind))) => {
                if found == mark && times >= count && behind.is_empty() {
                    self.open = None;
                }
                true
            }
            (Some(_), None) => true,
            (None, Some((mark, count, behind))) => {
                let opens = !(mark == '`' && behind.contains('`'));
                self.open = opens.then_some((mark, count));
                opens
            }
            (None, None) => false,
        }
    }
}

/// The blocks of `text` that are closed.
pub(super) fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut found = Vec::new();
    let mut fences = Fences::default();
    let mut open: Option<(&str, usize)> = None;
    let mut at = 0;
    for whole in text.split_inclusive('\n') {
        let start = at;
        at += whole.len();
        let was_open = fences.open.is_some();
        let held = fences.hold(whole);
        match (was_open, fences.open.is_some()) {
            (false, true) if held => {
                let language = fence(whole).map_or("", |(_, _, behind)| behind);
                open = Some((language, at));
            }
            (true, false) => {
                if let Some((language, from)) = open.take() {
                    found.push(Block { language, body: &text[from..start] });
                }
            }
            _ => (),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_end_with_a_fence_as_long_as_theirs() {
        let text = "a\n```rust\nlet x;\n```\n~~~\n```\n~~~ no\n~~~~\n``` `x` ```\n````\n```\n````\n```\nopen";
        let found: Vec<_> =
            blocks(text).into_iter().map(|block| (block.language, block.body)).collect();
        assert_eq!(found, [("rust", "let x;\n"), ("", "```\n~~~ no\n"), ("", "```\n")]);
        assert_eq!(blocks("```"), []);
        assert_eq!(blocks("```\n```"), [Block { language: "", body: "" }]);
    }
}
