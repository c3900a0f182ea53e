//! A store in Redis: keys and values as they are, so that Spin and other hosts find the same.
//!
//! One connection carries all calls of a store at the same time. A call is made only while it stands: after the first one
//! that is lost or not answered in time, calls fail at once, and a task of the store's own tries for a new connection.
//! So a Redis that is gone or stuck costs the calls that were in hand [`CALL_TIMEOUT`], and later ones nothing.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, IntoConnectionInfo as _, RedisError};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::store::{Store, StoreError};
use crate::metrics::StoreUp;

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

/// One store.
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
    live: RwLock<Option<Live>>,
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
    /// The store of this label at a URL: `redis://[user:password@]host[:port][/database]`, `rediss://` with TLS. Connects in
    /// the background, within a runtime of tokio. Calls are given `call_timeout`, which is [`CALL_TIMEOUT`] but for tests.
    ///
    /// # Errors
    /// This is no such URL; the text does not repeat it.
    pub fn new(
        label: &str,
        url: &str,
        max_age: Option<Duration>,
        call_timeout: Duration,
    ) -> Result<Self, String> {
        let info = url.into_connection_info().map_err(|error| error.to_string())?;
        // Commands are small, and none is to wait until the one before it is acknowledged.
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = Client::open(info).map_err(|error| error.to_string())?;
        let server = client.get_connection_info().addr().to_string();
        let link = Arc::new(Link {
            label: label.to_owned(),
            server,
            client,
            live: RwLock::default(),
            call_timeout,
            lost: Notify::new(),
            up: StoreUp::new(label),
        });
        let mut keeper = JoinSet::new();
        keeper.spawn(link.clone().keep());
        Ok(Self { link, max_age, _keeper: keeper })
    }

    async fn call<V: FromRedisValue>(&self, command: &Cmd) -> Result<V, StoreError> {
        let Some(mut live) = self.link.live() else {
            return Err(StoreError(format!("there is no connection to Redis at {}", self.link.server)));
        };
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
    fn live(&self) -> Option<Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives a connection up, unless a later one stands already.
    fn lose(&self, number: u64, reason: &str) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if live.as_ref().is_some_and(|live| live.number == number) {
            *live = None;
            self.up.set(false);
            let (store, server) = (&self.label, &self.server);
            tracing::warn!(store, server, "lost Redis, whose store fails until it is back: {reason}");
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
                    *self.live.write().unwrap_or_else(PoisonError::into_inner) =
                        Some(Live { connection, number });
                    self.up.set(true);
                    self.lost.notified().await;
                    told = true;
                    if since.elapsed() >= STEADY {
                        pause = RETRY_MIN;
                    }
                }
                // Once, and not at every try.
                Err(reason) if !told => {
                    tracing::warn!(
                        store,
                        server,
                        "cannot reach Redis, whose store fails until it is there: {reason}"
                    );
                    told = true;
                }
                Err(_) => {}
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
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no connection within {} ms", CONNECT_TIMEOUT.as_millis())),
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
