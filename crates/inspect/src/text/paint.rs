//! Colours of the text tree. What a colour says stands in the text as well.

/// What a piece of text wants to say by its colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing.
    #[default]
    Plain,
    /// Less important than its neighbours.
    Faint,
    /// A heading.
    Strong,
    /// All is well.
    Good,
    /// Worth a look.
    Warn,
    /// Broken.
    Bad,
}

/// Puts tones into escape sequences, or leaves them out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    /// Whether escape sequences are written at all.
    pub(crate) color: bool,
}

impl Paint {
    /// Appends `text` in `tone` to `out`.
    pub(crate) fn put(self, out: &mut String, tone: Tone, text: &str) {
        let code = match tone {
            Tone::Plain => "",
            Tone::Faint => "2",
            Tone::Strong => "1",
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "1;31",
        };
        if !self.color || code.is_empty() || text.is_empty() {
            out.push_str(text);
            return;
        }
        out.push_str("\u{1b}[");
        out.push_str(code);
        out.push('m');
        out.push_str(text);
        out.push_str("\u{1b}[0m");
    }
}
