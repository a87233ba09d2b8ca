//! "Did you mean": the nearest of the names that would have been right (YF-23).

/// The candidate nearest to `name`, when it is near enough: two edits, three for names longer
/// than eight characters, and always less than half of what would have been right.
///
/// ```
/// use perennial_core::nearest;
///
/// assert_eq!(nearest("ecko", ["echo", "claude"]), Some("echo"));
/// assert_eq!(nearest("translate", ["echo", "claude"]), None);
/// ```
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    if length > NAME_MAX {
        return None;
    }
    let allowed = (if length > 8 { 3 } else { 2 }).min(length.saturating_sub(1));
    candidates
        .into_iter()
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= allowed)
        .map(|candidate| (edits(name, candidate), candidate))
        .filter(|(edits, candidate)| {
            *edits <= allowed && *edits * 2 < candidate.chars().count().max(3)
        })
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Longer names are not compared.
const NAME_MAX: usize = 128;

/// Insertions, deletions, replacements and exchanges of neighbours between two names.
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = last[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let keys = ["prompt", "condition", "claude_options", "name", "role"];
        for (name, expected) in [
            ("promt", Some("prompt")),
            ("pormpt", Some("prompt")),
            ("nmae", Some("name")),
            ("claude_optoin", Some("claude_options")),
            ("temperature", None),
            ("nane", Some("name")),
            ("file", None),
            ("xy", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, keys), expected, "{name}");
        }
    }
}
