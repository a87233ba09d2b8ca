//! One connection, polled together with what is asked of it: no task of its own, so whoever holds it
//! decides when anything happens.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use perennial_core::Timestamp;
use tokio_postgres::{
    AsyncMessage, Client, Connection, Error, NoTls, Notification, Socket, tls::NoTlsStream,
};

use super::{PostgresOptions, Shared, address::Address, failure};
use crate::StoreError;

/// Oldest server that is used (STO-40), as it numbers itself.
const OLDEST: i64 = 140_000;
/// Longer than the server lets any statement take: who hears nothing for so long hears nothing any more.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// What holds for every connection (STO-43). A prepared statement knows its tables by their schema, and is planned once:
/// states are in its text, so no plan is better for other values, and planning was a fifth of a step's time.
const SETTINGS: &str = "SET search_path TO perennial; SET statement_timeout TO '30s'; \
    SET lock_timeout TO '5s'; SET jit TO off; SET plan_cache_mode TO force_generic_plan; \
    SET default_transaction_isolation TO 'read committed'; SET default_transaction_read_only TO off";

/// What the server is, with the one setting that it may not weaken (STO-43).
const GREETING: &str = "SELECT CAST(current_setting('server_version_num') AS BIGINT), \
    set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' \
      ELSE current_setting('synchronous_commit') END, false), \
    pg_is_in_recovery(), pg_backend_pid(), \
    CAST(floor(extract(epoch FROM clock_timestamp()) * 1000000) AS BIGINT), \
    current_setting('server_version'), \
    CAST(floor(extract(epoch FROM pg_postmaster_start_time()) * 1000000) AS BIGINT)";

/// A connection on which everything is set and checked.
pub(super) struct Link {
    pub(super) client: Arc<Client>,
    /// None after its end: whoever waits for an answer then learns that none will come.
    connection: Mutex<Option<Connection<Socket, NoTlsStream>>>,
    notified: Mutex<VecDeque<Notification>>,
    pub(super) greeting: Greeting,
}

/// What a server says of itself.
#[derive(Clone, Debug)]
pub(super) struct Greeting {
    /// The server process of this connection.
    pub(super) process: i32,
    /// The server's clock.
    pub(super) now: Timestamp,
    /// When it was started, by that clock.
    pub(super) started: Timestamp,
    /// Its version, in words.
    pub(super) version: String,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// The client or the server says so.
    Told(Error),
    /// Nothing came within the time.
    Silent,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Told(error)
    }
}

impl Link {
    /// Connects, sets and checks.
    pub(super) async fn open(
        address: &Address,
        options: &PostgresOptions,
    ) -> Result<Self, StoreError> {
        let refusal = |error| failure::refusal(&error, address.label());
        let mut config = address.config.clone();
        config.application_name(&options.application_name);
        let (client, connection) = config.connect(NoTls).await.map_err(refusal)?;
        let mut link = Self {
            client: Arc::new(client),
            connection: Mutex::new(Some(connection)),
            notified: Mutex::default(),
            greeting: Greeting {
                process: 0,
                now: Timestamp::default(),
                started: Timestamp::default(),
                version: String::new(),
            },
        };
        let told = |failed| match failed {
            Failed::Told(error) => refusal(error),
            Failed::Silent => StoreError::Unavailable(format!("{} is silent", address.label())),
        };
        let idle = options.idle_in_transaction.as_millis().max(1);
        let settings = format!("{SETTINGS}; SET idle_in_transaction_session_timeout TO '{idle}ms'");
        link.drive(link.client.batch_execute(&settings)).await.map_err(told)?;
        let row = link.drive(link.client.query_one(GREETING, &[])).await.map_err(told)?;
        let read = || {
            let (version, durable) = (row.try_get::<_, i64>(0)?, row.try_get::<_, String>(1)?);
            let greeting = Greeting {
                process: row.try_get(3)?,
                now: Timestamp::from_micros(row.try_get(4)?),
                version: row.try_get(5)?,
                started: Timestamp::from_micros(row.try_get(6)?),
            };
            Ok((version, durable, row.try_get::<_, bool>(2)?, greeting))
        };
        let (version, durable, standby, greeting) = read().map_err(refusal)?;
        let refused = |why: String| StoreError::Refused { server: address.label().to_owned(), why };
        if version < OLDEST {
            let why = format!("it is PostgreSQL {}; 14 or later is needed", greeting.version);
            return Err(refused(why));
        }
        if durable == "off" {
            return Err(refused("synchronous_commit stays off".to_owned()));
        }
        if standby {
            let why = format!("{} is a standby: nothing can be written", address.label());
            return Err(StoreError::Unavailable(why));
        }
        link.greeting = greeting;
        Ok(link)
    }

    /// Connects as a connection of `shared`, and notes the server's clock.
    pub(super) async fn of(shared: &Shared) -> Result<Self, StoreError> {
        let link = Self::open(&shared.address, &shared.options).await?;
        shared.clock.measured(link.greeting.now);
        Ok(link)
    }

    /// Lets the connection work until `asked` is answered.
    pub(super) async fn drive<T>(
        &self,
        asked: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failed> {
        let mut asked = pin!(asked);
        let answered = poll_fn(|cx| {
            // First it sends, then the connection works, then it may have its answer.
            if let Poll::Ready(answer) = asked.as_mut().poll(cx) {
                return Poll::Ready(answer);
            }
            self.work(cx);
            asked.as_mut().poll(cx)
        });
        match tokio::time::timeout(ANSWER_WITHIN, answered).await {
            Ok(answer) => answer.map_err(Failed::Told),
            Err(_) => {
                self.end();
                Err(Failed::Silent)
            }
        }
    }

    /// Reads what has arrived, also the end of the connection.
    pub(super) async fn look(&self) {
        for _ in 0..2 {
            poll_fn(|cx| {
                self.work(cx);
                Poll::Ready(())
            })
            .await;
            // Meanwhile the runtime asks the system what is there.
            tokio::task::yield_now().await;
        }
    }

    /// Waits for the next notification; an error is the end of the connection.
    pub(super) async fn notified(&self) -> Result<Notification, StoreError> {
        poll_fn(|cx| {
            self.work(cx);
            if let Some(first) = held(&self.notified).pop_front() {
                return Poll::Ready(Ok(first));
            }
            if self.is_ended() {
                let lost = "the connection to the server was lost".to_owned();
                return Poll::Ready(Err(StoreError::Unavailable(lost)));
            }
            Poll::Pending
        })
        .await
    }

    /// Whether nothing can be asked any more.
    pub(super) fn is_ended(&self) -> bool {
        held(&self.connection).is_none()
    }

    fn end(&self) {
        drop(held(&self.connection).take());
    }

    /// Reads and writes as far as that is possible now.
    fn work(&self, cx: &mut std::task::Context<'_>) {
        let mut connection = held(&self.connection);
        while let Some(open) = connection.as_mut() {
            match open.poll_message(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(AsyncMessage::Notification(notification)))) => {
                    held(&self.notified).push_back(notification);
                }
                Poll::Ready(Some(Ok(AsyncMessage::Notice(notice)))) => {
                    tracing::debug!(notice = notice.message(), "said by the server");
                }
                Poll::Ready(Some(Ok(_))) => (),
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(error = failure::describe(&error), "connection ended");
                    *connection = None;
                }
                Poll::Ready(None) => *connection = None,
            }
        }
    }
}

/// One thread has it at a time; it is a lock only because a future may move between threads.
fn held<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
