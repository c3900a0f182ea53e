//! The one transaction of a call.

use std::sync::Arc;
use std::time::Instant;

use sqlx::Either;
use sqlx::postgres::PgConnection;
use tokio::sync::{Mutex, MutexGuard};

use super::{Bounded, RESET_SESSION, RolePool, Session, SessionError, is_connection_lost};

/// A transaction as a function's role that begins with its first statement, so that a call which does not touch
/// the database holds no connection. Dropped while open, its connection is closed and the server rolls back.
pub struct Transaction {
    pool: RolePool,
    session: Option<Session>,
    began: Option<Instant>,
    /// Set while a statement runs, so that a cancelled one leaves it set.
    in_flight: bool,
    /// Set where the connection must not serve another call.
    discard: bool,
}

/// Why a transaction is not known to be committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The server said no: nothing of the transaction happened.
    #[error("the database refused the commit")]
    Refused(#[source] sqlx::Error),
    /// The answer is missing: it is committed, or it is not.
    #[error("the database did not answer the commit")]
    Unknown(#[source] sqlx::Error),
}

impl Transaction {
    /// A transaction on a session of `pool`, not begun yet.
    pub fn new(pool: RolePool) -> Self {
        Self { pool, session: None, began: None, in_flight: false, discard: false }
    }

    /// When it began; none before the first statement.
    pub fn began(&self) -> Option<Instant> {
        self.began
    }

    /// True from the first statement on: there is something to commit or to roll back.
    pub fn is_open(&self) -> bool {
        self.session.is_some()
    }

    /// The connection, inside the transaction, which begins here if it has not yet. Waits while the pool is full.
    ///
    /// # Errors
    /// Where there is no connection to be had, or where a statement was cancelled half-way.
    pub async fn connection(&mut self) -> Result<&mut Bounded, SessionError> {
        if self.in_flight {
            return Err(SessionError::UnknownState);
        }
        if self.session.is_none() {
            self.session = Some(begin(&self.pool).await?);
            self.began = Some(Instant::now());
        }
        self.session.as_mut().map(Session::bounded).ok_or(SessionError::UnknownState)
    }

    /// The connection for the statement that [`Transaction::statement_started`] announced.
    pub fn connection_in_flight(&mut self) -> Option<&mut PgConnection> {
        self.session.as_mut().map(Session::connection)
    }

    /// Says that a statement is about to run: until [`Transaction::statement_ended`], the state is unknown. With `may_change_session`
    /// the session is reset after the transaction.
    pub fn statement_started(&mut self, may_change_session: bool) {
        self.in_flight = true;
        if let Some(session) = &mut self.session {
            session.statement_started(may_change_session);
        }
    }

    /// Says that the statement ran to its end; with `discard`, that the connection must be closed after the call.
    pub fn statement_ended(&mut self, discard: bool) {
        self.in_flight = false;
        self.discard |= discard;
        // Where the connection is given up, the statement may still run.
        if let Some(session) = self.session.as_mut().filter(|_| !discard) {
            session.statement_ended();
        }
    }

    /// Commits, and ends what a statement may have left in the session, in one round trip. With no statement run there is nothing to do.
    ///
    /// # Errors
    /// [`CommitError`] keeps apart what was refused and what is unknown.
    pub async fn commit(mut self) -> Result<(), CommitError> {
        let Some(mut session) = self.session.take() else {
            return Ok(());
        };
        if self.in_flight {
            let cancelled = std::io::Error::other("a statement of this transaction was cancelled");
            return Err(CommitError::Refused(sqlx::Error::Io(cancelled)));
        }
        let reset = session.may_have_changed();
        let committed = commit(session.bounded(), reset).await;
        match &committed {
            Ok(true) if !self.discard => session.release(),
            // What ended this connection may have ended the others.
            Err(CommitError::Unknown(_)) => self.pool.close_idle(),
            _ => {}
        }
        committed.map(drop)
    }

    /// Rolls back. The connection is kept where its state is known, and closed otherwise, which also rolls back.
    pub async fn rollback(mut self) {
        let Some(mut session) = self.session.take() else {
            return;
        };
        if self.in_flight || self.discard || !session.bounded().is_settled() {
            return;
        }
        let reset = if session.may_have_changed() { RESET_SESSION } else { "" };
        let message = sqlx::AssertSqlSafe(format!("ROLLBACK; {reset}"));
        if sqlx::raw_sql(message).execute(session.bounded()).await.is_ok() {
            session.release();
        }
    }
}

/// Begins a transaction. `BEGIN` has no effect of its own, so one that meets a connection which died in the pool is
/// simply sent again on a new one.
pub(crate) async fn begin(pool: &RolePool) -> Result<Session, SessionError> {
    let mut session = pool.acquire().await?;
    match sqlx::raw_sql("BEGIN").execute(session.bounded()).await {
        Ok(_) => return Ok(session),
        Err(error) if session.is_reused() && is_connection_lost(&error) => {}
        Err(error) => return Err(SessionError::Begin(error)),
    }
    drop(session);
    pool.close_idle();
    let mut session = pool.acquire_new().await?;
    sqlx::raw_sql("BEGIN").execute(session.bounded()).await.map_err(SessionError::Begin)?;
    Ok(session)
}

/// How many answers of the message below stand for the commit: the reset before it and the `COMMIT` itself.
const ANSWERS_UNTIL_COMMITTED: usize = 2;

/// Commits; the value tells whether the session may serve another call: where it had to be reset, whether it was.
///
/// `COMMIT` of a failed transaction is answered with a success that means ROLLBACK. The reset before it is refused in a
/// failed transaction, which also ends the message, so that the failure is an error here. What it resets is a setting
/// that a function could have switched off: what follows from a commit cannot be taken back, so it must be durable.
async fn commit(connection: &mut Bounded, reset: bool) -> Result<bool, CommitError> {
    let reset = if reset { RESET_SESSION } else { "" };
    let message = sqlx::AssertSqlSafe(format!("RESET synchronous_commit; COMMIT; {reset}"));
    let mut answered = 0;
    for answer in connection.answers(sqlx::raw_sql(message)).await {
        match answer {
            Ok(Either::Left(_)) => answered += 1,
            Ok(Either::Right(_)) => {}
            Err(_) if answered >= ANSWERS_UNTIL_COMMITTED => return Ok(false),
            // A server that shuts down can hang up between the commit and its answer.
            Err(error) if is_connection_lost(&error) => return Err(CommitError::Unknown(error)),
            Err(error) => return Err(CommitError::Refused(error)),
        }
    }
    Ok(true)
}

/// A transaction that a dispatch lends to the call of a guest and takes back after it. Cheap to clone.
#[derive(Clone)]
pub struct SharedTransaction(Arc<Mutex<Option<Transaction>>>);

impl SharedTransaction {
    /// Shares `transaction` until it is taken back.
    pub fn new(transaction: Transaction) -> Self {
        Self(Arc::new(Mutex::new(Some(transaction))))
    }

    /// Takes the transaction back. Nothing where a statement still runs on it or where it has been taken: then the
    /// last holder drops it, which closes its connection.
    pub fn take(&self) -> Option<Transaction> {
        self.0.try_lock().ok()?.take()
    }

    /// The transaction, for one statement of the call; nothing where it has been taken back.
    pub async fn lock(&self) -> MutexGuard<'_, Option<Transaction>> {
        self.0.lock().await
    }
}
