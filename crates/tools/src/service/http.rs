//! Something that runs elsewhere and answers over HTTP: it is neither started nor stopped from here.

use std::{fmt, sync::Arc, time::Duration};

use reqwest::{Client, Url, redirect};

use super::{
    DriverFuture, Epoch, Instance, InstanceNote, Probe, ProbeResult, ServiceDriver, ServiceKey,
    StartError, StopError, StopMode,
};

/// How long making a connection may take; the whole probe has its deadline besides.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A driver for an endpoint that others run. A probe is one GET: it is ready when the answer is a success, and lives
/// when there is any answer. Nothing of an answer's body is read, and no redirect is followed.
///
/// ```
/// use perennial_tools::service::{HttpEndpoint, InvalidEndpoint};
///
/// let analyzer = HttpEndpoint::new("http://127.0.0.1:2002")?.probed_at("/health")?;
/// let refused = HttpEndpoint::new("http://ada:secret@example.org").unwrap_err();
/// assert_eq!(refused, InvalidEndpoint::HoldsMore); // and is not repeated
/// # drop(analyzer);
/// # Ok::<(), InvalidEndpoint>(())
/// ```
#[derive(Clone)]
pub struct HttpEndpoint {
    base: Url,
    probe: Url,
    client: Client,
}

/// Why an address cannot be that of a service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEndpoint {
    /// It is none.
    #[error("`{0}` is not an http or https address")]
    Address(String),
    /// User or password stand in it.
    #[error(
        "the address of a service must hold no credential, query or fragment: it is shown in the tree"
    )]
    HoldsMore,
    /// It leads elsewhere.
    #[error("`{0}` is not a path on the service: let it begin with one `/`")]
    Path(String),
    /// The HTTP client cannot be made, for example without trusted roots.
    #[error("the HTTP client cannot be made: {0}")]
    Client(String),
}

impl HttpEndpoint {
    /// The service at `base`, probed there.
    ///
    /// # Errors
    ///
    /// When it is no address that may be shown, or TLS has no trusted roots.
    pub fn new(base: impl AsRef<str>) -> Result<Self, InvalidEndpoint> {
        let base = base.as_ref();
        let refused = || InvalidEndpoint::Address(base.to_owned());
        let url = Url::parse(base).map_err(|_| {
            // What is no address may still hold a password.
            if base.contains('@') { InvalidEndpoint::HoldsMore } else { refused() }
        })?;
        let bare = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !bare {
            return Err(InvalidEndpoint::HoldsMore);
        }
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(refused());
        }
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_WITHIN)
            .http1_only();
        let client = crate::provider::anthropic::tls(client, url.scheme() == "https")
            .map_err(|error| InvalidEndpoint::Client(error.to_string()))?
            .build()
            .map_err(|error| InvalidEndpoint::Client(error.to_string()))?;
        Ok(Self { probe: url.clone(), base: url, client })
    }

    /// The same, probed at `path` of it.
    ///
    /// # Errors
    ///
    /// When `path` is none.
    pub fn probed_at(mut self, path: &str) -> Result<Self, InvalidEndpoint> {
        let refused = || InvalidEndpoint::Path(path.to_owned());
        if !path.starts_with('/') || path.starts_with("//") {
            return Err(refused());
        }
        self.probe = self.base.join(path).map_err(|_| refused())?;
        Ok(self)
    }
}

impl fmt::Debug for HttpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpEndpoint").field("probe", &self.probe.as_str()).finish()
    }
}

impl ServiceDriver for HttpEndpoint {
    fn start<'a>(
        &'a self,
        _: &'a ServiceKey,
        _: Epoch,
    ) -> DriverFuture<'a, Result<Instance, StartError>> {
        Box::pin(async { Ok(Instance::at(self.base.as_str())) })
    }

    fn stop<'a>(&'a self, _: &'a Instance, _: StopMode) -> DriverFuture<'a, Result<(), StopError>> {
        Box::pin(async { Ok(()) })
    }

    /// It runs elsewhere, whoever has used it before; one at another address is another one.
    fn adopt<'a>(
        &'a self,
        _: &'a ServiceKey,
        _: Epoch,
        note: Option<&'a InstanceNote>,
    ) -> DriverFuture<'a, Option<Instance>> {
        let noted = note.and_then(|note| note.endpoint.as_deref());
        let same = noted.is_none_or(|endpoint| endpoint == self.base.as_str());
        Box::pin(async move { same.then(|| Instance::at(self.base.as_str())) })
    }

    fn probe<'a>(&'a self, _: &'a Instance, probe: Probe) -> DriverFuture<'a, ProbeResult> {
        Box::pin(async move {
            let fail = |why: String| ProbeResult::Fail(Arc::from(why));
            match (self.client.get(self.probe.clone()).send().await, probe) {
                (Ok(answer), _) if answer.status().is_success() => ProbeResult::Pass,
                (Ok(_), Probe::Liveness) => ProbeResult::Pass,
                (Ok(answer), Probe::Readiness) => {
                    fail(format!("{} answers {}", self.probe, answer.status()))
                }
                (Err(error), _) if error.is_connect() => {
                    fail(format!("{} takes no connection", self.probe))
                }
                (Err(error), _) => {
                    fail(format!("{} gives no answer: {}", self.probe, error.without_url()))
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Answers one request with `status`.
    async fn answer(listener: &TcpListener, status: &str) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut asked).await.unwrap();
        }
        let answer =
            format!("HTTP/1.1 {status}\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(asked).unwrap()
    }

    #[tokio::test]
    async fn it_is_ready_with_a_success_and_lives_with_any_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/", listener.local_addr().unwrap());
        let driver = HttpEndpoint::new(&address).unwrap().probed_at("/health").unwrap();
        let key = ServiceKey::shared("there");
        let instance = driver.start(&key, Epoch::ZERO.next()).await.unwrap();
        assert_eq!(instance.endpoint(), Some(&*address));
        for (status, ready) in [("204 No Content", true), ("503 Busy", false), ("302 Found", false)]
        {
            for probe in [Probe::Readiness, Probe::Liveness] {
                let (asked, result) =
                    tokio::join!(answer(&listener, status), driver.probe(&instance, probe));
                assert!(asked.starts_with("GET /health HTTP/1.1"), "{asked}");
                let passes = ready || probe == Probe::Liveness;
                assert_eq!(result == ProbeResult::Pass, passes, "{status}: {result:?}");
            }
        }
        assert_eq!(driver.stop(&instance, StopMode::Graceful).await, Ok(()));
        drop(listener);
        for probe in [Probe::Readiness, Probe::Liveness] {
            let ProbeResult::Fail(why) = driver.probe(&instance, probe).await else {
                panic!("nobody is there");
            };
            assert!(why.ends_with("/health takes no connection"), "{why}");
        }
    }

    #[test]
    fn an_address_is_one_and_holds_nothing_that_must_not_be_shown() {
        for address in ["http://a:b@c/", "https://a@c/", "http://c/?key=1", "http://a:b@[/"] {
            assert_eq!(HttpEndpoint::new(address).unwrap_err(), InvalidEndpoint::HoldsMore);
        }
        for address in ["there", "ftp://there/", "unix:/there"] {
            let refused = HttpEndpoint::new(address).unwrap_err();
            assert_eq!(refused, InvalidEndpoint::Address(address.to_owned()));
        }
        let there = HttpEndpoint::new("https://there.example").unwrap();
        for path in ["health", "//elsewhere/", ""] {
            assert!(matches!(there.clone().probed_at(path), Err(InvalidEndpoint::Path(_))));
        }
        assert_eq!(format!("{there:?}"), r#"HttpEndpoint { probe: "https://there.example/" }"#);
    }
}
