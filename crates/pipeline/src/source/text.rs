//! The text of a file, and the way from offsets to lines and columns.

use serde::Serialize;

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in characters; a byte order mark is not counted.
    pub column: usize,
    /// Offset from the start of the file, in bytes.
    pub offset: usize,
}

/// A stretch of a file; the end is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Span {
    /// Where it begins.
    pub start: Position,
    /// Just behind it.
    pub end: Position,
}

/// A range of bytes of a text. In trees the bytes of all files of the definition are counted, one
/// file behind the other, so that a range says which file it is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Extent {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Extent {
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self { start, end: end.max(start) }
    }

    /// Whether `other` lies inside.
    pub(crate) fn holds(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// The same range, `by` bytes further.
    pub(crate) fn shifted(self, by: usize) -> Self {
        Self { start: self.start + by, end: self.end + by }
    }

    /// The smallest extent that holds both.
    pub(crate) fn to(self, other: Self) -> Self {
        Self::new(self.start, other.end)
    }
}

/// A file without its byte order mark, indexed once.
#[derive(Debug)]
pub(crate) struct SourceText {
    text: String,
    /// Bytes of the byte order mark that was taken off.
    shift: usize,
    /// First byte of every line.
    lines: Vec<usize>,
    /// Byte offset of every `STRIDE`th character; empty when every character is one byte.
    marks: Vec<usize>,
}

const STRIDE: usize = 64;
const BYTE_ORDER_MARK: &str = "\u{feff}";

impl SourceText {
    /// Indexes `bytes`.
    ///
    /// # Errors
    ///
    /// The offset of the first byte that is not UTF-8.
    pub(crate) fn new(bytes: &[u8]) -> Result<Self, usize> {
        let whole = std::str::from_utf8(bytes).map_err(|error| error.valid_up_to())?;
        let text = whole.strip_prefix(BYTE_ORDER_MARK).unwrap_or(whole);
        Ok(Self::index(text, whole.len() - text.len()))
    }

    /// What can be read of `bytes`, to show a place in a file that is not UTF-8.
    pub(crate) fn lossy(bytes: &[u8]) -> Self {
        Self::index(&String::from_utf8_lossy(bytes), 0)
    }

    fn index(text: &str, shift: usize) -> Self {
        let bytes = text.as_bytes();
        let mut lines = vec![0];
        for (at, byte) in bytes.iter().enumerate() {
            let ends = *byte == b'\n' || (*byte == b'\r' && bytes.get(at + 1) != Some(&b'\n'));
            if ends {
                lines.push(at + 1);
            }
        }
        let marks = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().step_by(STRIDE).map(|(at, _)| at).collect()
        };
        Self { text: text.to_owned(), shift, lines, marks }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The text of `extent`, cut to what exists.
    pub(crate) fn slice(&self, extent: Extent) -> &str {
        self.text.get(extent.start..extent.end).unwrap_or("")
    }

    /// The byte offset of the character number `index`.
    pub(crate) fn byte_of_char(&self, index: usize) -> usize {
        if self.marks.is_empty() {
            return index.min(self.text.len());
        }
        let Some(base) = self.marks.get(index / STRIDE) else { return self.text.len() };
        self.text[*base..]
            .char_indices()
            .nth(index % STRIDE)
            .map_or(self.text.len(), |(at, _)| base + at)
    }

    fn chars_before(&self, byte: usize) -> usize {
        if self.marks.is_empty() {
            return byte;
        }
        let block = self.marks.partition_point(|mark| *mark <= byte).saturating_sub(1);
        block * STRIDE + self.text[self.marks[block]..byte].chars().count()
    }

    /// The place of the byte `byte`, which is moved back to the start of its character.
    pub(crate) fn position(&self, byte: usize) -> Position {
        let mut byte = byte.min(self.text.len());
        while !self.text.is_char_boundary(byte) {
            byte -= 1;
        }
        let line = self.lines.partition_point(|start| *start <= byte);
        let column = self.chars_before(byte) - self.chars_before(self.lines[line - 1]) + 1;
        Position { line, column, offset: byte + self.shift }
    }

    /// The line number `line` (from 1) without its end.
    pub(crate) fn line(&self, line: usize) -> &str {
        let start = self.lines.get(line - 1).copied().unwrap_or(self.text.len());
        let end = self.lines.get(line).copied().unwrap_or(self.text.len());
        self.text[start..end].trim_end_matches(['\n', '\r'])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_and_know_all_three_line_ends() {
        let text = SourceText::new("\u{feff}añb\r\ncd\re\nü".as_bytes()).unwrap();
        let at = |byte| {
            let place = text.position(byte);
            (place.line, place.column, place.offset)
        };
        assert_eq!(at(0), (1, 1, 3));
        assert_eq!(at(3), (1, 3, 6));
        assert_eq!(at(6), (2, 1, 9));
        assert_eq!(at(9), (3, 1, 12));
        assert_eq!(at(11), (4, 1, 14));
        assert_eq!(at(12), (4, 1, 14), "inside a character is its start");
        assert_eq!(at(99), (4, 2, 16));
        assert_eq!((text.line(1), text.line(3), text.line(4)), ("añb", "e", "ü"));
    }

    #[test]
    fn characters_map_to_bytes_over_block_borders() {
        let long: String = "aé€".repeat(100);
        let text = SourceText::new(long.as_bytes()).unwrap();
        for (index, (byte, _)) in long.char_indices().enumerate() {
            assert_eq!(text.byte_of_char(index), byte);
            assert_eq!(text.position(byte).column, index + 1);
        }
        assert_eq!(text.byte_of_char(10_000), long.len());
    }
}
