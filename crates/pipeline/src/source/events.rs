//! The parser's events, kept as a flat list: bounded, and replayed where an alias stands.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span as Marks, Tag};

use super::text::{Extent, SourceText};
use crate::diagnostic::{Code, Finding};

/// Deepest nesting, aliases included.
pub(super) const DEPTH_MAX: usize = 64;
/// Most nodes of a document, aliases and merge keys expanded.
pub(crate) const NODES_MAX: usize = 100_000;
/// Brackets that may stand open at once, quoted ones included: the parser's work for one token
/// grows with them.
const OPEN_BRACKETS_MAX: usize = 1_000;

/// One event of the only document.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) what: What,
    pub(super) extent: Extent,
    pub(super) tag: Option<Tag>,
}

/// What an event says.
#[derive(Debug)]
pub(super) enum What {
    Scalar {
        text: String,
        style: ScalarStyle,
    },
    /// The event that begins the node it stands for.
    Alias(usize),
    OpenList,
    OpenMap,
    Close,
}

/// The events of a document.
#[derive(Debug, Default)]
pub(super) struct Events {
    pub(super) steps: Vec<Step>,
}

/// Reads all events.
///
/// # Errors
///
/// What is wrong with the file as a whole, with its place.
pub(super) fn read(source: &SourceText, file: &str) -> Result<Events, Finding> {
    refuse_open_brackets(source)?;
    let mut events = Events::default();
    let mut anchors: HashMap<usize, usize> = HashMap::new();
    let mut open: Vec<usize> = Vec::new();
    let mut documents = 0;
    for event in Parser::new_from_str(source.as_str()) {
        let (event, marks) = event.map_err(|error| {
            let at = source.byte_of_char(error.marker().index());
            Finding::error(Code(102), format!("Failed to parse YAML: {file}: {}", error.info()))
                .at(Extent::new(at, at))
        })?;
        let extent = extent_of(source, marks);
        let (what, anchor, tag) = match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => continue,
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    let text = "more than one document in the file";
                    return Err(Finding::error(Code(103), text)
                        .at(extent)
                        .hint("one file holds one workflow"));
                }
                continue;
            }
            Event::Alias(anchor) => {
                let target = anchors.get(&anchor).copied();
                match target.filter(|target| !open.contains(target)) {
                    Some(target) => (What::Alias(target), 0, None),
                    None => {
                        let text = "an alias stands inside its own anchor";
                        return Err(Finding::error(Code(107), text).at(extent));
                    }
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                (What::Scalar { text: text.into_owned(), style }, anchor, tag)
            }
            Event::SequenceStart(anchor, tag) => (What::OpenList, anchor, tag),
            Event::MappingStart(anchor, tag) => (What::OpenMap, anchor, tag),
            Event::SequenceEnd | Event::MappingEnd => (What::Close, 0, None),
        };
        match what {
            What::OpenList | What::OpenMap => open.push(events.steps.len()),
            What::Close => drop(open.pop()),
            What::Scalar { .. } | What::Alias(_) => (),
        }
        if open.len() > DEPTH_MAX {
            return Err(too_deep(extent));
        }
        if events.steps.len() >= 2 * NODES_MAX {
            return Err(too_many(extent));
        }
        if anchor > 0 {
            anchors.insert(anchor, events.steps.len());
        }
        events.steps.push(Step { what, extent, tag: tag.map(std::borrow::Cow::into_owned) });
    }
    Ok(events)
}

pub(super) fn too_deep(extent: Extent) -> Finding {
    Finding::error(Code(107), format!("nested deeper than {DEPTH_MAX} levels")).at(extent)
}

pub(super) fn too_many(extent: Extent) -> Finding {
    Finding::error(Code(107), "more than 100,000 nodes, aliases expanded").at(extent)
}

fn refuse_open_brackets(source: &SourceText) -> Result<(), Finding> {
    let mut open = 0_usize;
    for (at, byte) in source.as_str().bytes().enumerate() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => (),
        }
        if open > OPEN_BRACKETS_MAX {
            let text = "more than 1,000 brackets are opened and not closed";
            return Err(Finding::error(Code(107), text).at(Extent::new(at, at + 1)));
        }
    }
    Ok(())
}

fn extent_of(source: &SourceText, marks: Marks) -> Extent {
    Extent::new(source.byte_of_char(marks.start.index()), source.byte_of_char(marks.end.index()))
}
