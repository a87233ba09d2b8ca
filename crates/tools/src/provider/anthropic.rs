//! Anthropic's Messages API over HTTPS, streaming (ANT-1 to ANT-9).
//!
//! One call is one exchange: the adapter never retries, waits or falls back (PRV-14), and dropping
//! its stream closes the connection (PRV-15). Text is handed on; thinking, tool calls and blocks
//! of a newer API are heartbeats, and why the reply ended is reported as it was said.
//!
//! The credential lives in the client of its adapter, travels in one header, and is taken out of
//! every text that leaves this module.

mod body;
mod exchange;
mod hint;
mod reading;

use std::{fmt, net::IpAddr, time::Duration};

use perennial_core::{FailureClass, failure::Failure, llm::ChatRequest};
use reqwest::{
    Client, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
    redirect,
};

use super::{CallCx, Opening, Provider};
use crate::secret::{ApiKey, Redactor};

/// The version of the API that is spoken.
const VERSION: &str = "2023-06-01";
/// How long making a connection may take (WIR-2).
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How to reach the API.
///
/// ```
/// use perennial_tools::AnthropicConfig;
/// # use perennial_tools::ApiKey;
///
/// let config = AnthropicConfig::new(ApiKey::new("sk-very-secret")).at("https://proxy.example");
/// assert!(!format!("{config:?}").contains("sk-very-secret"));
/// ```
#[derive(Clone, Debug)]
pub struct AnthropicConfig {
    /// Where the API is; `http://` only on this machine (WIR-6).
    pub base_url: String,
    /// The credential.
    pub api_key: ApiKey,
    /// How long the first byte of an answer may take (WIR-2).
    pub first_byte: Duration,
    /// Betas to ask for, sent as one comma list.
    pub betas: Vec<String>,
}

impl AnthropicConfig {
    /// The public API with `api_key`; 60 seconds for the first byte.
    pub fn new(api_key: impl Into<ApiKey>) -> Self {
        Self {
            base_url: "https://api.anthropic.com".to_owned(),
            api_key: api_key.into(),
            first_byte: Duration::from_secs(60),
            betas: Vec::new(),
        }
    }

    /// The same at `base_url`.
    #[must_use]
    pub fn at(mut self, base_url: impl Into<String>) -> Self {
        self.base_url = base_url.into();
        self
    }
}

/// Why an adapter cannot be made. No text holds the credential.
///
/// ```
/// use perennial_tools::{Anthropic, AnthropicConfig, AnthropicConfigError, ApiKey};
///
/// let config = AnthropicConfig::new(ApiKey::new("sk-very-secret")).at("http://elsewhere.example");
/// let refused = Anthropic::new(config).unwrap_err();
/// assert!(matches!(refused, AnthropicConfigError::Plaintext(_))); // a key travels by https alone
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnthropicConfigError {
    /// The address is none.
    #[error("`{0}` is not an http or https address")]
    Address(String),
    /// Plain HTTP beyond this machine.
    #[error("`{0}` is not on this machine: https is needed")]
    Plaintext(String),
    /// User, password, query or the credential stand in the address (WIR-5).
    #[error("the address must hold no credential, query or fragment")]
    AddressHoldsMore,
    /// The credential is empty or cannot be a header.
    #[error("the API key is empty or has characters that no header may have")]
    ApiKey,
    /// A beta cannot be a header.
    #[error("`{0}` cannot be sent in a header")]
    Beta(String),
    /// The HTTP client cannot be made, for example without trusted roots.
    #[error("the HTTP client cannot be made: {0}")]
    Client(String),
}

/// The adapter for one credential.
///
/// ```
/// use perennial_tools::{Anthropic, AnthropicConfig, ApiKey, Provider};
///
/// let anthropic = Anthropic::new(AnthropicConfig::new(ApiKey::new("sk-very-secret")))?; // calls nobody yet
/// assert_eq!((anthropic.name(), anthropic.is_mock()), ("anthropic", false));
/// assert!(anthropic.redactor().finds("sk-very-secret"));
/// # Ok::<(), perennial_tools::AnthropicConfigError>(())
/// ```
pub struct Anthropic {
    client: Client,
    messages: Url,
    first_byte: Duration,
    redactor: Redactor,
}

impl Anthropic {
    /// An adapter with its own pool of connections.
    ///
    /// # Errors
    ///
    /// When the address, the credential or a beta cannot be used, or TLS has no trusted roots.
    pub fn new(config: AnthropicConfig) -> Result<Self, AnthropicConfigError> {
        let redactor = Redactor::new().with(&config.api_key);
        let messages = address(&config.base_url, &config.api_key)?;
        let client = Client::builder()
            .default_headers(headers(&config)?)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_WITHIN)
            .http1_only();
        let client = tls(client, messages.scheme() == "https")?
            .build()
            .map_err(|error| AnthropicConfigError::Client(redactor.redact(&error.to_string())))?;
        Ok(Self { client, messages, first_byte: config.first_byte, redactor })
    }

    /// What takes this credential out of texts.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }
}

impl fmt::Debug for Anthropic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anthropic").field("messages", &self.messages.as_str()).finish()
    }
}

impl Provider for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn variant(&self) -> String {
        self.messages.to_string()
    }

    fn chat<'a>(&'a self, request: &'a ChatRequest, cx: &'a CallCx) -> Opening<'a> {
        if let Some(failure) = body::unsupported(request) {
            return Box::pin(std::future::ready(Err(failure)));
        }
        let body = body::of(request).to_string();
        if self.redactor.finds(&body) {
            let failure = Failure::new(
                FailureClass::Permanent,
                "PL705",
                "permanent: the request holds a secret and was not sent",
            );
            return Box::pin(std::future::ready(Err(failure)));
        }
        Box::pin(exchange::open(self, body, cx))
    }
}

/// The address of the messages, when `base` may be used.
fn address(base: &str, key: &ApiKey) -> Result<Url, AnthropicConfigError> {
    if Redactor::new().with(key).finds(base) {
        return Err(AnthropicConfigError::AddressHoldsMore);
    }
    let refused = || AnthropicConfigError::Address(base.to_owned());
    let url = Url::parse(base).map_err(|_| refused())?;
    let bare = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !bare {
        return Err(AnthropicConfigError::AddressHoldsMore);
    }
    let host = url.host_str().ok_or_else(refused)?;
    let here = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match url.scheme() {
        "https" => (),
        "http" if here => (),
        "http" => return Err(AnthropicConfigError::Plaintext(base.to_owned())),
        _ => return Err(refused()),
    }
    let whole = format!("{}/v1/messages", url.as_str().trim_end_matches('/'));
    Url::parse(&whole).map_err(|_| refused())
}

fn headers(config: &AnthropicConfig) -> Result<HeaderMap, AnthropicConfigError> {
    let mut key = HeaderValue::from_str(config.api_key.expose())
        .ok()
        .filter(|value| !value.is_empty())
        .ok_or(AnthropicConfigError::ApiKey)?;
    key.set_sensitive(true);
    let mut headers = HeaderMap::from_iter([
        (HeaderName::from_static("x-api-key"), key),
        (HeaderName::from_static("anthropic-version"), HeaderValue::from_static(VERSION)),
        (HeaderName::from_static("content-type"), HeaderValue::from_static("application/json")),
        (HeaderName::from_static("accept"), HeaderValue::from_static("text/event-stream")),
    ]);
    if !config.betas.is_empty() {
        let list = config.betas.join(",");
        let value = HeaderValue::from_str(&list).map_err(|_| AnthropicConfigError::Beta(list))?;
        headers.insert("anthropic-beta", value);
    }
    Ok(headers)
}

/// TLS by rustls on ring. An adapter for this machine trusts nobody: it never speaks TLS.
pub(crate) fn tls(
    client: reqwest::ClientBuilder,
    encrypted: bool,
) -> Result<reqwest::ClientBuilder, AnthropicConfigError> {
    if encrypted {
        // The roots of the operating system. The host's own choice of cryptography stays: this
        // fails, and changes nothing, when one was made before.
        drop(rustls::crypto::ring::default_provider().install_default());
        return Ok(client.https_only(true).tls_backend_rustls());
    }
    let ring = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let trusting_nobody = rustls::ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .map_err(|error| AnthropicConfigError::Client(error.to_string()))?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(client.tls_backend_preconfigured(trusting_nobody))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-canary-0123456789";

    fn made(base_url: &str) -> Result<Anthropic, AnthropicConfigError> {
        Anthropic::new(AnthropicConfig::new(ApiKey::new(KEY)).at(base_url))
    }

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for base in ["http://127.0.0.1:9", "http://localhost:9/", "http://[::1]:9/proxy/"] {
            assert!(made(base).is_ok(), "{base}");
        }
        for base in ["http://example.com", "http://localhost.example.com", "http://10.0.0.1"] {
            assert_eq!(made(base).unwrap_err(), AnthropicConfigError::Plaintext(base.into()));
        }
    }

    #[test]
    fn the_public_api_is_spoken_to_with_roots_or_not_at_all() {
        match Anthropic::new(AnthropicConfig::new(ApiKey::new(KEY))) {
            Ok(anthropic) => {
                assert_eq!(anthropic.messages.as_str(), "https://api.anthropic.com/v1/messages");
            }
            // A machine without any trusted roots.
            Err(error) => assert!(matches!(error, AnthropicConfigError::Client(_)), "{error}"),
        }
    }

    #[test]
    fn the_path_of_a_base_is_kept() {
        let anthropic = made("http://127.0.0.1:9/proxy/").unwrap();
        assert_eq!(anthropic.messages.as_str(), "http://127.0.0.1:9/proxy/v1/messages");
    }

    #[test]
    fn an_address_holds_no_credential() {
        let with_key = format!("https://example.com/{KEY}");
        for base in ["https://u:p@example.com", "https://example.com/?key=1", with_key.as_str()] {
            let error = made(base).unwrap_err();
            assert_eq!(error, AnthropicConfigError::AddressHoldsMore, "{base}");
            assert!(!error.to_string().contains("canary"));
        }
        for base in ["ftp://example.com", "example.com", "data:x"] {
            assert_eq!(made(base).unwrap_err(), AnthropicConfigError::Address(base.into()));
        }
    }

    #[test]
    fn a_key_must_fit_a_header() {
        for key in ["", "line\nbreak"] {
            let config = AnthropicConfig::new(ApiKey::new(key)).at("http://127.0.0.1:9");
            assert_eq!(Anthropic::new(config).unwrap_err(), AnthropicConfigError::ApiKey);
        }
    }

    #[test]
    fn nothing_shows_the_key() {
        let config = AnthropicConfig::new(ApiKey::new(KEY)).at("http://127.0.0.1:9");
        assert!(!format!("{config:?}").contains("canary"));
        let anthropic = Anthropic::new(config).unwrap();
        assert!(!format!("{anthropic:?}").contains("canary"));
    }
}
