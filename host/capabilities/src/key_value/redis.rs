//! A store in Redis: keys and values as they are, so that Spin and other hosts find the same.
//!
//! One connection carries all calls of a store at the same time. A call is made only while it stands: after the first one
//! that is lost or not answered in time, calls fail at once, and a task of the store's own tries for a new connection.
//! So a Redis that is gone or stuck costs the calls that were in hand [`CALL_TIMEOUT`], and later ones nothing.

use std::error::Error as _;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo as _,
    RedisError,
};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::store::{Store, StoreError};
use fnhost_metrics::StoreUp;
use fnhost_types::trust;

/// How a Redis is named.
pub const URL: &str = "redis://[user:password@]host[:port][/database], or rediss:// for TLS";
/// Time in which Redis has to answer a call; later it counts as gone.
pub const CALL_TIMEOUT: Duration = Duration::from_millis(50);
/// Time for a connection to be made, with its log-in.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Time from a lost connection to the first try for a new one. Doubles with each further try up to [`RETRY_MAX`].
pub const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest time between two tries.
pub const RETRY_MAX: Duration = Duration::from_secs(1);
/// A connection that lasted for so long was a good one: after it tries begin at [`RETRY_MIN`] again.
pub const STEADY: Duration = Duration::from_secs(5);
/// Keys that one `get-keys` answers at most.
pub const KEYS_MAX: usize = 100_000;
/// Keys that Redis is asked to look at in one step of it.
const KEYS_OF_STEP: usize = 1_000;

/// A key-value store in Redis: one connection, and a task that restores it.
pub struct RedisStore {
    link: Arc<Link>,
    max_age: Option<Duration>,
    /// Ends with the store.
    _keeper: JoinSet<()>,
}

/// The way to the server.
struct Link {
    label: String,
    /// Host and port, without the password that the URL may have.
    server: String,
    client: Client,
    call_timeout: Duration,
    /// Or why there is none.
    live: RwLock<Result<Live, String>>,
    lost: Notify,
    up: StoreUp,
}

/// A connection that stands, as far as is known.
#[derive(Clone)]
struct Live {
    connection: MultiplexedConnection,
    number: u64,
}

impl RedisStore {
    /// The store of this label at a URL, as [`URL`] says. Connects in the background, within a runtime of tokio. Calls are
    /// given `call_timeout`, which is [`CALL_TIMEOUT`] but for tests.
    ///
    /// # Errors
    /// This is no such URL, or asks for TLS where no authorities can be read; the text does not repeat it.
    pub fn new(
        label: &str,
        url: &str,
        max_age: Option<Duration>,
        call_timeout: Duration,
    ) -> Result<Self, String> {
        let unfit = |error: RedisError| format!("{error}; write {URL}");
        let info = url.into_connection_info().map_err(unfit)?;
        // Commands are small, and none is to wait until the one before it is acknowledged.
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        if let ConnectionAddr::TcpTls { insecure, .. } = info.addr() {
            if *insecure {
                return Err(
                    "#insecure is not offered: have its authority trusted by SSL_CERT_FILE".to_owned()
                );
            }
            trust::authorities().map_err(|error| error.to_string())?;
        }
        let client = Client::open(info).map_err(unfit)?;
        let server = client.get_connection_info().addr().to_string();
        let link = Arc::new(Link {
            label: label.to_owned(),
            server,
            client,
            live: RwLock::new(Err("not yet connected".to_owned())),
            call_timeout,
            lost: Notify::new(),
            up: StoreUp::new(label),
        });
        let mut keeper = JoinSet::new();
        let kept = link.clone();
        keeper.spawn(async move {
            fnhost_metrics::supervise("key-value", &kept.label, || kept.clone().keep()).await;
        });
        Ok(Self { link, max_age, _keeper: keeper })
    }

    async fn call<V: FromRedisValue>(&self, command: &Cmd) -> Result<V, StoreError> {
        let mut live = self.link.live().map_err(|reason| {
            StoreError(format!("there is no connection to Redis at {}: {reason}", self.link.server))
        })?;
        let called = tokio::time::timeout(self.link.call_timeout, command.query_async(&mut live.connection));
        let (reason, lost) = match called.await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => (error.to_string(), error.is_unrecoverable_error() || error.is_io_error()),
            Err(_) => (format!("no answer within {} ms", self.link.call_timeout.as_millis()), true),
        };
        if lost {
            self.link.lose(live.number, &reason);
        }
        Err(StoreError(format!("Redis at {}: {reason}", self.link.server)))
    }

    async fn scan(&self) -> Result<Vec<String>, StoreError> {
        let mut keys = Vec::new();
        let mut cursor: u64 = 0;
        loop {
            let mut step = redis::cmd("SCAN");
            step.arg(cursor).arg("COUNT").arg(KEYS_OF_STEP);
            let found: Vec<String>;
            (cursor, found) = self.call(&step).await?;
            keys.extend(found);
            if keys.len() > KEYS_MAX {
                return Err(StoreError(format!("the store has more than {KEYS_MAX} keys")));
            }
            if cursor == 0 {
                break;
            }
        }
        // A scan may come past a key twice.
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }
}

impl Link {
    fn live(&self) -> Result<Live, String> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn become_live(&self, live: Result<Live, String>) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = live;
    }

    /// Gives a connection up, unless a later one stands already.
    fn lose(&self, number: u64, reason: &str) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if live.as_ref().is_ok_and(|live| live.number == number) {
            *live = Err(reason.to_owned());
            self.up.set(false);
            let (store, server) = (&self.label, &self.server);
            tracing::warn!(
                store,
                server,
                "lost the connection to Redis; its store fails until Redis is back: {reason}"
            );
            self.lost.notify_one();
        }
    }

    /// Keeps a connection, for as long as the store lives.
    async fn keep(self: Arc<Self>) {
        let (store, server) = (&self.label, &self.server);
        let mut pause = RETRY_MIN;
        let mut told = false;
        for number in 0.. {
            match self.connect().await {
                Ok(connection) => {
                    tracing::info!(store, server, "connected to Redis");
                    let since = Instant::now();
                    self.become_live(Ok(Live { connection, number }));
                    self.up.set(true);
                    self.lost.notified().await;
                    told = true;
                    if since.elapsed() >= STEADY {
                        pause = RETRY_MIN;
                    }
                }
                Err(reason) => {
                    // Once, and not at every try.
                    if !told {
                        let what = "cannot reach Redis; its store fails until Redis answers";
                        tracing::warn!(store, server, "{what}: {reason}");
                        told = true;
                    }
                    self.become_live(Err(reason));
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// A connection on which Redis answers in time.
    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connected = async {
            let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            let asked = Instant::now();
            redis::cmd("PING").exec_async(&mut connection).await?;
            Ok::<_, RedisError>((connection, asked.elapsed()))
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, connected).await {
            Ok(Ok((connection, took))) if took <= self.call_timeout => Ok(connection),
            Ok(Ok((_, took))) => Err(format!("it takes {} ms to answer", took.as_millis())),
            Ok(Err(error)) => Err(self.why(&error)),
            Err(_) => Err(format!("no connection within {} ms", CONNECT_TIMEOUT.as_millis())),
        }
    }

    /// Why there is no connection; a certificate that is not believed with its cure.
    fn why(&self, error: &RedisError) -> String {
        let certificate = error.source().and_then(trust::certificate_error);
        match (certificate, self.client.get_connection_info().addr()) {
            (Some(why), ConnectionAddr::TcpTls { host, .. }) => trust::distrust(host, why),
            _ if error.kind() == ErrorKind::AuthenticationFailed => {
                "it refused the login; correct the user and password in the url".to_owned()
            }
            _ => error.to_string(),
        }
    }
}

impl Store for RedisStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, StoreError>> {
        async move { self.call(&Cmd::get(key)).await }.boxed()
    }

    fn set<'a>(&'a self, key: &'a str, value: Vec<u8>) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let mut command = Cmd::set(key, value);
            if let Some(age) = self.max_age {
                command.arg("PX").arg(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
            }
            self.call(&command).await
        }
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        async move { self.call(&Cmd::del(key)).await }.boxed()
    }

    fn exists<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        async move { self.call(&Cmd::exists(key)).await }.boxed()
    }

    fn keys(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        self.scan().boxed()
    }
}
