//! Database sessions of one function: a pool of connections as its login role, and the one transaction of a call.
//!
//! What holds here: no statement waits for its answer without a limit, see [`Bounded`]; and a connection goes back to its
//! pool only by an explicit release, in a known state, with the session reset if anything may have changed it; dropped in any other
//! state it is closed.
//! So nothing that a call did to its session, and no transaction that it left, can reach the next call.

mod backend;
mod bounded;
mod pool;
mod transaction;

pub use bounded::Bounded;
pub use pool::{RolePool, Session, SessionLimits, Usage, VERSION_SETTING};
pub(crate) use transaction::begin;
pub use transaction::{CommitError, SharedTransaction, Transaction};

/// Ends what a call may have left in its session without dropping the prepared statements: settings, advisory
/// locks, temporary tables, and the memory of `currval`. (`DISCARD ALL` would drop the prepared statements and
/// is refused inside a message of several statements.)
pub(crate) const RESET_SESSION: &str =
    "RESET ALL; SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES";

/// Whether a function of the application's own, or of an extension in another language than C, may change a session: called by a
/// trigger or a view, no statement's text shows it. Asked once for each connection. What is written in C and not in `pg_catalog` is
/// no trigger that would do that, and named in a statement it is not taken for harmless.
pub(crate) const FUNCTIONS_MAY_CHANGE_SESSIONS: &str = r"
SELECT EXISTS (
    SELECT FROM pg_proc
    JOIN pg_language ON pg_language.oid = prolang
    WHERE pronamespace <> ALL (ARRAY['pg_catalog'::regnamespace, 'information_schema'::regnamespace])
      AND pronamespace IS DISTINCT FROM to_regnamespace('fnhost')
      AND CASE lanname
          WHEN 'c' THEN false
          WHEN 'internal' THEN false
          WHEN 'plpgsql' THEN prosrc ~* '\m(set_config|pg_(try_)?advisory\w*|temp|temporary|execute|reset|discard|listen|load)\M'
              OR prosrc ~* '(^|;|\mbegin|\mthen|\melse|\mloop)\s*set\s'
          WHEN 'sql' THEN prosqlbody IS NOT NULL OR prosrc ~* '\m(set_config|pg_(try_)?advisory\w*|temp|temporary|set)\M'
          ELSE true
          END
)";

/// Why there is no usable session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The server could not be reached or refused the login.
    #[error("cannot connect to the database")]
    Connect(#[source] sqlx::Error),
    /// The server accepted the connection but the login did not end in time.
    #[error("the database login took longer than {0:?}")]
    ConnectTimeout(std::time::Duration),
    /// `BEGIN` failed.
    #[error("cannot begin a transaction")]
    Begin(#[source] sqlx::Error),
    /// A statement on this connection was cancelled half-way: only closing it is safe.
    #[error("a statement of this transaction was cancelled, so its state is unknown")]
    UnknownState,
}

/// As the driver's own error, for the host's statements.
impl From<SessionError> for sqlx::Error {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Connect(error) | SessionError::Begin(error) => error,
            SessionError::ConnectTimeout(_) | SessionError::UnknownState => {
                Self::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, error))
            }
        }
    }
}

/// True where the connection itself is lost or cannot be trusted any more, rather than one statement refused.
pub fn is_connection_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            // After FATAL and PANIC the server hangs up.
            !matches!(
                error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().map(|e| e.severity()),
                Some(sqlx::postgres::PgSeverity::Error)
            )
        }
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            true
        }
        _ => false,
    }
}
