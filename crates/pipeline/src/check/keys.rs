//! The key table: every key of the language, what its value is, and whether this version honours
//! it. The validator walks it (`shape`), the readers of `section` take values it has accepted, and
//! the published schema is written from it: a new key is one row here.

mod chat;
mod deployment;
mod files;
mod listing;
mod pipeline;
mod prompt;
mod schema;
mod shape;
mod step;
mod workflow;

pub(super) use chat::{CLAUDE_OPTIONS, TOKEN_BUDGET};
pub(super) use files::FILE_OPS;
pub use listing::{KeyEntry, StepTypeEntry, step_types};
pub(super) use pipeline::OUTPUT;
pub(super) use prompt::PARTS;
pub(super) use schema::schema;
pub(super) use step::{DYNAMIC_STEP, POLICY, STEP, STEP_ONLY, STEP_TYPES};
pub(super) use workflow::{ROOT, WORKFLOW};

/// The keys of one kind of map.
#[derive(Debug)]
pub(super) struct Keys {
    /// Where they stand, for hints.
    pub(super) home: &'static str,
    pub(super) keys: &'static [Key],
    /// What a key that is not listed holds; without it such a key is unknown.
    pub(super) others: Option<&'static Kind>,
}

/// The tables of a map: those of a step are its type's and then everybody's.
pub(super) type Tables = &'static [&'static Keys];

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// One line for people.
    pub(super) doc: &'static str,
    pub(super) status: Status,
    /// What holds without it, as JSON.
    pub(super) default: Option<&'static str>,
    /// Whether a map without it is faulty. The reader of the map says so.
    pub(super) required: bool,
    /// Whether null is the same as absent.
    pub(super) nullable: bool,
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// It is honoured.
    Here,
    /// Another spelling of this key, noted as PL210; beside it with another value it is PL207.
    Spelling(&'static str),
    /// The language has it and this version does not.
    Later,
    /// This version has nothing to do for it yet: it may be there when it asks for nothing.
    LaterUnlessEmpty,
    /// It is checked and changes no result (PL219).
    Advisory,
    /// It has no effect any more (PL222).
    Removed,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Kind {
    /// Anything.
    Any,
    Text,
    Bool,
    /// A whole number; numeric texts count when `texts` says so.
    Count {
        least: u32,
        most: u32,
        texts: bool,
    },
    Number {
        least: f64,
        most: f64,
        texts: bool,
    },
    /// A number of this unit above zero, or a text such as `90s`.
    Duration {
        unit: Unit,
        most_ms: f64,
    },
    /// One of these texts; those of `later` are refused as such.
    OneOf {
        names: &'static [&'static str],
        later: &'static [&'static str],
    },
    List(&'static Kind),
    /// A list of strings.
    Texts,
    Map(Tables),
    /// A map that is a JSON Schema; its reader says what is wrong with it.
    Schema,
    /// What its first fitting kind is.
    Either(&'static [Kind]),
    /// A text with holes.
    Template,
    /// Any value; its texts have holes.
    Tree,
    /// A name of 1 to 128 characters, without holes (PL302).
    Name,
    /// A condition (3.6).
    Condition,
    /// A list of prompt parts, or one string.
    Prompt,
    /// A list of at least so many steps.
    Steps {
        least: usize,
    },
    /// The reader says what is wrong with it, in texts of its own.
    Own(&'static Kind),
}

/// What a bare number of a duration counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Millis,
    Seconds,
}

impl Unit {
    pub(super) fn millis(self) -> f64 {
        match self {
            Self::Millis => 1.0,
            Self::Seconds => 1_000.0,
        }
    }
}

/// One of several maps that their `type` tells apart: a step, or a part of a prompt.
#[derive(Debug)]
pub(super) struct Variant {
    pub(super) name: &'static str,
    pub(super) tables: Tables,
    pub(super) doc: &'static str,
    pub(super) later: bool,
}

/// A day, the longest deadline of an attempt.
pub(super) const DAY_MS: f64 = 86_400_000.0;
/// Any map.
pub(super) const FREE: Keys = Keys { home: "a free map", keys: &[], others: Some(&Kind::Any) };
pub(super) const FREE_TABLES: Tables = &[&FREE];
pub(super) const FREE_MAP: Kind = Kind::Map(FREE_TABLES);
/// At least one.
pub(super) const POSITIVE: Kind = Kind::Count { least: 1, most: u32::MAX, texts: false };
/// At least zero.
pub(super) const COUNT: Kind = Kind::Count { least: 0, most: u32::MAX, texts: false };
pub(super) const SECONDS: Kind = Kind::Duration { unit: Unit::Seconds, most_ms: DAY_MS };
pub(super) const MILLIS: Kind = Kind::Duration { unit: Unit::Millis, most_ms: DAY_MS };

/// All tables, in the order in which a hint looks for another place of a key.
const ALL: &[&Keys] = &[
    &STEP,
    &WORKFLOW,
    &CLAUDE_OPTIONS,
    &chat::CLAUDE,
    &chat::GEMINI,
    &workflow::DEFAULTS,
    &TOKEN_BUDGET,
    &chat::RETRY_CONFIG,
    &step::RETRY,
    &step::CACHE,
    &step::STREAMING,
    &step::ECHO,
    &step::SET_VARIABLE,
    &FILE_OPS,
    &prompt::PART,
    &prompt::STATIC,
    &prompt::PREVIOUS,
    &prompt::DYNAMIC,
    &prompt::FILE,
    &workflow::INPUT,
    &workflow::LENIENT,
    &workflow::CHECKPOINT_CONFIG,
    &pipeline::PIPELINE,
    &pipeline::CONFIG,
    &OUTPUT,
    &deployment::ENVIRONMENT,
    &deployment::OF_MODE,
    &deployment::RESOURCE_LIMITS,
    &deployment::SAFETY,
];

/// A key that is honoured.
const fn key(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    let status = Status::Here;
    Key { name, kind, doc, status, default: None, required: false, nullable: false }
}

/// A key of the language that this version does not have.
const fn later(name: &'static str, doc: &'static str) -> Key {
    Key { status: Status::Later, ..key(name, Kind::Any, doc) }
}

/// A key that is checked and changes no result.
const fn advisory(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { status: Status::Advisory, ..key(name, kind, doc) }
}

/// Another spelling of `of`.
const fn spelling(name: &'static str, of: &'static str, kind: Kind) -> Key {
    Key { status: Status::Spelling(of), ..key(name, kind, "accepted spelling") }
}

impl Key {
    const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    const fn nullable(self) -> Self {
        Self { nullable: true, ..self }
    }

    const fn default(self, json: &'static str) -> Self {
        Self { default: Some(json), ..self }
    }

    const fn unless_empty(self) -> Self {
        Self { status: Status::LaterUnlessEmpty, ..self }
    }

    const fn removed(self) -> Self {
        Self { status: Status::Removed, ..self }
    }

    /// Whether a document may hold it.
    pub(super) fn accepted(&self) -> bool {
        self.status != Status::Later
    }
}

impl Kind {
    /// The tables of the map it is, or may be.
    pub(super) fn tables(&self) -> Tables {
        match self {
            Self::Map(tables) => tables,
            Self::Own(kind) => kind.tables(),
            Self::Either(kinds) => {
                let maps = kinds.iter().find(|kind| matches!(kind, Self::Map(_)));
                maps.map_or(FREE_TABLES, Self::tables)
            }
            Self::Any
            | Self::Text
            | Self::Bool
            | Self::Count { .. }
            | Self::Number { .. }
            | Self::Duration { .. }
            | Self::OneOf { .. }
            | Self::List(_)
            | Self::Texts
            | Self::Template
            | Self::Tree
            | Self::Name
            | Self::Condition
            | Self::Prompt
            | Self::Schema
            | Self::Steps { .. } => FREE_TABLES,
        }
    }
}

/// The row of `name`.
pub(super) fn find(tables: &[&'static Keys], name: &str) -> Option<&'static Key> {
    tables.iter().flat_map(|table| table.keys).find(|key| key.name == name)
}

/// What a key holds: its row's kind, or that of unlisted keys.
pub(super) fn kind(tables: &[&'static Keys], name: &str) -> Option<&'static Kind> {
    let others = || tables.iter().find_map(|table| table.others);
    find(tables, name).map(|key| &key.kind).or_else(others)
}

/// The first table that has `name` and honours it.
fn home_of(name: &str) -> Option<&'static str> {
    let here = |table: &&&Keys| table.keys.iter().any(|key| key.name == name && key.accepted());
    ALL.iter().find(here).map(|table| table.home)
}
