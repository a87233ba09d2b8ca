//! Secrets, and the removal of secrets from texts (SEC-1, SEC-2, SEC-3).

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// A credential. It has neither `Display` nor `Serialize`, and its memory is wiped when it is
/// dropped.
///
/// ```
/// use perennial_tools::ApiKey;
///
/// let key = ApiKey::new("sk-very-secret");
/// assert_eq!(format!("{key:?}"), "ApiKey(***)");
/// ```
#[derive(Clone)]
pub struct ApiKey(SecretString);

impl ApiKey {
    /// The credential `value`.
    ///
    /// ```
    /// use perennial_tools::{ApiKey, Redactor};
    ///
    /// let redactor = Redactor::new().with(&ApiKey::new("sk-very-secret"));
    /// assert!(redactor.finds("the key is sk-very-secret"));
    /// ```
    pub fn new(value: impl Into<String>) -> Self {
        Self(SecretString::from(value.into()))
    }

    /// Its value, for the one header it belongs into.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<SecretString> for ApiKey {
    fn from(value: SecretString) -> Self {
        Self(value)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(***)")
    }
}

/// Removes known secret values, and their usual encodings, from texts.
///
/// ```
/// use perennial_tools::{ApiKey, Redactor};
///
/// let redactor = Redactor::new().with(&ApiKey::new("sk-very-secret"));
/// assert_eq!(redactor.redact("refused: sk-very-secret"), "refused: [redacted]");
/// ```
#[derive(Clone, Default)]
pub struct Redactor {
    /// Longest first, so that a secret inside a longer one leaves no rest.
    values: Vec<SecretString>,
}

impl Redactor {
    /// What stands where a secret stood.
    pub const MARK: &'static str = "[redacted]";
    /// Shorter values are not looked for: they would be found in every text.
    pub const BYTES_MIN: usize = 8;

    /// A redactor that knows no secret.
    ///
    /// ```
    /// use perennial_tools::Redactor;
    ///
    /// assert_eq!(Redactor::new().redact("hello"), "hello");
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// This redactor, knowing `key` too.
    ///
    /// ```
    /// use perennial_tools::{ApiKey, Redactor};
    ///
    /// let short = Redactor::new().with(&ApiKey::new("abc")); // would be found in every text
    /// assert!(!short.finds("abc"));
    /// ```
    #[must_use]
    pub fn with(mut self, key: &ApiKey) -> Self {
        for form in forms(key.expose()) {
            if form.len() >= Self::BYTES_MIN {
                self.values.push(SecretString::from(form));
            }
        }
        self.values.sort_by_key(|value| std::cmp::Reverse(value.expose_secret().len()));
        self.values.dedup_by(|a, b| a.expose_secret() == b.expose_secret());
        self
    }

    /// `text` with every known secret replaced by [`Redactor::MARK`].
    ///
    /// ```
    /// use perennial_tools::{ApiKey, Redactor};
    ///
    /// let redactor = Redactor::new().with(&ApiKey::new("sk-very-secret"));
    /// assert_eq!(redactor.redact("nothing to hide"), "nothing to hide");
    /// ```
    pub fn redact(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for value in &self.values {
            if out.contains(value.expose_secret()) {
                out = out.replace(value.expose_secret(), Self::MARK);
            }
        }
        out
    }

    /// Whether `text` holds a known secret.
    ///
    /// ```
    /// use perennial_tools::{ApiKey, Redactor};
    ///
    /// let redactor = Redactor::new().with(&ApiKey::new("sk-very-secret"));
    /// assert!(redactor.finds("sk-very-secret") && !redactor.finds("sk-other"));
    /// ```
    pub fn finds(&self, text: &str) -> bool {
        self.values.iter().any(|value| text.contains(value.expose_secret()))
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} values)", self.values.len())
    }
}

/// The value itself and what it looks like in JSON, URLs, hexadecimal and base64.
fn forms(value: &str) -> [String; 6] {
    let json = serde_json::Value::String(value.to_owned()).to_string();
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let url = value
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect();
    let base64 = base64(value.as_bytes());
    let json = json[1..json.len() - 1].to_owned();
    [value.to_owned(), json, hex.to_uppercase(), hex, url, base64]
}

/// Standard base64 without padding, so that the padded form is found too.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len() * 4 / 3 + 2);
    for group in bytes.chunks(3) {
        let mut bits = 0_u32;
        for place in 0..3 {
            bits = bits << 8 | u32::from(group.get(place).copied().unwrap_or(0));
        }
        for place in 0..=group.len() {
            let digit = bits >> (18 - 6 * place) & 63;
            out.push(char::from(DIGITS[digit as usize]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-\"canary\"-0123456789";

    #[test]
    fn a_key_is_never_shown() {
        assert_eq!(format!("{:?}", ApiKey::new(KEY)), "ApiKey(***)");
        let redactor = Redactor::new().with(&ApiKey::new(KEY));
        assert!(!format!("{redactor:?}").contains("canary"));
    }

    #[test]
    fn a_secret_is_found_in_every_usual_form() {
        let redactor = Redactor::new().with(&ApiKey::new(KEY));
        for form in forms(KEY) {
            let text = format!("before {form} after");
            assert!(redactor.finds(&text), "{form}");
            assert_eq!(redactor.redact(&text), "before [redacted] after");
        }
        assert_eq!(redactor.redact("nothing here"), "nothing here");
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        assert_eq!(base64(b"foobar"), "Zm9vYmFy");
        assert_eq!(base64(b"fooba"), "Zm9vYmE");
        assert_eq!(base64(b"foob"), "Zm9vYg");
    }

    #[test]
    fn short_values_are_left_alone() {
        assert_eq!(Redactor::new().with(&ApiKey::new("abc")).redact("abc"), "abc");
    }
}
