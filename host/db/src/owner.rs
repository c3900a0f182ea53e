//! Connections as the owner role, on which everything runs that is not a function's.

use super::Error;
use super::session::{self, Bounded, RolePool, Session, Usage};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use sqlx::postgres::{
    PgConnectOptions, PgListener, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo, Postgres,
};
use sqlx::{Either, Execute, Executor, SqlStr};
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Connections of the owner role per host for take-overs, the admin address and the registry; relays and schedules have more,
/// see [`super::fitness::Budget`].
pub const OWNER_CONNECTIONS: usize = 8;
/// Longest wait for one of them, and for the database when a host starts.
const OWNER_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause between two attempts to reach a database that does not take connections yet.
const CONNECT_PAUSE: Duration = Duration::from_millis(200);
/// Longest run of one of the host's own statements.
pub const OWNER_STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one of the host's own transactions may sit idle: less than the lease of a leader, so that one that is stopped
/// (SIGSTOP) holds nothing any more when another takes its place.
pub const OWNER_IDLE_IN_TRANSACTION: Duration = Duration::from_secs(5);

/// Connections as the owner role. Cheap to clone.
#[derive(Clone)]
pub struct OwnerPool(RolePool);

impl OwnerPool {
    /// Connects with [`OWNER_CONNECTIONS`] connections, and checks that committed means durable.
    ///
    /// # Errors
    /// The database does not answer, or `fsync` or `synchronous_commit` is off.
    pub async fn connect(options: PgConnectOptions) -> Result<Self, Error> {
        Self::connect_with(options, OWNER_CONNECTIONS, OWNER_STATEMENT_TIMEOUT).await
    }

    /// As [`OwnerPool::connect`], with so many connections, for the process that takes leases as `host`. Its sessions carry that
    /// name: where none of them is left, the process is gone ([`super::relay::take_lease`]).
    ///
    /// # Errors
    /// As there.
    pub async fn of_host(options: PgConnectOptions, host: Uuid, connections: usize) -> Result<Self, Error> {
        let name = format!("fnhost {host}");
        Self::named(options, &name, connections, OWNER_STATEMENT_TIMEOUT).await
    }

    /// As [`OwnerPool::connect`], with so many connections, whose statements are ended after `statement_timeout`.
    ///
    /// # Errors
    /// As there.
    pub async fn connect_with(
        options: PgConnectOptions,
        connections: usize,
        statement_timeout: Duration,
    ) -> Result<Self, Error> {
        Self::named(options, "fnhost", connections, statement_timeout).await
    }

    async fn named(
        options: PgConnectOptions,
        name: &str,
        connections: usize,
        statement_timeout: Duration,
    ) -> Result<Self, Error> {
        let options = options.application_name(name).options([("search_path", "fnhost")]);
        let pool =
            RolePool::with_timeouts(options, connections, statement_timeout, OWNER_IDLE_IN_TRANSACTION);
        let pool = Self(pool);
        drop(pool.first().await?);
        for setting in ["fsync", "synchronous_commit"] {
            let value: String =
                sqlx::query_scalar("SELECT current_setting($1)").bind(setting).fetch_one(pool.pool()).await?;
            if value == "off" {
                return Err(Error::Unfit(format!(
                    "the database runs with {setting} = off: after a crash it can lose what it committed, and fnhost could keep \
                     no promise; set {setting} = on"
                )));
            }
        }
        Ok(pool)
    }

    /// The first connection. A database that is just starting is waited for.
    async fn first(&self) -> Result<OwnerConnection, sqlx::Error> {
        let began = Instant::now();
        loop {
            match self.acquire().await {
                Err(error) if is_starting(&error) && began.elapsed() < OWNER_ACQUIRE_TIMEOUT => {
                    tokio::time::sleep(CONNECT_PAUSE).await;
                }
                other => return other,
            }
        }
    }

    /// Runs single statements, each on whichever connection is free and within its limit.
    pub(crate) fn pool(&self) -> Statements<'_> {
        Statements(self)
    }

    /// A connection for several statements. Dropped, it is given back, unless its state is not known.
    ///
    /// # Errors
    /// All are in use and stay so, or the database does not answer.
    pub(crate) async fn acquire(&self) -> Result<OwnerConnection, sqlx::Error> {
        let acquired = tokio::time::timeout(OWNER_ACQUIRE_TIMEOUT, self.0.acquire()).await;
        let session = acquired.map_err(|_| sqlx::Error::PoolTimedOut)??;
        Ok(OwnerConnection { session: Some(session), in_transaction: false })
    }

    /// A transaction. Dropped, its connection is closed, and the server rolls back.
    ///
    /// # Errors
    /// As [`OwnerPool::acquire`].
    pub async fn begin(&self) -> Result<OwnerConnection, sqlx::Error> {
        let begun = tokio::time::timeout(OWNER_ACQUIRE_TIMEOUT, session::begin(&self.0)).await;
        let session = begun.map_err(|_| sqlx::Error::PoolTimedOut)??;
        Ok(OwnerConnection { session: Some(session), in_transaction: true })
    }

    /// Listens on a channel, on a connection of its own.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn listen(&self, channel: &str) -> Result<PgListener, sqlx::Error> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(self.0.options().clone());
        let listening = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.listen(channel).await?;
            Ok(listener)
        };
        let listening = tokio::time::timeout(OWNER_ACQUIRE_TIMEOUT, listening).await;
        listening.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Ends a process of the server that is a function's session, if it is still the one that began then.
    pub(crate) async fn end_backend(&self, pid: i32, since: &str) -> Result<(), sqlx::Error> {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE pid = $1 AND backend_start = $2::text::timestamptz";
        sqlx::query(sql).bind(pid).bind(since).execute(self.pool()).await.map(drop)
    }

    /// How its connections are used at the moment.
    pub fn usage(&self) -> Usage {
        self.0.usage()
    }

    /// Closes the connections that nobody uses.
    pub async fn close(&self) {
        self.0.close().await;
    }
}

/// Whether a database that refuses connections may take them in a moment.
fn is_starting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        // "The database system is starting up".
        sqlx::Error::Database(error) => error.code().as_deref() == Some("57P03"),
        _ => false,
    }
}

/// A connection of the owner role, or a transaction on one.
pub struct OwnerConnection {
    /// There until it is dropped.
    session: Option<Session>,
    in_transaction: bool,
}

impl OwnerConnection {
    /// Commits.
    ///
    /// # Errors
    /// The database refused, or did not answer: then it is committed, or it is not.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        self.end("COMMIT").await
    }

    /// Rolls back, and keeps the connection.
    ///
    /// # Errors
    /// The database did not answer. It rolls back all the same, since the connection is closed.
    pub async fn rollback(self) -> Result<(), sqlx::Error> {
        self.end("ROLLBACK").await
    }

    async fn end(mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(statement).execute(&mut *self).await?;
        self.in_transaction = false;
        Ok(())
    }
}

impl Deref for OwnerConnection {
    type Target = Bounded;

    fn deref(&self) -> &Bounded {
        let Some(session) = &self.session else { unreachable!("only its drop takes it") };
        session.as_bounded()
    }
}

impl DerefMut for OwnerConnection {
    fn deref_mut(&mut self) -> &mut Bounded {
        let Some(session) = &mut self.session else { unreachable!("only its drop takes it") };
        session.bounded()
    }
}

impl Drop for OwnerConnection {
    fn drop(&mut self) {
        if let Some(session) = self.session.take().filter(|_| !self.in_transaction) {
            session.release();
        }
    }
}

/// See [`OwnerPool::pool`].
#[derive(Clone, Copy)]
pub(crate) struct Statements<'p>(&'p OwnerPool);

impl std::fmt::Debug for Statements<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Statements").field(&self.0.usage()).finish()
    }
}

impl<'c> Executor<'c> for Statements<'c> {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let answers = async move {
            match self.0.acquire().await {
                Ok(mut connection) => connection.answers(query).await,
                Err(error) => vec![Err(error)],
            }
        };
        answers.map(stream::iter).flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        async move { self.0.acquire().await?.fetch_optional(query).await }.boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        async move { self.0.acquire().await?.prepare_with(sql, parameters).await }.boxed()
    }
}
