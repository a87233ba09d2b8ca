//! Paths: from a name into its value, through wildcards, filters and computed keys (YT-10).

use std::borrow::Cow;

use serde_json::Value;

use super::{
    super::{Expression, Path, Segment, path::step},
    Evaluation, Evaluator, Missing, Stop,
    elements::{Frame, bound},
};
use crate::source::Extent;

impl Evaluator<'_> {
    pub(super) fn path<'v>(&'v self, path: &'v Path, at: Option<&'v Frame<'v>>) -> Evaluation<'v> {
        if let Some(value) = bound(path, at) {
            return self.follow(value, &path.segments, &path.root, at);
        }
        if path.segments.iter().all(Segment::is_definite) {
            return self.names.find(path, self.place).map_err(Stop::Missing);
        }
        // Names see the path up to the first segment that leads to many values.
        let mut known = Path { segments: Vec::new(), ..path.clone() };
        let mut rest = path.segments.as_slice();
        while let Some((segment, behind)) = rest.split_first() {
            known.segments.push(match segment {
                Segment::Computed(inner) => self.computed(inner, at)?,
                Segment::All | Segment::Filter(_) => break,
                Segment::Field { .. } | Segment::Index { .. } => segment.clone(),
            });
            rest = behind;
        }
        let found = self.names.find(&known, self.place).map_err(Stop::Missing)?;
        self.follow(found, rest, &known.to_string(), at)
    }

    fn computed<'v>(
        &'v self,
        inner: &'v Expression,
        at: Option<&'v Frame<'v>>,
    ) -> Result<Segment, Stop> {
        let extent = Extent::new(0, 0);
        let value = self.operand(inner, at)?;
        if let Some(name) = value.as_str() {
            return Ok(Segment::Field { name: name.to_owned(), extent });
        }
        match value.as_i64() {
            Some(place) => Ok(Segment::Index { place, extent }),
            None => Err(Stop::Missing(Missing { path: format!("[{value}]"), available: None })),
        }
    }

    /// Follows `segments` into `value`, which stands at `from`.
    pub(super) fn follow<'v>(
        &'v self,
        value: Cow<'v, Value>,
        segments: &'v [Segment],
        from: &str,
        at: Option<&'v Frame<'v>>,
    ) -> Evaluation<'v> {
        let mut found = vec![value];
        let mut many = false;
        for (place, segment) in segments.iter().enumerate() {
            let computed = match segment {
                Segment::Computed(inner) => Some(self.computed(inner, at)?),
                Segment::Field { .. }
                | Segment::Index { .. }
                | Segment::All
                | Segment::Filter(_) => None,
            };
            let mut next = Vec::new();
            for value in found {
                let available = match segment {
                    Segment::All => self.all_of(value, &mut next)?,
                    Segment::Filter(condition) => self.some_of(value, condition, at, &mut next)?,
                    Segment::Field { .. } | Segment::Index { .. } | Segment::Computed(_) => {
                        let segment = computed.as_ref().unwrap_or(segment);
                        step(value, segment).map(|value| next.push(value)).err()
                    }
                };
                if let Some(available) = available.filter(|_| !many) {
                    let way: String = segments[..=place].iter().map(ToString::to_string).collect();
                    return Err(Stop::Missing(Missing { path: format!("{from}{way}"), available }));
                }
            }
            many |= matches!(segment, Segment::All | Segment::Filter(_));
            found = next;
        }
        match (many, found.pop()) {
            (false, Some(value)) => Ok(value),
            (_, last) => {
                found.extend(last);
                self.built(found.into_iter().map(Cow::into_owned).collect())
            }
        }
    }
}
