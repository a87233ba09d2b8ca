//! `file` parts: reading, decoding, filling in (YP-5 to YP-7). Files are read anew at every attempt,
//! so that a file that was rewritten is always seen; their text is a part of the request and of its
//! digest.

use std::path::PathBuf;

use perennial_core::{FailureClass, failure::Failure};
use perennial_tools::files::{Access, Base, FileError, Found, Kind, Pattern};
use serde_json::{Map, Value};

use super::{
    super::{
        PipelineRun,
        failure::{stopped, undecided},
        files::guarded_path,
        scope::Scope,
    },
    PROMPT_BYTES_MAX, component,
};
use crate::{
    definition::{Encoding, FilePart},
    expression::{FillError, Names as _, Unfilled, fill},
};

/// What is to be read, without anything of the run.
#[derive(Clone, Debug)]
struct Reading {
    path: String,
    base: Base,
    encoding: Encoding,
    exclude: Vec<String>,
    max_files: usize,
}

/// The text of one file.
struct FileText {
    path: String,
    text: String,
    /// A file of this name beside the document, which is another one.
    shadowed: Option<PathBuf>,
}

impl PipelineRun {
    /// The text of `part`, with `injected` in its placeholders.
    ///
    /// # Errors
    ///
    /// When something cannot be read, decoded or filled in.
    pub(super) async fn file_text(
        &self,
        part: &FilePart,
        injected: &Map<String, Value>,
        scope: &Scope<'_>,
    ) -> Result<String, Failure> {
        let path = guarded_path(&part.path, scope)?;
        let files = self.files_of(scope).await?;
        let base = self.base_of(scope.location());
        let document = if let Base::Document(folder) = &base { Some(folder.clone()) } else { None };
        let project = files.directories().project_root.clone();
        let reading = Reading {
            base,
            path: path.clone(),
            encoding: part.encoding,
            exclude: part.exclude.clone(),
            max_files: usize::try_from(part.max_files).unwrap_or(usize::MAX),
        };
        let read = files.perform(move |access| Ok(reading.read(access))).await;
        let read = read.map_err(|error| error.failure())?;
        let (found, many) = read.map_err(|unread| unread.failure(&path, project, document))?;
        let mut variables = injected.clone();
        for (name, tree) in part.variables.iter().flatten() {
            let value = tree.value(scope).map_err(|stop| stopped(&stop))?;
            variables.insert(name.clone(), value);
        }
        // Braces of a text for which nothing was given are its own business.
        let fills = part.variables.is_some() || !injected.is_empty() || part.templates;
        let mut texts = Vec::with_capacity(found.len());
        for file in found {
            if let Some(other) = &file.shadowed {
                let (path, other) = (&file.path, other.display());
                scope.warn(format!("{path} is that of the project root; {other} differs"));
            }
            let text = match &part.component {
                Some(key) => {
                    let key = key.text(scope).map_err(|stop| stopped(&stop))?;
                    component::text(&file.path, &file.text, &key)?
                }
                None => file.text,
            };
            let text =
                if fills { filled(&file.path, &text, part, &variables, scope)? } else { text };
            texts.push(if many { format!("### {}\n{text}", file.path) } else { text });
        }
        Ok(texts.join("\n"))
    }
}

fn filled(
    path: &str,
    text: &str,
    part: &FilePart,
    variables: &Map<String, Value>,
    scope: &Scope<'_>,
) -> Result<String, Failure> {
    match fill(text, variables, part.templates, scope, PROMPT_BYTES_MAX) {
        Ok(filled) => {
            if part.variables.is_some() && !filled.unknown.is_empty() {
                let names: Vec<String> =
                    filled.unknown.iter().map(|name| format!("{{{name}}}")).collect();
                scope.warn(format!(
                    "{path} has placeholders without a variable: {}",
                    names.join(", ")
                ));
            }
            Ok(filled.text)
        }
        Err(FillError { line, why }) => Err(match why {
            Unfilled::Syntax(text) => {
                let text = format!("{path}:{line}: {text}");
                Failure::new(FailureClass::Expression, "PL605", text)
            }
            Unfilled::Stop(stop) => undecided(&stop, &format!("{path}:{line}")),
            Unfilled::TooLong(bytes) => {
                let text = format!("{path}:{line}: the text grows beyond {} MiB", bytes >> 20);
                Failure::new(FailureClass::Semantic, "PL805", text)
            }
        }),
    }
}

/// Why nothing was read.
enum Unread {
    File(FileError),
    Undecodable {
        path: String,
        why: String,
    },
    TooMany {
        found: usize,
        max: usize,
    },
    /// The glob or the directory has no file.
    Nothing,
}

impl From<FileError> for Unread {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl Unread {
    /// In the words of YP-7.
    fn failure(self, path: &str, project: PathBuf, document: Option<PathBuf>) -> Failure {
        let io = |text: String| Failure::new(FailureClass::Io, "PL601", text);
        let tried = || {
            let mut places: Vec<PathBuf> =
                [Some(project), document].into_iter().flatten().map(|dir| dir.join(path)).collect();
            places.dedup();
            let places = places.iter().map(|place| place.display().to_string());
            places.collect::<Vec<_>>().join(" and ")
        };
        match self {
            Self::File(error) if error.is_not_found() => {
                io(format!("File not found: {path} (tried {})", tried()))
            }
            Self::File(FileError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                io(format!("Permission denied accessing file: {path}"))
            }
            Self::File(FileError::Io { source, .. }) => {
                io(format!("Failed to read file {path}: {source}"))
            }
            Self::File(error) => error.failure(),
            Self::Undecodable { path, why } => io(format!("Failed to read file {path}: {why}")),
            Self::TooMany { found, max } => {
                io(format!("Failed to read file {path}: {found} files, and max_files is {max}"))
            }
            Self::Nothing => {
                io(format!("File not found: {path} is a pattern or a directory without any file"))
            }
        }
    }
}

impl Reading {
    /// The texts, and whether the path means many files.
    fn read(&self, access: &Access<'_>) -> Result<(Vec<FileText>, bool), Unread> {
        let standing = access.look(&self.base, &self.path)?.map(|standing| standing.kind);
        let found = match standing {
            Some(Kind::Directory) => {
                access.list(&self.base, &self.path, true, false).map(|found| self.chosen(found))?
            }
            None if self.path.contains(Pattern::SIGNS) => {
                access.glob(&self.base, &self.path).map(|found| self.chosen(found))?
            }
            Some(_) | None => {
                return Ok((vec![self.one(access, &self.path, PROMPT_BYTES_MAX)?], false));
            }
        };
        if found.len() > self.max_files {
            return Err(Unread::TooMany { found: found.len(), max: self.max_files });
        }
        if found.is_empty() {
            return Err(Unread::Nothing);
        }
        let mut left = PROMPT_BYTES_MAX;
        let mut texts = Vec::with_capacity(found.len());
        for path in found {
            let file = self.one(access, &path, left)?;
            left = left.saturating_sub(file.text.len());
            texts.push(file);
        }
        Ok((texts, true))
    }

    /// Paths of regular files that are not excluded, in their order.
    fn chosen(&self, found: Vec<Found>) -> Vec<String> {
        let patterns: Vec<Pattern> =
            self.exclude.iter().filter_map(|glob| Pattern::new(glob).ok()).collect();
        let below = format!("{}/", self.path.trim_end_matches('/'));
        let excluded = |file: &Found| {
            let inner = file.path.strip_prefix(&below).unwrap_or(&file.path);
            let any = |pattern: &Pattern| {
                [inner, &file.path, &file.name].into_iter().any(|name| pattern.matches(name))
            };
            patterns.iter().any(any)
        };
        let mut paths: Vec<String> = found
            .into_iter()
            .filter(|file| file.kind == Kind::File && !excluded(file))
            .map(|file| file.path)
            .collect();
        paths.sort();
        paths
    }

    /// The text of the file at `path`, of at most `max` bytes.
    fn one(&self, access: &Access<'_>, path: &str, max: usize) -> Result<FileText, Unread> {
        let fits = |size: u64| usize::try_from(size).is_ok_and(|size| size <= max);
        let too_large = || FileError::TooLarge { path: path.into(), max: max as u64 };
        if access.look(&self.base, path)?.is_some_and(|standing| !fits(standing.size)) {
            return Err(too_large().into());
        }
        let content = access.read(&self.base, path)?;
        if !fits(content.identity.size) {
            return Err(too_large().into());
        }
        // One that cannot be read, or is too large, is another one.
        let differs = |other: &PathBuf| {
            let small = access.look(&self.base, &other.to_string_lossy());
            let small = matches!(small, Ok(Some(standing)) if fits(standing.size));
            let read = || access.read(&self.base, &other.to_string_lossy()).ok();
            !small || read().is_none_or(|read| read.identity.digest != content.identity.digest)
        };
        let shadowed = content.shadowed.clone().filter(differs);
        match decoded(content.bytes, self.encoding) {
            Ok(text) => Ok(FileText { path: path.to_owned(), text, shadowed }),
            Err(why) => Err(Unread::Undecodable { path: path.to_owned(), why }),
        }
    }
}

/// The text that `bytes` are; a byte order mark is none of it.
fn decoded(bytes: Vec<u8>, encoding: Encoding) -> Result<String, String> {
    match encoding {
        Encoding::Utf8 => match String::from_utf8(bytes) {
            Ok(text) => Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)),
            Err(error) => Err(format!("byte {} is not UTF-8", error.utf8_error().valid_up_to())),
        },
        Encoding::Latin1 => Ok(bytes.into_iter().map(char::from).collect()),
        Encoding::Utf16 => {
            let (units, odd) = bytes.as_chunks::<2>();
            if !odd.is_empty() {
                return Err("it has an odd number of bytes, and is not UTF-16".to_owned());
            }
            // Without a mark the least byte comes first, as on the machines that write such files.
            let (big, units) = match units {
                [[0xfe, 0xff], rest @ ..] => (true, rest),
                [[0xff, 0xfe], rest @ ..] => (false, rest),
                units => (false, units),
            };
            let unit = |pair: &[u8; 2]| {
                if big { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) }
            };
            char::decode_utf16(units.iter().map(unit))
                .collect::<Result<String, _>>()
                .map_err(|error| format!("{:#06x} is not UTF-16", error.unpaired_surrogate()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_decoded_or_refused() {
        let utf16 = |text: &str, mark: &[u8], big: bool| {
            let units = text.encode_utf16();
            let bytes = units.flat_map(|u| if big { u.to_be_bytes() } else { u.to_le_bytes() });
            mark.iter().copied().chain(bytes).collect::<Vec<u8>>()
        };
        for (bytes, encoding, expected) in [
            (b"\xef\xbb\xbfa\xc3\xa4".to_vec(), Encoding::Utf8, Ok("aä")),
            (b"a\xff".to_vec(), Encoding::Utf8, Err("byte 1 is not UTF-8")),
            (b"a\xff\x80".to_vec(), Encoding::Latin1, Ok("aÿ\u{80}")),
            (utf16("aä😀", b"", false), Encoding::Utf16, Ok("aä😀")),
            (utf16("aä😀", b"\xff\xfe", false), Encoding::Utf16, Ok("aä😀")),
            (utf16("aä😀", b"\xfe\xff", true), Encoding::Utf16, Ok("aä😀")),
            (
                b"abc".to_vec(),
                Encoding::Utf16,
                Err("it has an odd number of bytes, and is not UTF-16"),
            ),
            (b"\x00\xd8a\x00".to_vec(), Encoding::Utf16, Err("0xd800 is not UTF-16")),
            (Vec::new(), Encoding::Utf16, Ok("")),
        ] {
            let found = decoded(bytes, encoding);
            assert_eq!(found.as_deref().map_err(String::as_str), expected);
        }
    }
}
