//! Versions of documents, and which of them a `pipeline_ref` asks for (2.16).

use std::fmt;

/// Up to three numbers, such as `1.4` or `1.4.0`, which are the same.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    parts: [u64; 3],
    /// How many of them were written.
    written: usize,
}

impl Numbers {
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = Self { parts: [0; 3], written: 0 };
        for part in text.split('.') {
            let plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            *numbers.parts.get_mut(numbers.written)? = part.parse().ok().filter(|_| plain)?;
            numbers.written += 1;
        }
        Some(numbers)
    }

    /// How many leading numbers stay the same in all versions that are compatible with this one: those up to the
    /// first that is not zero, or all that were written.
    fn fixed(&self) -> usize {
        let first = self.parts[..self.written].iter().position(|part| *part > 0);
        first.map_or(self.written, |place| place + 1)
    }
}

/// The version that a step asks for.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// This one.
    Exact(String),
    /// This one, or a later one that is compatible with it.
    Compatible(String),
}

impl Wanted {
    /// Reads `1.4.0` or `^1.4`. Nothing of anything else that looks like a range, so that none is taken for a name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(least) = text.strip_prefix('^') {
            return Numbers::parse(least).map(|_| Self::Compatible(least.to_owned()));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_');
        let fits = !text.is_empty() && text.chars().all(plain);
        fits.then(|| Self::Exact(text.to_owned()))
    }

    /// Whether a document of the version `found` is what is asked for.
    pub(crate) fn accepts(&self, found: &str) -> bool {
        match self {
            Self::Exact(wanted) => {
                wanted == found
                    || matches!(
                        (Numbers::parse(wanted), Numbers::parse(found)),
                        (Some(wanted), Some(found)) if wanted.parts == found.parts
                    )
            }
            Self::Compatible(least) => {
                let (Some(least), Some(found)) = (Numbers::parse(least), Numbers::parse(found))
                else {
                    return false;
                };
                let fixed = least.fixed();
                found.parts >= least.parts && found.parts[..fixed] == least.parts[..fixed]
            }
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Compatible(text) => write!(f, "^{text}"),
        }
    }
}

/// The order of versions: by their numbers, after those that have none.
pub(crate) fn rank(version: Option<&str>) -> Option<[u64; 3]> {
    version.and_then(Numbers::parse).map(|numbers| numbers.parts)
}

#[cfg(test)]
mod tests {
    use super::Wanted;

    #[test]
    fn a_version_or_a_range_accepts_what_it_says() {
        let rows: [(&str, &[&str], &[&str]); 10] = [
            ("1.2.0", &["1.2.0", "1.2"], &["1.2.1", "1.2.0-rc1", "2", ""]),
            ("1.2", &["1.2", "1.2.0"], &["1.2.1", "1.20"]),
            ("spring", &["spring"], &["Spring", "1"]),
            ("1.2.0-rc1", &["1.2.0-rc1"], &["1.2.0"]),
            ("^1.2", &["1.2.0", "1.2", "1.10.3"], &["1.1.9", "2.0.0", "0.9", "spring"]),
            ("^1", &["1.0.0", "1.99"], &["2", "0.9"]),
            ("^0.2.3", &["0.2.3", "0.2.9"], &["0.2.2", "0.3.0", "1.0.0"]),
            ("^0.0.3", &["0.0.3"], &["0.0.4", "0.0.2", "0.1.0"]),
            ("^0.0", &["0.0.0", "0.0.9"], &["0.1.0"]),
            ("^0", &["0.0.0", "0.9.1"], &["1.0.0"]),
        ];
        for (wanted, fit, unfit) in rows {
            let asked = Wanted::parse(wanted).unwrap();
            assert_eq!(asked.to_string(), wanted);
            assert!(fit.iter().all(|found| asked.accepts(found)), "{wanted} takes {fit:?}");
            assert!(!unfit.iter().any(|found| asked.accepts(found)), "{wanted} not {unfit:?}");
        }
    }

    #[test]
    fn other_ranges_are_no_versions() {
        for text in
            ["", " ", ">=1", "~1.2", "*", "1 || 2", "^", "^x", "^1.2.3.4", "^1.", "=1", "^ 1"]
        {
            assert!(Wanted::parse(text).is_none(), "{text:?}");
        }
    }
}
