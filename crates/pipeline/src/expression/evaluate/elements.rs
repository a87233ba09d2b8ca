//! Expressions about the elements of a list: wildcards, filters, functions over lists (YC-9).

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{
    super::{
        Expression, Path,
        function::Over,
        path::fields,
        syntax::{Argument, Call, Element},
        text::to_text,
        value::{Trouble, sort_order, type_of},
    },
    Evaluation, Evaluator, Stop, truth, undecided,
};

/// One element while an expression about it is evaluated.
pub(super) struct Frame<'v> {
    element: &'v Value,
    index: usize,
    /// What it is an element of.
    whole: &'v Value,
    parameters: &'v [String],
    outer: Option<&'v Frame<'v>>,
}

/// Where a path that begins in the elements around it begins: `@`, parameters and fields before
/// those of the element outside.
pub(super) fn bound<'v>(path: &Path, at: Option<&'v Frame<'v>>) -> Option<Cow<'v, Value>> {
    let innermost = at?;
    match path.root.as_str() {
        "$" => return Some(Cow::Borrowed(innermost.whole)),
        "@" => return Some(Cow::Borrowed(innermost.element)),
        _ => (),
    }
    let mut next = at;
    while let Some(frame) = next {
        if let Some(found) = frame.find(&path.root) {
            return Some(found);
        }
        next = frame.outer;
    }
    None
}

impl<'v> Frame<'v> {
    fn find(&self, name: &str) -> Option<Cow<'v, Value>> {
        if let Some(place) = self.parameters.iter().position(|parameter| parameter == name) {
            return Some(if place == 0 {
                Cow::Borrowed(self.element)
            } else {
                Cow::Owned(self.index.into())
            });
        }
        if name == "item" {
            return Some(Cow::Borrowed(self.element));
        }
        if let Some(field) = self.element.as_object().and_then(|map| map.get(name)) {
            return Some(Cow::Borrowed(field));
        }
        match name {
            "value" | "record" => Some(Cow::Borrowed(self.element)),
            "index" => Some(Cow::Owned(self.index.into())),
            _ => None,
        }
    }
}

impl Evaluator<'_> {
    /// Adds the elements of `value` to `found`; its fields when it has none.
    pub(super) fn all_of<'v>(
        &self,
        value: Cow<'v, Value>,
        found: &mut Vec<Cow<'v, Value>>,
    ) -> Result<Option<Option<Vec<String>>>, Stop> {
        let before = found.len();
        match value {
            Cow::Borrowed(Value::Array(items)) => found.extend(items.iter().map(Cow::Borrowed)),
            Cow::Borrowed(Value::Object(map)) => found.extend(map.values().map(Cow::Borrowed)),
            Cow::Owned(Value::Array(items)) => found.extend(items.into_iter().map(Cow::Owned)),
            Cow::Owned(Value::Object(map)) => {
                found.extend(map.into_iter().map(|(_, value)| Cow::Owned(value)));
            }
            other @ (Cow::Borrowed(_) | Cow::Owned(_)) => return Ok(Some(fields(&other))),
        }
        (before..found.len()).for_each(|_| self.meter.visit());
        Ok(None)
    }

    /// Adds the elements of `value` for which `condition` holds.
    pub(super) fn some_of<'v>(
        &'v self,
        value: Cow<'v, Value>,
        condition: &'v Expression,
        at: Option<&'v Frame<'v>>,
        found: &mut Vec<Cow<'v, Value>>,
    ) -> Result<Option<Option<Vec<String>>>, Stop> {
        let mut elements = Vec::new();
        let whole = value.clone();
        if let Some(available) = self.all_of(value, &mut elements)? {
            return Ok(Some(available));
        }
        for (index, element) in elements.into_iter().enumerate() {
            let frame =
                Frame { element: &element, index, whole: &whole, parameters: &[], outer: at };
            let held = self.truth(condition, Some(&frame))?;
            if held {
                found.push(element);
            }
        }
        Ok(None)
    }

    /// A function over the elements of its first argument.
    pub(super) fn over_elements<'v>(
        &'v self,
        call: &'v Call,
        over: Over,
        mut values: Vec<Evaluation<'v>>,
        at: Option<&'v Frame<'v>>,
    ) -> Evaluation<'v> {
        let element = call.arguments.iter().find_map(|argument| match argument {
            Argument::Element(element) => Some(element),
            Argument::Value(_) => None,
        });
        let descending = match values.pop() {
            Some(order) if !values.is_empty() => to_text(&*order.map_err(undecided)?) == "desc",
            Some(list) => {
                values.push(list);
                false
            }
            None => false,
        };
        let list = values.pop().unwrap_or(Ok(Cow::Owned(Value::Null)));
        if matches!(over, Over::Any | Over::All | Over::Count) {
            return match (list, element) {
                (Ok(list), element) => match (list.as_array(), element) {
                    (Some(items), Some(element)) => self.held(&list, items, element, over, at),
                    (Some(items), None) => Ok(Cow::Owned(items.len().into())),
                    (None, _) => Ok(none_of(over)),
                },
                // Of what is missing nothing holds (YC-12).
                (Err(Stop::Missing(_) | Stop::Undecided(_)), _) => Ok(none_of(over)),
                (Err(fault), _) => Err(fault),
            };
        }
        let list = list.map_err(undecided)?;
        let (Some(items), Some(element)) = (list.as_array(), element) else {
            if list.is_null() {
                return Ok(Cow::Owned(Value::Null));
            }
            let text =
                format!("`{}` of a {}: the result is null", call.function.name, type_of(&list));
            return self.settled(Err(Trouble::Null(text))).map(Cow::Owned);
        };
        let result = match over {
            Over::Filter => self.kept(&list, items, element, at)?,
            Over::Map => Value::Array(self.mapped(&list, items, element, at)?),
            Over::SortBy => self.sorted(&list, items, element, descending, at)?,
            Over::GroupBy | Over::Any | Over::All | Over::Count => {
                self.grouped(&list, items, element, at)?
            }
        };
        self.built(result)
    }

    /// Where the code of `element` stands, at each of `items` in turn; each counts as a visit.
    fn frames<'f>(
        &'f self,
        whole: &'f Value,
        items: &'f [Value],
        element: &'f Element,
        outer: Option<&'f Frame<'f>>,
    ) -> impl Iterator<Item = Frame<'f>> {
        let parameters = &element.parameters;
        items.iter().enumerate().map(move |(index, element)| {
            self.meter.visit();
            Frame { element, index, whole, parameters, outer }
        })
    }

    fn held<'v>(
        &self,
        whole: &Value,
        items: &[Value],
        element: &Element,
        over: Over,
        at: Option<&Frame<'_>>,
    ) -> Evaluation<'v> {
        let (mut open, mut count) = (None, 0_usize);
        for frame in self.frames(whole, items, element, at) {
            match (self.truth(&element.body, Some(&frame)), over) {
                (Ok(true), Over::Any) => return Ok(truth(true)),
                (Ok(false), Over::All) => return Ok(truth(false)),
                (Ok(held), _) => count += usize::from(held),
                (Err(Stop::Undecided(missing)), _) => open = open.or(Some(missing)),
                (Err(stop), _) => return Err(stop),
            }
        }
        match (open, over) {
            (Some(missing), _) => Err(Stop::Undecided(missing)),
            (None, Over::Any) => Ok(truth(false)),
            (None, Over::All) => Ok(truth(true)),
            (None, _) => Ok(Cow::Owned(count.into())),
        }
    }

    fn kept(
        &self,
        whole: &Value,
        items: &[Value],
        element: &Element,
        at: Option<&Frame<'_>>,
    ) -> Result<Value, Stop> {
        let mut kept = Vec::new();
        for frame in self.frames(whole, items, element, at) {
            if self.truth(&element.body, Some(&frame))? {
                kept.push(frame.element.clone());
            }
        }
        Ok(Value::Array(kept))
    }

    fn mapped(
        &self,
        whole: &Value,
        items: &[Value],
        element: &Element,
        at: Option<&Frame<'_>>,
    ) -> Result<Vec<Value>, Stop> {
        let mut mapped = Vec::with_capacity(items.len());
        for frame in self.frames(whole, items, element, at) {
            let value = self.value(&element.body, Some(&frame))?.into_owned();
            self.meter.build(&value)?;
            mapped.push(value);
        }
        Ok(mapped)
    }

    /// The keys of `items`; null where one is missing.
    fn keyed(
        &self,
        whole: &Value,
        items: &[Value],
        element: &Element,
        at: Option<&Frame<'_>>,
    ) -> Result<Vec<Value>, Stop> {
        let mut keys = Vec::with_capacity(items.len());
        for frame in self.frames(whole, items, element, at) {
            keys.push(match self.value(&element.body, Some(&frame)) {
                Err(Stop::Missing(_) | Stop::Undecided(_)) => Value::Null,
                value => value?.into_owned(),
            });
        }
        Ok(keys)
    }

    fn sorted(
        &self,
        whole: &Value,
        items: &[Value],
        element: &Element,
        descending: bool,
        at: Option<&Frame<'_>>,
    ) -> Result<Value, Stop> {
        let keys = self.keyed(whole, items, element, at)?;
        let mut pairs: Vec<(Value, &Value)> = keys.into_iter().zip(items).collect();
        pairs.sort_by(|(left, _), (right, _)| {
            let order = sort_order(left, right);
            if descending { order.reverse() } else { order }
        });
        Ok(pairs.into_iter().map(|(_, item)| item.clone()).collect())
    }

    fn grouped(
        &self,
        whole: &Value,
        items: &[Value],
        element: &Element,
        at: Option<&Frame<'_>>,
    ) -> Result<Value, Stop> {
        let mut groups: Map<String, Value> = Map::new();
        for (key, item) in self.keyed(whole, items, element, at)?.iter().zip(items) {
            let group = groups.entry(to_text(key)).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(group) = group {
                group.push(item.clone());
            }
        }
        Ok(Value::Object(groups))
    }
}

fn none_of<'v>(over: Over) -> Cow<'v, Value> {
    if over == Over::Count { Cow::Owned(0.into()) } else { truth(false) }
}
