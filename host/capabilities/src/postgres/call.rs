//! What one call of a component may do with Postgres.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;

use super::address::Address;
use super::busy::Busy;
use super::error::{Error, SqlFailure};
use super::foreign::AddressPools;
use super::guard::is_row_statement;
use super::leaves::leaves_session_alone;
use super::statement::{self, Answer, BUFFERED_ROWS_BYTES_MAX, Wanted};
use super::wit::ParameterValue;
use fnhost_db::session::{RolePool, Session, SharedTransaction};
use fnhost_manifest::HttpSql;
use fnhost_types::memory::CallMemory;

/// How many connections and builders one call may hold open.
const HANDLES_MAX: usize = 64;

/// Whether a component may connect to this host and port.
pub type AllowedHost = Arc<dyn Fn(&str, u16) -> bool + Send + Sync>;

/// Which database a call reaches, and how.
#[derive(Clone)]
pub enum Access {
    /// A Kafka dispatch: every connection is its transaction.
    Transaction {
        /// The transaction that the dispatcher takes back after the call.
        transaction: SharedTransaction,
        /// The trigger's own database: only an address that means the same login can be opened.
        own: RolePool,
    },
    /// An HTTP request: every statement is a transaction of its own.
    Autocommit {
        /// The component's own role, where it has one.
        own: Option<RolePool>,
        /// Connections to any other address.
        foreign: Arc<AddressPools>,
        /// What the component's `allowed_outbound_hosts` say.
        allowed: AllowedHost,
        /// Which statements it may send.
        sql: HttpSql,
    },
}

/// One call's use of Postgres. Cheap to clone: the guest's side and the host's share it.
#[derive(Clone)]
pub struct CallPostgres {
    state: Arc<CallState>,
}

struct CallState {
    access: Access,
    closed: AtomicBool,
    /// Statements that run or wait for a connection.
    statements: Busy,
    handles: Arc<AtomicUsize>,
    /// What its rows count against.
    memory: OnceLock<CallMemory>,
    failure: Mutex<Option<SqlFailure>>,
}

/// A guest's right to one open connection or builder, given back when dropped.
pub(super) struct Handle(Arc<AtomicUsize>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A connection that the guest has opened.
#[derive(Clone)]
pub struct GuestConnection {
    inner: Arc<Opened>,
}

struct Opened {
    target: Target,
    /// The lock also keeps the statements of one connection in order.
    kept: AsyncMutex<Kept>,
    _handle: Handle,
}

/// The session that a connection keeps between its statements.
enum Kept {
    /// None yet, or given back because others wait for one.
    None,
    /// Nothing but statements on rows ran on it: given back when the connection is dropped, and reset where that is needed.
    Clean(Session),
    /// Something else ran on it, `BEGIN` or `SET` say: it serves this connection alone and is closed with it.
    Pinned(Session),
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Kept::Clean(session) = std::mem::replace(self.kept.get_mut(), Kept::None) {
            session.give_back();
        }
    }
}

enum Target {
    Transaction(SharedTransaction),
    Pool(RolePool),
}

impl CallPostgres {
    /// The use of Postgres for one call.
    pub fn new(access: Access) -> Self {
        Self {
            state: Arc::new(CallState {
                access,
                closed: AtomicBool::new(false),
                statements: Busy::default(),
                handles: Arc::default(),
                memory: OnceLock::new(),
                failure: Mutex::new(None),
            }),
        }
    }

    /// Rows count against this memory from now on. Said once, before the call.
    pub(crate) fn held_in(&self, memory: CallMemory) {
        self.state.memory.get_or_init(|| memory);
    }

    fn memory(&self) -> &CallMemory {
        self.state.memory.get_or_init(|| CallMemory::new(BUFFERED_ROWS_BYTES_MAX))
    }

    /// Ends the call's use of the database: every statement after this fails. For right after the reply.
    pub fn close(&self) {
        self.state.closed.store(true, Ordering::Release);
    }

    /// True while a statement runs or waits for a connection.
    pub fn in_flight(&self) -> bool {
        self.state.statements.is_busy()
    }

    /// Time during which a statement of the call ran or waited for a connection.
    pub fn busy(&self) -> Duration {
        self.state.statements.total()
    }

    /// The first thing that went wrong, also where the guest made nothing of it.
    pub fn failure(&self) -> Option<SqlFailure> {
        self.recorded().clone()
    }

    /// Opens a connection: checks that the call may use the address, and connects to nothing yet.
    pub(super) fn open(&self, address: &str, ca_root: Option<Arc<str>>) -> Result<GuestConnection, Error> {
        let opened = self.target(address, ca_root).and_then(|target| {
            let opened = Opened { target, kept: AsyncMutex::new(Kept::None), _handle: self.handle()? };
            Ok(GuestConnection { inner: Arc::new(opened) })
        });
        opened.inspect_err(|error| self.record(error))
    }

    fn target(&self, address: &str, ca_root: Option<Arc<str>>) -> Result<Target, Error> {
        let address = Address::parse(address).map_err(Error::Address)?;
        match &self.state.access {
            Access::Transaction { transaction, own } => {
                if !address.is_login_of(own.options()) {
                    return Err(Error::Refused(
                        "a Kafka handler reaches its trigger's own database alone: \
                         open the address that the host gave as the component's variable",
                    ));
                }
                Ok(Target::Transaction(transaction.clone()))
            }
            Access::Autocommit { own, foreign, allowed, .. } => {
                let Address { host, port, .. } = &address;
                if !allowed(host, *port) {
                    return Err(Error::Address(format!(
                        "{host}:{port} is not permitted: add \"postgres://{host}:{port}\" to the component's \
                         allowed_outbound_hosts"
                    )));
                }
                Ok(Target::Pool(match own {
                    Some(own) if address.is_login_of(own.options()) => own.clone(),
                    Some(own) if address.is_another_user_of(own.options()) => {
                        return Err(Error::Refused(
                            "the component's own database server is reached as the component's own role alone: \
                             open the address that the host gave as its variable",
                        ));
                    }
                    _ => foreign.pool((address, ca_root)),
                }))
            }
        }
    }

    /// Counts a connection or builder against the limit of the call.
    pub(super) fn handle(&self) -> Result<Handle, Error> {
        let handles = &self.state.handles;
        let handle = Handle(Arc::clone(handles));
        if handles.fetch_add(1, Ordering::AcqRel) >= HANDLES_MAX {
            return Err(Error::Refused("the call holds too many open connections"));
        }
        Ok(handle)
    }

    /// Runs a statement on a connection of this call.
    ///
    /// # Errors
    /// Where it could not run to its end; the first such error is the call's failure. An error that the guest is
    /// told after the rows is in the answer, and recorded all the same.
    pub(super) async fn run(
        &self,
        connection: &GuestConnection,
        sql: &str,
        parameters: &[ParameterValue],
        wanted: Wanted,
    ) -> Result<Answer, Error> {
        let _running = self.state.statements.begin();
        let result = match &connection.inner.target {
            Target::Transaction(transaction) => self.run_in(transaction, sql, parameters, wanted).await,
            Target::Pool(pool) => self.run_alone(connection, pool, sql, parameters, wanted).await,
        };
        match &result {
            Ok(Answer { error: Some(error), .. }) | Err(error) => self.record(error),
            Ok(_) => {}
        }
        result
    }

    /// As [`CallPostgres::run`], for a guest that waits without letting the rest of its instance go on. Were it to
    /// wait for another of its own statements, neither would ever continue.
    pub(super) async fn run_blocking(
        &self,
        connection: &GuestConnection,
        sql: &str,
        parameters: &[ParameterValue],
        wanted: Wanted,
    ) -> Result<Answer, Error> {
        if self.in_flight() {
            let error = Error::Refused("another statement of this call is running; use the async functions");
            self.record(&error);
            return Err(error);
        }
        self.run(connection, sql, parameters, wanted).await
    }

    async fn run_in(
        &self,
        transaction: &SharedTransaction,
        sql: &str,
        parameters: &[ParameterValue],
        wanted: Wanted,
    ) -> Result<Answer, Error> {
        if !is_row_statement(sql) {
            return Err(Error::Refused(
                "a statement in a Kafka handler begins with SELECT, INSERT, UPDATE, DELETE, MERGE, WITH or VALUES: \
                 the host itself begins and commits",
            ));
        }
        let mut shared = transaction.lock().await;
        self.check_open()?;
        let transaction = shared.as_mut().ok_or(CLOSED)?;
        transaction.connection().await?;
        transaction.statement_started(!leaves_session_alone(sql));
        let connection = transaction.connection_in_flight().ok_or(CLOSED)?;
        let result = statement::run(connection, sql, parameters, wanted, self.memory()).await;
        transaction.statement_ended(spoils_connection(&result));
        result
    }

    async fn run_alone(
        &self,
        connection: &GuestConnection,
        pool: &RolePool,
        sql: &str,
        parameters: &[ParameterValue],
        wanted: Wanted,
    ) -> Result<Answer, Error> {
        let on_rows = is_row_statement(sql);
        let rows_only = matches!(&self.state.access, Access::Autocommit { sql: HttpSql::Rows, .. });
        if rows_only && !on_rows {
            return Err(Error::Refused(
                "a statement in an HTTP handler begins with SELECT, INSERT, UPDATE, DELETE, MERGE, WITH or VALUES: \
                 what belongs together is one statement with CTEs; for any other set http_sql = \"any\" for the component",
            ));
        }
        let mut kept = connection.inner.kept.lock().await;
        self.check_open()?;
        let (mut session, pinned) = match std::mem::replace(&mut *kept, Kept::None) {
            Kept::Pinned(session) => (session, true),
            Kept::Clean(session) => (session, !on_rows),
            Kept::None => (pool.acquire().await?, !on_rows),
        };
        // Should this be cancelled while the statement runs, the session is dropped, and thereby ended at the server too.
        session.statement_started(!leaves_session_alone(sql));
        let result = statement::run(session.connection(), sql, parameters, wanted, self.memory()).await;
        if spoils_connection(&result) {
            // What is not read to its end may still run, so it is not said to have ended.
            if matches!(&result, Ok(Answer { error: Some(error), .. }) | Err(error) if error.is_connection_lost())
            {
                session.pool().close_idle();
            }
            return result;
        }
        session.statement_ended();
        if pinned {
            *kept = Kept::Pinned(session);
        } else if pool.is_used_up() {
            session.give_back();
        } else {
            *kept = Kept::Clean(session);
        }
        result
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.state.closed.load(Ordering::Acquire) { Err(CLOSED) } else { Ok(()) }
    }

    fn record(&self, error: &Error) {
        let failure = error.failure();
        fnhost_metrics::database_error(failure.class());
        self.recorded().get_or_insert(failure);
    }

    fn recorded(&self) -> MutexGuard<'_, Option<SqlFailure>> {
        self.state.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const CLOSED: Error = Error::Refused("the call has replied and can no longer use the database");

fn spoils_connection(result: &Result<Answer, Error>) -> bool {
    match result {
        Ok(Answer { error: Some(error), .. }) | Err(error) => error.spoils_connection(),
        Ok(_) => false,
    }
}
