//! Texts inside of pictures that are written as text: what means something there is made harmless.

/// `text` for the inside of a quoted Mermaid label. Mermaid has no escape but entities by number, and
/// reads directives, styles, Markdown and HTML in labels too: so all ASCII punctuation is written as its
/// number but for the few characters of ordinary names that mean nothing there.
pub fn mermaid_label(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '_' | '-' | '.' | '/' | ',' => out.push(c),
            c if c.is_ascii_punctuation() => out.push_str(&format!("#{};", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// `text` for the inside of a quoted DOT string: a quote ends it, a backslash begins an escape that means
/// something in a label, and an ampersand begins an entity.
pub fn dot_label(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '&' => out.push_str("&amp;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_a_picture_is_made_harmless() {
        let odd = "a-b_c.d/e,f \"g\" \\ & <h> #";
        assert_eq!(mermaid_label(odd), "a-b_c.d/e,f #34;g#34; #92; #38; #60;h#62; #35;");
        assert_eq!(dot_label(odd), "a-b_c.d/e,f \\\"g\\\" \\\\ &amp; <h> #");
    }
}
