//! Where the server is, from a text that may hold a password.

use std::{fmt, net::Ipv6Addr, time::Duration};

use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};

use crate::StoreError;

/// How long one attempt to connect may take, unless the address says otherwise.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A peer that is gone is noticed after this, also by a connection that only waits.
const SILENCE: Duration = Duration::from_secs(30);

/// A database of a server. Its texts never have the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub(super) config: Config,
    label: String,
}

impl Address {
    /// Reads `postgres://user:password@host:port/database?option=value`, or the same as
    /// `host=… user=… dbname=…`. Nothing is looked up, and nobody is asked.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidAddress`], which repeats nothing of the text.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        let invalid = |why: &str| StoreError::InvalidAddress { why: why.to_owned() };
        // Its error could repeat a part of the address.
        let mut config: Config = url.parse().map_err(|_| {
            invalid(
                "write postgres://USER@HOST:PORT/DATABASE, special signs of user and password as %XX",
            )
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(invalid("it has no host"));
        }
        let mut hosts: Vec<String> = config.get_hosts().iter().map(host).collect();
        if hosts.is_empty() {
            hosts = config.get_hostaddrs().iter().map(ToString::to_string).collect();
        }
        if hosts.iter().any(String::is_empty) {
            return Err(invalid("its host is empty"));
        }
        // Then a part of the password would be taken for the host.
        if hosts.iter().any(|host| host.contains('@')) {
            return Err(invalid("an `@` in user or password is written %40"));
        }
        if config.get_ssl_mode() == SslMode::Require {
            return Err(invalid(
                "sslmode=require: this version speaks to servers without TLS; use a private network, a unix \
                 socket or a tunnel, and sslmode=disable",
            ));
        }
        let Some(database) = config.get_dbname().or(config.get_user()) else {
            return Err(invalid("it has no database"));
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        // An address of 128 bits has colons of its own.
        let shown = |host: &String| match host.parse() {
            Ok(Ipv6Addr { .. }) => format!("[{host}]"),
            Err(_) => encoded(host),
        };
        let hosts: Vec<String> = hosts.iter().map(shown).collect();
        let label = format!("postgres://{}:{port}/{database}", hosts.join(","));
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_WITHIN);
        }
        config.keepalives_idle(SILENCE).tcp_user_timeout(SILENCE).ssl_mode(SslMode::Disable);
        Ok(Self { config, label })
    }

    /// Host, port and database.
    pub fn label(&self) -> &str {
        &self.label
    }
}

fn host(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    }
}

/// A folder as an address has it.
fn encoded(host: &str) -> String {
    host.replace('%', "%25").replace('/', "%2F")
}

impl fmt::Display for Address {
    /// As it is typed, with `***` for a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self.label.strip_prefix("postgres://").unwrap_or(&self.label);
        match (self.config.get_user(), self.config.get_password()) {
            (Some(user), None) => write!(f, "postgres://{}@{rest}", encoded(user)),
            (Some(user), Some(_)) => write!(f, "postgres://{}:***@{rest}", encoded(user)),
            (None, _) => f.write_str(&self.label),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_without_its_password() {
        for url in [
            "postgres://me:s3cret@db:5433/work",
            "host=db port=5433 user=me password=s3cret dbname=work",
        ] {
            let address = Address::parse(url).unwrap();
            assert_eq!(address.label(), "postgres://db:5433/work");
            assert!(!format!("{address:?}").contains("s3cret"));
        }
    }

    #[test]
    fn an_address_names_the_server_however_it_was_written() {
        for (url, label) in [
            ("hostaddr=10.0.0.7 user=me dbname=work", "postgres://10.0.0.7:5432/work"),
            ("hostaddr=::1 user=me dbname=work", "postgres://[::1]:5432/work"),
            ("postgres://me@/work?host=/run/pg&port=6000", "postgres://%2Frun%2Fpg:6000/work"),
            ("host=a,b user=me dbname=work", "postgres://a,b:5432/work"),
        ] {
            assert_eq!(Address::parse(url).unwrap().label(), label);
        }
    }

    #[test]
    fn an_address_that_cannot_be_used_says_why_and_not_what_it_holds() {
        for (url, why) in [
            ("postgres://me:s3cret@db:port/work", "special signs"),
            ("postgres://me:s3cr@et@db/work", ""),
            ("postgres://me:s3cret@db/work?sslmode=require", "without TLS"),
            ("user=me password=s3cret", "no host"),
            ("host=db password=s3cret", "no database"),
            ("host='' user=me dbname=work", "host is empty"),
        ] {
            let error = Address::parse(url).unwrap_err();
            assert!(matches!(error, StoreError::InvalidAddress { .. }), "{url} {error:?}");
            let text = error.to_string();
            assert!(text.contains(why) && !text.contains("s3cr"), "{url}: {text}");
        }
    }
}
