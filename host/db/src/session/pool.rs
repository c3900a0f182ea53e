//! A pool of connections that log in as one role.
//!
//! Not sqlx's own pool, because that one sends a ping at every release, a round trip per call, and returns a
//! connection by default, whereas here the default must be to close it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures::{FutureExt as _, StreamExt as _};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Row as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::backend::Backend;
use super::{Bounded, FUNCTIONS_MAY_CHANGE_SESSIONS, RESET_SESSION, SessionError};
use crate::OwnerPool;

/// How long a login may take, from the first packet to the first ready message: on a machine that has more to do than it can, several
/// seconds, and to give one up only makes another.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How much later than the call's own deadline the server ends a transaction that sits idle: the host ends the
/// call first, unless the host itself is stopped, which is the case this is for.
const IDLE_IN_TRANSACTION_MARGIN: Duration = Duration::from_secs(1);
/// How much later than the server's own limit the host gives a statement up: where the server is there, it answers first.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);
/// How long a connection may take to be closed in good order.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the server looks, while it runs a statement, whether the client is still there.
const CLIENT_CONNECTION_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How many prepared statements a connection keeps; beyond that the least recently used one is closed.
const STATEMENT_CACHE_CAPACITY: usize = 256;
/// A connection that nobody needed for so long is closed, which gives the server its memory back.
const IDLE_LIFETIME: Duration = Duration::from_secs(300);

/// The setting that says which version of the function a session serves, read by the default of its events' column.
pub const VERSION_SETTING: &str = "fnhost.version";

/// The bounds of a role's sessions.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// Connections that may be open at once: this function's part of the host's budget. A caller beyond it waits.
    pub max_connections: usize,
    /// The longest a call of the function may take; a statement is ended by the server after the same time.
    pub deadline: Duration,
}

/// The connections of one function, which log in as its role. Cheap to clone.
#[derive(Clone)]
pub struct RolePool {
    inner: Arc<Inner>,
    /// The version of the function that its sessions say they serve; without one a session may say any.
    version: Option<Arc<str>>,
}

struct Inner {
    options: PgConnectOptions,
    /// Its sessions serve a function, not the host.
    of_function: bool,
    /// The longest that a statement of the host's own may go without an answer.
    answer_timeout: Duration,
    limit: usize,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Who ends at the server what a function left running there.
    ended_by: OnceLock<OwnerPool>,
    /// The most recently used last, so that the few connections a quiet function needs stay warm.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: Bounded,
    backend: Backend,
    /// See [`Session::never_known`].
    never_known: bool,
    version: Option<Arc<str>>,
    since: Instant,
}

impl RolePool {
    /// A pool of sessions that log in with `options`; `name` is shown by the server as part of the application
    /// name. Connects to nothing yet.
    pub fn new(name: &str, options: PgConnectOptions, limits: SessionLimits) -> Self {
        let SessionLimits { max_connections, deadline } = limits;
        let options = options.application_name(&format!("fnhost {name}"));
        Self::build(options, true, max_connections, deadline, deadline + IDLE_IN_TRANSACTION_MARGIN)
    }

    /// A pool of at most `limit` sessions whose statements are ended by the server after `statement`, and whose transactions
    /// when they sit idle for longer than `idle_in_transaction`.
    pub(crate) fn with_timeouts(
        options: PgConnectOptions,
        limit: usize,
        statement: Duration,
        idle_in_transaction: Duration,
    ) -> Self {
        Self::build(options, false, limit, statement, idle_in_transaction)
    }

    fn build(
        options: PgConnectOptions,
        of_function: bool,
        limit: usize,
        statement: Duration,
        idle_in_transaction: Duration,
    ) -> Self {
        let millis = |duration: Duration| duration.as_millis().to_string();
        // Settings given at the start of a session are its defaults, so `RESET ALL` returns to them.
        let options = options
            .statement_cache_capacity(STATEMENT_CACHE_CAPACITY)
            // Some of the owner's statements hold passwords.
            .disable_statement_logging()
            .options([
                ("statement_timeout", millis(statement)),
                ("idle_in_transaction_session_timeout", millis(idle_in_transaction)),
                ("client_connection_check_interval", millis(CLIENT_CONNECTION_CHECK_INTERVAL)),
            ]);
        Self {
            inner: Arc::new(Inner {
                options,
                of_function,
                answer_timeout: statement + ANSWER_MARGIN,
                limit,
                permits: Arc::new(Semaphore::new(limit)),
                waiting: AtomicUsize::new(0),
                ended_by: OnceLock::new(),
                idle: Mutex::new(Vec::new()),
            }),
            version: None,
        }
    }

    /// The same connections for the calls of a version, a short digest: their sessions have it as the setting
    /// [`VERSION_SETTING`]. One that was opened for another version is not used, and is closed where the budget needs its
    /// place; so the setting costs a login after a swap, and nothing otherwise.
    #[must_use]
    pub fn of_version(&self, version: &str) -> Self {
        Self { inner: self.inner.clone(), version: Some(version.into()) }
    }

    /// A statement of a function that is given up is ended at the server too, by the owner, of whose server these connections
    /// are; without that the server ends it once it notices. Said once, before the first connection.
    #[must_use]
    pub fn ended_by(self, owner: OwnerPool) -> Self {
        self.inner.ended_by.get_or_init(|| owner);
        self
    }

    /// Where and as whom the sessions log in.
    pub fn options(&self) -> &PgConnectOptions {
        &self.inner.options
    }

    /// A session for one use. Waits while the budget is used up.
    ///
    /// # Errors
    /// Where a new connection is needed and the server cannot be reached or refuses the login.
    pub async fn acquire(&self) -> Result<Session, SessionError> {
        let permit = self.permit().await;
        let reused = match &self.version {
            None => self.inner.idle().pop(),
            Some(_) => {
                let mut idle = self.inner.idle();
                let fitting = idle.iter().rposition(|idle| idle.version == self.version);
                fitting.map(|at| idle.remove(at))
            }
        };
        match reused {
            Some(idle) => Ok(self.session(idle, permit, true)),
            None => self.connect(permit).await,
        }
    }

    /// As [`RolePool::acquire`], but never a connection that was used before. For after one of those turned out
    /// to be dead.
    pub async fn acquire_new(&self) -> Result<Session, SessionError> {
        let permit = self.permit().await;
        self.connect(permit).await
    }

    /// True where every connection of the budget is in use, so that the next caller waits.
    pub fn is_used_up(&self) -> bool {
        self.inner.permits.available_permits() == 0
    }

    /// Closes the idle connections: where one has died, the server was probably restarted and they all have.
    pub fn close_idle(&self) {
        // Taken out first, so that the sockets are closed outside the lock.
        let idle = std::mem::take(&mut *self.inner.idle());
        drop(idle);
    }

    /// Takes leave of the server on the idle connections.
    pub(crate) async fn close(&self) {
        let idle = std::mem::take(&mut *self.inner.idle());
        let leave = idle.into_iter().map(|idle| idle.connection.close());
        // One that cannot be closed in good order is closed all the same.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, futures::future::join_all(leave)).await;
    }

    /// How its connections are used at the moment.
    pub fn usage(&self) -> Usage {
        let Inner { limit, permits, waiting, .. } = &*self.inner;
        Usage {
            limit: *limit,
            used: limit.saturating_sub(permits.available_permits()),
            idle: self.inner.idle().len(),
            waiting: waiting.load(Ordering::Relaxed),
        }
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        let permits = Arc::clone(&self.inner.permits);
        let waiting = Waiting::new(&self.inner.waiting);
        let permit = permits.acquire_owned().await.expect("the semaphore of a pool is never closed");
        drop(waiting);
        permit
    }

    async fn connect(&self, permit: OwnedSemaphorePermit) -> Result<Session, SessionError> {
        // Idle ones of other versions count against the budget.
        let in_the_way = {
            let mut idle = self.inner.idle();
            (idle.len() > self.inner.permits.available_permits()).then(|| idle.remove(0))
        };
        drop(in_the_way);
        let options = self.inner.options.clone();
        let options = match &self.version {
            // As the session's own default, so that its reset returns to it.
            Some(version) => options.options([(VERSION_SETTING, version)]),
            None => options,
        };
        let login = async {
            let mut connection = PgConnection::connect_with(&options).await?;
            let backend = Backend::of(&mut connection, &self.inner.ended_by).await?;
            Ok((connection, backend))
        };
        let (connection, backend) = tokio::time::timeout(CONNECT_TIMEOUT, login)
            .await
            .map_err(|_| SessionError::ConnectTimeout(CONNECT_TIMEOUT))?
            .map_err(SessionError::Connect)?;
        let mut connection = Bounded::new(connection, self.inner.answer_timeout);
        let never_known = self.inner.of_function && {
            // Not prepared: it is asked once, in one round trip.
            let asked = sqlx::raw_sql(FUNCTIONS_MAY_CHANGE_SESSIONS).fetch_one(&mut connection).await;
            asked.and_then(|row| row.try_get(0)).map_err(SessionError::Connect)?
        };
        let version = self.version.clone();
        let new = Idle { connection, backend, never_known, version, since: Instant::now() };
        Ok(self.session(new, permit, false))
    }

    fn session(&self, idle: Idle, permit: OwnedSemaphorePermit, reused: bool) -> Session {
        let Idle { connection, backend, never_known, version, .. } = idle;
        let (pool, changed) = (self.clone(), never_known);
        Session { connection, backend, never_known, changed, version, reused, pool, _permit: permit }
    }
}

impl Inner {
    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        // Nothing panics while it is held; a poisoned list would still be a list of connections.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the connections of a pool are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Connections that may be open.
    pub limit: usize,
    /// Connections in use.
    pub used: usize,
    /// Open connections that nobody uses.
    pub idle: usize,
    /// Callers that wait for one.
    pub waiting: usize,
}

/// A caller that waits, also where it gives up.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection taken out of its pool. Dropped, it is closed; [`Session::release`] gives it back.
pub struct Session {
    connection: Bounded,
    backend: Backend,
    /// A function of the database may change a session, by a trigger say, so that of no statement it is known that it does not.
    never_known: bool,
    /// Something ran on it that may have left something behind.
    changed: bool,
    /// What it was opened for.
    version: Option<Arc<str>>,
    reused: bool,
    pool: RolePool,
    /// Last, so that the connection is gone before another may take its place.
    _permit: OwnedSemaphorePermit,
}

impl Session {
    /// The connection itself, for statements whose limit is the deadline of their call.
    pub fn connection(&mut self) -> &mut PgConnection {
        self.connection.unbounded()
    }

    /// Says that a statement of a function is about to run. Dropped before [`Session::statement_ended`], the session is ended at
    /// the server too. With `may_change_session` it is not known to leave the session alone.
    pub fn statement_started(&mut self, may_change_session: bool) {
        self.backend.set_running(true);
        self.changed |= may_change_session;
    }

    /// Says that it ran to its end.
    pub fn statement_ended(&mut self) {
        self.backend.set_running(false);
    }

    pub(crate) fn as_bounded(&self) -> &Bounded {
        &self.connection
    }

    /// The connection for statements of the host.
    pub fn bounded(&mut self) -> &mut Bounded {
        &mut self.connection
    }

    /// Whether it has to be reset before another call gets it.
    pub(crate) fn may_have_changed(&self) -> bool {
        self.changed
    }

    /// The pool it came from.
    pub fn pool(&self) -> &RolePool {
        &self.pool
    }

    /// True where it has served an earlier use, so that it may have died since.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Gives the connection back as it is: the caller has reset the session, or nothing has changed it. One on which a statement of the host got no answer is
    /// closed, and so are the idle ones: their server is the same.
    pub fn release(self) {
        if !self.connection.is_settled() {
            self.pool.close_idle();
            return;
        }
        let now = Instant::now();
        let Self { connection, backend, never_known, version, pool, _permit: permit, .. } = self;
        let expired = {
            let mut idle = pool.inner.idle();
            idle.push(Idle { connection, backend, never_known, version, since: now });
            let oldest_expired = now.duration_since(idle[0].since) > IDLE_LIFETIME;
            oldest_expired.then(|| idle.remove(0))
        };
        drop(expired);
        drop(permit);
    }

    /// Gives the connection back. Where the session has to be reset, that is sent without waiting for the answer, which the
    /// next use reads before its own: the caller pays one write and no round trip.
    pub fn give_back(mut self) {
        if !self.changed {
            return self.release();
        }
        let sent = {
            let replies = sqlx::raw_sql(RESET_SESSION).fetch_many(self.connection());
            // Unconstrained, because the runtime's own budget could otherwise end the poll before the write.
            tokio::task::unconstrained(replies.into_future()).now_or_never().map(|(first, _)| first)
        };
        if let Some(Some(Err(_)) | None) = sent {
            return;
        }
        self.release();
    }
}
