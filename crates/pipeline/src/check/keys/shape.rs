//! The walk over the table: unknown keys and values of the wrong shape (PL202–PL205), notes about
//! spellings and keys without effect. What it has found nothing wrong with, the readers can take.

use super::{FREE_MAP, Key, Kind, Status, Tables, find, home_of};
use crate::{
    check::{
        Check, Section,
        section::{LATER, duration_text},
    },
    diagnostic::{Code, Finding, Severity},
    source::{Content, Node},
    spelling,
};

/// A value, and how texts name it.
struct Spot<'n> {
    node: &'n Node,
    pointer: String,
    /// For example `claude_options.model`.
    path: String,
    /// What it stands in, for example "step `a` (type `claude`)".
    owner: String,
}

impl Spot<'_> {
    fn fault(&self, code: u16, text: impl Into<String>) -> Finding {
        Finding::error(Code(code), text).at(self.node.extent).pointer(self.pointer.as_str())
    }

    fn wrong_type(&self, kind: &Kind) -> Finding {
        self.fault(203, format!("{} must be {}", self.path, kind.noun()))
    }
}

impl Check<'_> {
    /// Reports everything about the keys of `section` that its tables can tell, and about the maps
    /// in it.
    pub(in crate::check) fn shape(&mut self, section: &Section<'_>) {
        self.unknown_keys(section);
        self.values(section);
    }

    /// The same of a map whose kind is unknown: its keys may be those of any kind.
    pub(in crate::check) fn values(&mut self, section: &Section<'_>) {
        for entry in section.entries() {
            let key = entry.key.as_str();
            let row = find(section.tables, key);
            if row.is_some_and(|row| row.nullable) && entry.value.is_null() {
                continue;
            }
            let Some(kind) = super::kind(section.tables, key) else { continue };
            let spot = Spot {
                node: &entry.value,
                pointer: section.pointer_of(key),
                path: section.path_of(key),
                owner: section.owner.clone(),
            };
            if let Some(row) = row {
                self.status(section, row);
                if matches!(row.status, Status::Later | Status::Removed) {
                    continue;
                }
            }
            let right = self.value(&spot, kind);
            let unless_empty = row.is_some_and(|row| row.status == Status::LaterUnlessEmpty);
            if right && unless_empty && !row.is_some_and(|row| asks_nothing(row, &entry.value)) {
                let text = format!("`{}` is not supported in {}", spot.path, section.whole);
                self.findings.push(spot.fault(202, text).hint(LATER));
            }
        }
    }

    /// What the status of a key that is there has to say.
    fn status(&mut self, section: &Section<'_>, row: &Key) {
        let Some(entry) = section.get(row.name) else { return };
        let say = |code, severity, text: String| {
            let pointer = section.pointer_of(row.name);
            Finding::new(Code(code), severity, text).at(entry.key_extent).pointer(pointer)
        };
        match row.status {
            Status::Here | Status::Later | Status::LaterUnlessEmpty => (),
            Status::Spelling(of) => {
                let text = format!("accepted spelling of `{of}`");
                self.findings.push(say(210, Severity::Note, text));
                if section.get(of).is_some_and(|other| !same(&other.value, &entry.value)) {
                    let text = format!("{} and {of} say different things", row.name);
                    self.findings.push(section.fault(207, row.name, text));
                }
            }
            Status::Advisory => {
                let text = format!("`{}` is checked and changes no result", row.name);
                self.findings.push(say(219, Severity::Note, text));
            }
            Status::Removed => {
                let text = format!("`{}` has no effect any more", row.name);
                self.findings.push(say(222, Severity::Warning, text));
            }
        }
    }

    /// Reports every key that the tables of `section` do not have, or not yet.
    fn unknown_keys(&mut self, section: &Section<'_>) {
        if section.tables.iter().any(|table| table.others.is_some()) {
            return;
        }
        for entry in section.entries() {
            let key = entry.key.as_str();
            let row = find(section.tables, key);
            if row.is_some_and(Key::accepted) {
                continue;
            }
            if row.is_none() && self.lenient.is("unknown_keys", "ignore") {
                continue;
            }
            let severity = match row {
                None if self.lenient.is("unknown_keys", "warn") => Severity::Warning,
                Some(_) | None => Severity::Error,
            };
            let text = match row {
                Some(_) => format!("the key `{key}` is not supported in {}", section.whole),
                None => format!("unknown key `{key}` in {}", section.whole),
            };
            let near = || {
                let known = section.tables.iter().flat_map(|table| table.keys);
                spelling::did_you_mean(key, known.map(|key| key.name))
            };
            let elsewhere = || home_of(key).map(|home| format!("`{key}` is a key of {home}"));
            let hint = match row {
                Some(_) => Some(LATER.to_owned()),
                None if self.findings.wants_hints() => near().or_else(elsewhere),
                None => None,
            };
            self.findings.push(
                Finding::new(Code(202), severity, text)
                    .at(entry.key_extent)
                    .pointer(section.pointer_of(key))
                    .label(if section.whole.starts_with("step ") {
                        "not a key of this step type"
                    } else {
                        "not a key of this place"
                    })
                    .maybe_hint(hint),
            );
        }
    }

    /// Checks the value of `key` of `section` against `kind`, for readers that check for themselves.
    pub(in crate::check) fn fits(&mut self, section: &Section<'_>, key: &str, kind: &Kind) -> bool {
        section.node(key).is_some_and(|node| {
            let pointer = section.pointer_of(key);
            let (path, owner) = (section.path_of(key), section.owner.clone());
            self.value(&Spot { node, pointer, path, owner }, kind)
        })
    }

    /// Whether the value has the shape of `kind`; if not, that is reported.
    fn value(&mut self, spot: &Spot<'_>, kind: &Kind) -> bool {
        match kind {
            Kind::Any | Kind::Tree | Kind::Own(_) | Kind::Name | Kind::Condition => true,
            Kind::Prompt | Kind::Steps { .. } => true,
            Kind::Text | Kind::Template | Kind::Bool | Kind::Schema => {
                self.report(kind.admits(spot.node), || spot.wrong_type(kind))
            }
            Kind::Count { least, most, texts } => self.count(spot, *least, *most, *texts),
            Kind::Number { least, most, texts } => self.number(spot, (*least, *most), *texts),
            Kind::Duration { unit, most_ms } => self.duration(spot, unit.millis(), *most_ms),
            Kind::OneOf { names, later } => self.one_of(spot, names, later),
            Kind::Texts => {
                let items = spot.node.as_list();
                let texts = items.map(|items| items.iter().all(|item| item.as_text().is_some()));
                let noun = if texts.is_none() { "a list" } else { "a list of strings" };
                self.report(texts == Some(true), || {
                    spot.fault(203, format!("{} must be {noun}", spot.path))
                })
            }
            Kind::List(each) => {
                let Some(items) = spot.node.as_list() else {
                    return self.report(false, || spot.wrong_type(kind));
                };
                let mut right = true;
                for (place, node) in items.iter().enumerate() {
                    right &= self.value(
                        &Spot {
                            node,
                            pointer: format!("{}/{place}", spot.pointer),
                            path: format!("{}[{place}]", spot.path),
                            owner: spot.owner.clone(),
                        },
                        each,
                    );
                }
                right
            }
            Kind::Map(tables) => self.map(spot, tables),
            Kind::Either(kinds) => match kinds.iter().find(|kind| kind.admits(spot.node)) {
                Some(kind) => self.value(spot, kind),
                None => self.report(false, || spot.wrong_type(kind)),
            },
        }
    }

    fn report(&mut self, right: bool, finding: impl FnOnce() -> Finding) -> bool {
        if !right {
            self.findings.push(finding());
        }
        right
    }

    fn map(&mut self, spot: &Spot<'_>, tables: Tables) -> bool {
        let whole = format!("`{}` of {}", spot.path, spot.owner);
        let prefix = format!("{}.", spot.path);
        let Some(inner) = Section::of(spot.node, &spot.pointer, &prefix, &whole) else {
            let hint = map_hint(spot, tables);
            return self.report(false, || spot.wrong_type(&FREE_MAP).maybe_hint(hint));
        };
        let inner = inner.owned_by(&spot.owner).read_by(tables);
        self.shape(&inner);
        true
    }

    fn number(&mut self, spot: &Spot<'_>, (least, most): (f64, f64), texts: bool) -> bool {
        let Some(number) = spot.node.as_number(texts) else {
            return self
                .report(false, || spot.fault(203, format!("{} must be a number", spot.path)));
        };
        self.report((least..=most).contains(&number), || {
            let shown = spot.node.shown();
            let text = format!("{} must be between {least} and {most}, got: {shown}", spot.path);
            spot.fault(205, text)
        })
    }

    fn count(&mut self, spot: &Spot<'_>, least: u32, most: u32, texts: bool) -> bool {
        let whole = spot.node.as_whole(texts);
        let fits = |whole: i64| (i64::from(least)..=i64::from(most)).contains(&whole);
        self.report(whole.is_some_and(fits), || {
            let (path, shown) = (&spot.path, spot.node.shown());
            let wanted = if least == 0 { "a non-negative integer" } else { "a positive integer" };
            let text = match whole {
                Some(_) if most < u32::MAX => {
                    format!("{path} must be between {least} and {most}, got: {shown}")
                }
                Some(whole) if least > 0 && whole <= 0 => {
                    format!("{path} must be positive, got: {shown}")
                }
                Some(_) | None => format!("{path} must be {wanted}"),
            };
            let number = matches!(spot.node.content, Content::Number(_)) || whole.is_some();
            spot.fault(if number { 205 } else { 203 }, text)
        })
    }

    fn duration(&mut self, spot: &Spot<'_>, unit: f64, most_ms: f64) -> bool {
        let millis = match &spot.node.content {
            Content::Number(number) => number.as_f64().map(|number| number * unit),
            Content::Text { value, .. } => duration_text(value),
            Content::Null | Content::Bool(_) | Content::List(_) | Content::Map(_) => {
                let text = format!("{} must be a number or a duration", spot.path);
                return self.report(false, || spot.fault(203, text));
            }
        };
        let (path, shown) = (&spot.path, spot.node.shown());
        let positive = || spot.fault(205, format!("{path} must be positive, got: {shown}"));
        let fault = match millis {
            Some(millis) if millis > 0.0 && millis <= most_ms => return true,
            Some(millis) if millis > most_ms => {
                spot.fault(205, format!("{path} must be at most {} h", most_ms / 3_600_000.0))
            }
            Some(_) => positive(),
            None => positive().hint("a number, or a text such as `90s`, `5m` or `500ms`"),
        };
        self.report(false, || fault)
    }

    fn one_of(&mut self, spot: &Spot<'_>, names: &[&str], later: &[&str]) -> bool {
        let Some(text) = spot.node.as_text() else {
            return self.report(false, || spot.wrong_type(&Kind::Text));
        };
        self.report(names.contains(&text), || {
            let (path, shown) = (&spot.path, spot.node.shown());
            let message = format!("{path} must be one of: {}, got: {shown}", names.join(", "));
            let hint = if later.contains(&text) {
                Some(LATER.to_owned())
            } else {
                spelling::did_you_mean(text, names.iter().copied())
            };
            spot.fault(204, message).maybe_hint(hint)
        })
    }
}

impl Kind {
    /// Whether `node` is of the type of this kind, whatever its value.
    fn admits(&self, node: &Node) -> bool {
        let number = matches!(node.content, Content::Number(_));
        let text = node.as_text().is_some();
        match self {
            Self::Any | Self::Tree => true,
            Self::Text | Self::OneOf { .. } | Self::Template | Self::Name => text,
            Self::Bool => matches!(node.content, Content::Bool(_)),
            Self::Count { texts, .. } | Self::Number { texts, .. } => number || (*texts && text),
            Self::Duration { .. } => number || text,
            Self::List(_) | Self::Texts | Self::Steps { .. } => node.as_list().is_some(),
            Self::Map(_) | Self::Schema => node.as_map().is_some(),
            Self::Either(kinds) => kinds.iter().any(|kind| kind.admits(node)),
            Self::Condition => !node.is_null(),
            Self::Prompt => text || node.as_list().is_some(),
            Self::Own(kind) => kind.admits(node),
        }
    }

    /// What it is, after "must be".
    fn noun(&self) -> String {
        let noun = match self {
            Self::Any | Self::Tree => "a value",
            Self::Text | Self::Template | Self::Name => "a string",
            Self::Bool => "a boolean",
            Self::Count { .. } | Self::Number { .. } => "a number",
            Self::Duration { .. } => "a number or a duration",
            Self::OneOf { names, .. } => return format!("one of: {}", names.join(", ")),
            Self::Texts => "a list of strings",
            Self::List(_) | Self::Steps { .. } | Self::Prompt => "a list",
            Self::Map(_) | Self::Schema => "a map",
            Self::Condition => "a condition",
            Self::Own(kind) => return kind.noun(),
            Self::Either(kinds) => {
                return kinds.iter().map(Self::noun).collect::<Vec<_>>().join(" or ");
            }
        };
        noun.to_owned()
    }
}

/// Whether a value asks for no more than its absence.
fn asks_nothing(row: &Key, node: &Node) -> bool {
    let default = row.default.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    is_empty(node) || default.is_some_and(|default| node.to_value() == default)
}

fn is_empty(node: &Node) -> bool {
    match &node.content {
        Content::Null | Content::Bool(false) => true,
        Content::Bool(true) | Content::Number(_) => false,
        Content::Text { value, .. } => value.is_empty(),
        Content::List(items) => items.is_empty(),
        Content::Map(entries) => entries.is_empty(),
    }
}

/// What the map would look like that stands where `spot` has something else.
fn map_hint(spot: &Spot<'_>, tables: Tables) -> Option<String> {
    let keys =
        || tables.iter().flat_map(|table| table.keys).filter(|key| key.status == Status::Here);
    let first = keys().next()?;
    let key = spot.path.rsplit('.').next().unwrap_or_default();
    if matches!(first.kind, Kind::Count { .. }) && matches!(spot.node.content, Content::Number(_)) {
        return Some(format!("write `{key}: {{{}: {}}}`", first.name, spot.node.shown()));
    }
    let names: Vec<&str> = keys().take(6).map(|key| key.name).collect();
    Some(format!("a map has keys, such as {}", names.join(", ")))
}

fn same(one: &Node, other: &Node) -> bool {
    one.to_value() == other.to_value()
}
