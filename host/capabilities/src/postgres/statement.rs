//! Runs one statement on one connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use sqlx::postgres::{PgConnection, PgRow, PgStatement};
use sqlx::{AssertSqlSafe, Either, Executor, Row as _, SqlSafeStr, Statement, ValueRef as _};

use super::codec::{self, ColumnCodec};
use super::error::Error;
use super::wit::{Column, DbValue, ParameterValue, Row};

/// How many bytes of rows one call may have waiting to be read by its guest.
const BUFFERED_ROWS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the guest asked a statement for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The rows that a query returns.
    Rows,
    /// How many rows it changed or returned; what they hold is not looked at.
    Count,
}

/// What a statement answered.
#[derive(Debug)]
pub struct Answer {
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
    /// Rows changed, or rows returned.
    pub affected: u64,
    /// What ended the rows early. The interface reports this after the rows, not in their place.
    pub error: Option<Error>,
    /// Keeps the rows counted for as long as they wait.
    pub buffered: Buffered,
}

/// The bytes of rows that a call's queries hold between them.
#[derive(Debug, Clone, Default)]
pub struct RowBudget(Arc<AtomicUsize>);

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub struct Buffered {
    budget: RowBudget,
    bytes: usize,
}

impl RowBudget {
    fn open(&self) -> Buffered {
        Buffered { budget: self.clone(), bytes: 0 }
    }
}

impl Buffered {
    fn add(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes;
        let before = self.budget.0.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > BUFFERED_ROWS_BYTES_MAX {
            return Err(Error::TooManyRows(BUFFERED_ROWS_BYTES_MAX));
        }
        Ok(())
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Runs a statement and takes all its rows into memory, so that the connection is free for the next one while the
/// guest still reads. The first time on this connection it is prepared, after that it takes one round trip.
///
/// # Errors
/// Where it cannot be prepared or a parameter does not fit; what goes wrong later is in the answer.
pub async fn run(
    connection: &mut PgConnection,
    sql: &str,
    parameters: &[ParameterValue],
    wanted: Wanted,
    budget: &RowBudget,
) -> Result<Answer, Error> {
    // The statement is the guest's own; the wall is its role, not its text.
    let sql = AssertSqlSafe(sql.to_owned()).into_sql_str();
    let statement: PgStatement = (&mut *connection).prepare_with(sql, &[]).await?;
    let types = match statement.parameters() {
        Some(Either::Left(types)) => types,
        _ => &[],
    };
    let arguments = codec::arguments(parameters, types)?;
    let (columns, codecs) = codec::columns(statement.columns());
    let mut answer = Answer { columns, rows: Vec::new(), affected: 0, error: None, buffered: budget.open() };

    let mut results = connection.fetch_many(statement.query_with(arguments));
    while let Some(result) = results.next().await {
        match result {
            Ok(Either::Left(done)) => answer.affected += done.rows_affected(),
            // After a row that cannot be read the rest is passed over, which leaves the connection usable.
            Ok(Either::Right(_)) if wanted == Wanted::Count || answer.error.is_some() => {}
            Ok(Either::Right(row)) => {
                if let Err(error) = answer.push(&row, &codecs) {
                    let spoils_connection = error.spoils_connection();
                    answer.error = Some(error);
                    if spoils_connection {
                        break;
                    }
                }
            }
            Err(error) => {
                answer.error = Some(error.into());
                break;
            }
        }
    }
    Ok(answer)
}

impl Answer {
    fn push(&mut self, row: &PgRow, codecs: &[ColumnCodec]) -> Result<(), Error> {
        let mut values = Vec::with_capacity(codecs.len());
        let mut size = size_of::<Row>() + codecs.len() * size_of::<DbValue>();
        for (at, codec) in codecs.iter().enumerate() {
            let raw = row.try_get_raw(at)?;
            let bytes = if raw.is_null() { None } else { raw.as_bytes().ok() };
            size += bytes.map_or(0, <[u8]>::len);
            let value = codec
                .decode(bytes)
                .map_err(|reason| Error::Unreadable { column: self.columns[at].name.clone(), reason })?;
            values.push(value);
        }
        self.buffered.add(size)?;
        self.rows.push(values);
        Ok(())
    }
}
