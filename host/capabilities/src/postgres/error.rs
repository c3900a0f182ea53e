//! What can go wrong with a statement: for the guest as the interface's errors, for the dispatcher as a class.

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use super::codec::BadParameter;
use super::wit;
use fnhost_db::session::{SessionError, is_connection_lost};
use fnhost_types::causes::chain;
use fnhost_types::failure::FailureClass;

/// Why a statement, or an `open`, gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0}")]
    Address(String),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("{0}")]
    Refused(&'static str),
    #[error(transparent)]
    BadParameter(#[from] BadParameter),
    #[error("the statement failed")]
    Sql(#[from] sqlx::Error),
    #[error("column {column:?}: {reason}")]
    Unreadable { column: String, reason: &'static str },
    #[error(
        "the rows that this call has not read yet do not fit into what is left of its {0} bytes of memory (memory_limit_mb in \
         spin.toml); query fewer or smaller ones, or read them before the next query"
    )]
    TooManyRows(usize),
}

/// The first failure of a call. Later ones in the same transaction only follow from it.
#[derive(Debug, Clone)]
pub struct SqlFailure {
    /// The SQLSTATE, where the server gave one.
    pub code: Option<String>,
    /// What happened, in one line.
    pub message: String,
    class: FailureClass,
}

impl SqlFailure {
    /// What kind of failure it is.
    pub fn class(&self) -> FailureClass {
        self.class
    }

    /// The failure that an error of the driver stands for; also for the host's own statements in the same
    /// transaction.
    pub fn from_sqlx(error: &sqlx::Error) -> Self {
        let server = database_error(error);
        Self {
            code: server.map(|error| error.code().to_owned()),
            message: server.map_or_else(|| error.to_string(), |error| error.message().to_owned()),
            class: match server {
                Some(error) => class_of(error),
                None if is_connection_lost(error) => FailureClass::Infrastructure,
                None => FailureClass::Function,
            },
        }
    }
}

/// SQLSTATEs, or how they begin, by which the session is gone through nobody's fault. 08: the connection. 57P0: the server shuts down or
/// starts. 25P03: the transaction sat idle for longer than a call may last, so this host was stopped and not the function slow.
const INFRASTRUCTURE: [&str; 3] = ["08", "57P0", "25P03"];
/// Those that a server reports which cannot serve anybody at the moment, but a single record can also be the reason of, or a function
/// raise itself. 53: resources, such as disk space. 58: the system, such as an I/O error. XX: internal errors and damaged
/// data. 25006: read-only, as a replica is, or a role by its settings. F0: configuration files.
const UNCLEAR: [&str; 5] = ["53", "58", "XX", "25006", "F0"];

/// The class of what the server reported.
fn class_of(error: &PgDatabaseError) -> FailureClass {
    let code = error.code();
    let is_of = |classes: &[&str]| classes.iter().any(|class| code.starts_with(class));
    if is_of(&INFRASTRUCTURE) {
        FailureClass::Infrastructure
    } else if is_of(&UNCLEAR) {
        FailureClass::Unclear
    } else if matches!(code, "40001" | "40P01") || is_stale_plan(error) {
        FailureClass::Conflict
    } else {
        FailureClass::Function
    }
}

/// True where a table changed under a prepared statement: a connection that prepares it anew will do.
fn is_stale_plan(error: &PgDatabaseError) -> bool {
    error.code() == "0A000" && error.routine() == Some("RevalidateCachedQuery")
}

fn database_error(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
}

impl Error {
    /// True where the connection must not be used again.
    pub(super) fn spoils_connection(&self) -> bool {
        match self {
            Self::Sql(error) => is_connection_lost(error) || database_error(error).is_some_and(is_stale_plan),
            // The rest of its rows is still on the way.
            Self::TooManyRows(_) => true,
            _ => false,
        }
    }

    /// True where the server hung up, so that other connections to it may be dead too.
    pub(super) fn is_connection_lost(&self) -> bool {
        matches!(self, Self::Sql(error) if is_connection_lost(error))
    }

    /// The failure for the dispatcher.
    pub(super) fn failure(&self) -> SqlFailure {
        match self {
            Self::Sql(error) => SqlFailure::from_sqlx(error),
            Self::Session(SessionError::Connect(error) | SessionError::Begin(error)) => {
                let failure = SqlFailure::from_sqlx(error);
                SqlFailure { class: FailureClass::Infrastructure, ..failure }
            }
            Self::Session(error) => {
                SqlFailure { code: None, message: error.to_string(), class: FailureClass::Infrastructure }
            }
            other => SqlFailure { code: None, message: other.to_string(), class: FailureClass::Function },
        }
    }

    /// The error for the guest.
    pub(super) fn into_wit(self) -> wit::Error {
        match self {
            Self::Address(text) => wit::Error::ConnectionFailed(text),
            Self::Session(error) => wit::Error::ConnectionFailed(chain(&error)),
            Self::Refused(text) => wit::Error::Other(text.to_owned()),
            Self::BadParameter(error) => wit::Error::BadParameter(error.to_string()),
            // The server said nothing, so no statement is at fault: as where it could not be reached, another try may do.
            Self::Sql(error) if database_error(&error).is_none() && is_connection_lost(&error) => {
                wit::Error::ConnectionFailed(chain(&error))
            }
            Self::Sql(error) => wit::Error::QueryFailed(query_error(&error)),
            Self::Unreadable { .. } | Self::TooManyRows(_) => {
                wit::Error::QueryFailed(wit::QueryError::Text(self.to_string()))
            }
        }
    }
}

fn query_error(error: &sqlx::Error) -> wit::QueryError {
    let Some(server) = database_error(error) else {
        return wit::QueryError::Text(chain(error));
    };
    let severity = severity_name(server.severity());
    wit::QueryError::DbError(wit::DbError {
        as_text: format!("{severity}: {} (SQLSTATE {})", server.message(), server.code()),
        severity: severity.to_owned(),
        code: server.code().to_owned(),
        message: server.message().to_owned(),
        detail: server.detail().map(str::to_owned),
        extras: extras(server),
    })
}

fn severity_name(severity: PgSeverity) -> &'static str {
    match severity {
        PgSeverity::Panic => "PANIC",
        PgSeverity::Fatal => "FATAL",
        PgSeverity::Error => "ERROR",
        PgSeverity::Warning => "WARNING",
        PgSeverity::Notice => "NOTICE",
        PgSeverity::Debug => "DEBUG",
        PgSeverity::Info => "INFO",
        PgSeverity::Log => "LOG",
    }
}

/// The other fields of the report, under the names that Spin gives them.
fn extras(error: &PgDatabaseError) -> Vec<(String, String)> {
    let line = error.line().map(|line| line.to_string());
    let fields = [
        ("column", error.column()),
        ("constraint", error.constraint()),
        ("routine", error.routine()),
        ("hint", error.hint()),
        ("table", error.table()),
        ("datatype", error.data_type()),
        ("schema", error.schema()),
        ("file", error.file()),
        ("line", line.as_deref()),
        ("where_", error.r#where()),
    ];
    fields
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name.to_owned(), value.to_owned())))
        .collect()
}
