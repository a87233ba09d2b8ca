//! What looks into files: read, write, convert, and lines one by one.

use perennial_core::{Digest, FailureClass, digest::Digester, failure::Failure};
use perennial_tools::files::{Base, FileError, Sink};
use serde_json::{Value, json};

use super::{
    Work,
    arguments::{path, word},
    because,
    conversion::{converted, rows, text, yaml},
};
use crate::{
    check::CONVERSIONS,
    expression::{Pattern, pretty},
};

/// Longest line that is worked on.
const LINE_MAX: usize = 64 * 1024 * 1024;
/// Above so many bytes lines are said to be streamed; they always are.
const STREAMING_FROM: u64 = 10_000_000;

/// What becomes of each line.
enum Processor {
    Identity,
    Upper,
    Lower,
    Trim,
    Replace(Pattern, String),
}

impl Work<'_> {
    pub(super) fn read(&self) -> Result<Value, Failure> {
        let path = path(&self.arguments.path, "path")?;
        let format = self.arguments.format.as_deref().unwrap_or("text");
        let found = self.access.read(&Base::Reads, &path);
        let found = found.map_err(|error| because("Read failed", &error))?;
        let content = match format {
            "text" => text(&found.bytes).map(Value::from),
            "json" => {
                serde_json::from_slice(&found.bytes).map_err(|error| format!("not JSON: {error}"))
            }
            "yaml" => yaml(&found.bytes),
            "csv" => rows(&found.bytes, &self.arguments.options),
            other => Err(format!("format must be one of: text, json, yaml, csv, got: {other}")),
        };
        let content = content.map_err(|why| unreadable("Read failed", &path, &why))?;
        Ok(Value::Object(self.record(json!({
            "path": path,
            "bytes": found.identity.size,
            "content": content,
            "status": "completed",
        }))))
    }

    pub(super) fn write(&self) -> Result<Value, Failure> {
        let path = path(&self.arguments.path, "path")?;
        let refused = |error: FileError| because("Write failed", &error);
        let mut bytes = pretty(&self.arguments.content).into_bytes();
        if self.arguments.append {
            // What an earlier attempt has appended is there already.
            let there = self.wanted_digest().is_some_and(|wanted| {
                self.access.digest(&Base::Workspace, &path).is_ok_and(|found| found == wanted)
            });
            bytes = if there {
                self.access.read(&Base::Workspace, &path).map_err(refused)?.bytes
            } else {
                self.appended()?
            };
        }
        let mut record =
            self.record(json!({ "path": path, "bytes": bytes.len(), "status": "completed" }));
        if self.arguments.options.dry_run {
            self.access.target(&Base::Workspace, &path).map_err(refused)?;
            record.insert("dry_run".to_owned(), true.into());
            record.insert("would".to_owned(), json!([{ "to": path }]));
        } else {
            self.access.write_atomic(&Base::Workspace, &path, &bytes).map_err(refused)?;
        }
        Ok(Value::Object(record))
    }

    /// What is there, and what is to be behind it.
    pub(super) fn appended(&self) -> Result<Vec<u8>, Failure> {
        let path = path(&self.arguments.path, "path")?;
        let mut bytes = match self.access.read(&Base::Workspace, &path) {
            Ok(found) => found.bytes,
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(because("Write failed", &error)),
        };
        bytes.extend_from_slice(pretty(&self.arguments.content).as_bytes());
        Ok(bytes)
    }

    pub(super) fn convert(&self) -> Result<Value, Failure> {
        let source = path(&self.arguments.source, "source")?;
        let destination = path(&self.arguments.destination, "destination")?;
        let format = self.arguments.format.as_deref().unwrap_or_default();
        if !CONVERSIONS.contains(&format) {
            let text = format!("Unsupported format conversion: {format}");
            return Err(Failure::new(FailureClass::Io, "PL601", text));
        }
        let refused = |error: FileError| because("Conversion failed", &error);
        let found = self.access.read(&Base::Reads, &source);
        let found = found.map_err(|error| {
            if error.is_not_found() {
                super::io(format!("Source file does not exist: {source}"))
            } else {
                refused(error)
            }
        })?;
        let bytes = converted(format, &found.bytes, &self.arguments.options)
            .map_err(|why| unreadable("Conversion failed", &source, &why))?;
        let mut record = self.record(json!({
            "source": source,
            "destination": destination,
            "format": format,
            "bytes": bytes.len(),
            "status": "completed",
        }));
        if self.arguments.options.dry_run {
            self.access.target(&Base::Workspace, &destination).map_err(refused)?;
            record.insert("dry_run".to_owned(), true.into());
            record.insert("would".to_owned(), json!([{ "from": source, "to": destination }]));
        } else {
            self.access.write_atomic(&Base::Workspace, &destination, &bytes).map_err(refused)?;
        }
        Ok(Value::Object(record))
    }

    pub(super) fn stream_process(&self) -> Result<Value, Failure> {
        let source = path(&self.arguments.source, "source")?;
        let in_place = self.arguments.destination.is_null();
        let target = if in_place {
            source.clone()
        } else {
            path(&self.arguments.destination, "destination")?
        };
        let processor = self.processor()?;
        let refused = |error: FileError| because("Stream processing failed", &error);
        let found = self.access.look(&Base::Reads, &source).map_err(refused)?;
        let size = found.map_or(0, |found| found.size);
        let mut record = self.record(json!({
            "source": source,
            "processed_path": target,
            "processor": self.arguments.processor,
            "status": "completed",
            "method": if size > STREAMING_FROM { "streaming" } else { "memory" },
        }));
        if self.arguments.options.dry_run {
            self.access.target(&Base::Workspace, &target).map_err(refused)?;
            record.insert("dry_run".to_owned(), true.into());
            record.insert("would".to_owned(), json!([{ "from": source, "to": target }]));
            return Ok(Value::Object(record));
        }
        let there = self.wanted_digest().is_some_and(|wanted| {
            self.access.digest(&Base::Workspace, &target).is_ok_and(|found| found == wanted)
        });
        if !there {
            let written = self.access.write_with(&Base::Workspace, &target, None, |sink| {
                self.lines(&source, &processor, sink)
            });
            written.map_err(refused)?;
        }
        Ok(Value::Object(record))
    }

    /// The digest of what the file is to become.
    pub(super) fn processed_digest(&self) -> Result<Digest, Failure> {
        let source = path(&self.arguments.source, "source")?;
        let processor = self.processor()?;
        let mut digester = Digester::default();
        let mut take = |bytes: &[u8]| {
            digester.update(bytes);
            Ok(())
        };
        self.lines(&source, &processor, &mut take)
            .map_err(|error| because("Stream processing failed", &error))?;
        Ok(digester.finish())
    }

    /// Hands the lines of a file, processed and with their ends, to `sink`.
    fn lines(
        &self,
        source: &str,
        processor: &Processor,
        sink: &mut Sink<'_>,
    ) -> Result<(), FileError> {
        let mut line = Vec::new();
        self.access.read_chunks(&Base::Reads, source, &mut |chunk| {
            for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(piece);
                if line.len() > LINE_MAX {
                    return Err(malformed(source, "a line has more than 64 MiB"));
                }
                if line.ends_with(b"\n") {
                    sink(processor.line(&line, source)?.as_bytes())?;
                    line.clear();
                }
            }
            Ok(())
        })?;
        if line.is_empty() { Ok(()) } else { sink(processor.line(&line, source)?.as_bytes()) }
    }

    fn processor(&self) -> Result<Processor, Failure> {
        let unknown = || {
            let text = format!("unknown processor {}", self.arguments.processor);
            Failure::new(FailureClass::Reference, "PL204", text)
        };
        let value = &self.arguments.processor;
        let (name, map) = match value.as_object() {
            None => (value.as_str().ok_or_else(unknown)?, None),
            Some(map) => match word(map, "type") {
                Some(name) => (name, Some(map)),
                None => {
                    let (name, inner) = map.iter().next().ok_or_else(unknown)?;
                    (name.as_str(), inner.as_object())
                }
            },
        };
        Ok(match name {
            "identity" => Processor::Identity,
            "uppercase" => Processor::Upper,
            "lowercase" => Processor::Lower,
            "trim" => Processor::Trim,
            "replace" => {
                let word = |key| map.and_then(|map| word(map, key)).ok_or_else(unknown);
                let pattern = Pattern::new(word("pattern")?)
                    .map_err(|text| Failure::new(FailureClass::Expression, "PL406", text))?;
                Processor::Replace(pattern, word("replacement")?.to_owned())
            }
            _ => return Err(unknown()),
        })
    }
}

impl Processor {
    /// A line, processed; its end stays as it is.
    fn line(&self, bytes: &[u8], source: &str) -> Result<String, FileError> {
        let text =
            std::str::from_utf8(bytes).map_err(|_| malformed(source, "a line is not UTF-8"))?;
        let body = text.trim_end_matches(['\n', '\r']);
        let end = &text[body.len()..];
        let body = match self {
            Self::Identity => body.to_owned(),
            Self::Upper => body.to_uppercase(),
            Self::Lower => body.to_lowercase(),
            Self::Trim => body.trim().to_owned(),
            Self::Replace(pattern, replacement) => pattern
                .replace(body, replacement)
                .map_err(|_| malformed(source, "the pattern took too long"))?
                .into_owned(),
        };
        Ok(body + end)
    }
}

fn malformed(source: &str, why: &str) -> FileError {
    let source_error = std::io::Error::new(std::io::ErrorKind::InvalidData, why.to_owned());
    FileError::Io { action: "process", path: source.into(), source: source_error }
}

/// A file whose content is not what it has to be.
fn unreadable(what: &str, path: &str, why: &str) -> Failure {
    Failure::new(FailureClass::Io, "PL601", format!("{what}: {path}: {why}"))
}
