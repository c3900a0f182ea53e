//! Runs one statement on one connection.

use fnhost_types::memory::{CallMemory, TooLarge, within};
use futures::StreamExt;
use sqlx::postgres::{PgConnection, PgRow, PgStatement};
use sqlx::{AssertSqlSafe, Either, Executor, Row as _, SqlSafeStr, Statement, ValueRef as _};

use super::codec::{self, ColumnCodec};
use super::error::Error;
use super::wit::{Column, DbValue, ParameterValue, Row};

/// How many bytes of rows a call may have waiting to be read by its guest, where nothing says how much memory the call has.
pub(super) const BUFFERED_ROWS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How many times the memory that a call has left one request of the driver may be: it makes room for a message, and may double it.
const ROOM_FACTOR: usize = 2;
/// What the driver may always ask for at once, in bytes: an error's text has to fit where no row does.
const ROOM_BYTES_MIN: usize = 4 * 1024 * 1024;

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

/// A part of a call's memory, given back when dropped.
#[derive(Debug)]
pub struct Buffered {
    memory: CallMemory,
    bytes: usize,
}

impl Buffered {
    fn add(&mut self, bytes: usize) -> Result<(), Error> {
        let taken = self.memory.take(bytes);
        taken.map_err(|_| Error::TooManyRows(self.memory.limit_bytes()))?;
        self.bytes += bytes;
        Ok(())
    }

    /// Gives back what so many rows of this many took, on an average.
    pub(super) fn give_back(&mut self, rows: usize, of: usize) {
        let bytes = self.bytes / of.max(1) * rows;
        self.bytes -= bytes;
        self.memory.give_back(bytes);
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.memory.give_back(self.bytes);
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
    memory: &CallMemory,
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
    let buffered = Buffered { memory: memory.clone(), bytes: 0 };
    let mut answer = Answer { columns, rows: Vec::new(), affected: 0, error: None, buffered };

    let mut results = connection.fetch_many(statement.query_with(arguments));
    loop {
        // A row is one message, whose length comes first: what does not fit is not waited for.
        let room = memory.left_bytes().saturating_mul(ROOM_FACTOR).max(ROOM_BYTES_MIN);
        let result = match within(room, results.next()).await {
            Ok(Some(result)) => result,
            Ok(None) => break,
            Err(TooLarge) => {
                answer.error = Some(Error::TooManyRows(memory.limit_bytes()));
                break;
            }
        };
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
        // Counted before anything is made of it: few bytes on the wire can be many in memory.
        let mut held = size_of::<Row>() + codecs.len() * size_of::<DbValue>();
        for (at, codec) in codecs.iter().enumerate() {
            held = held.saturating_add(raw(row, at)?.map_or(0, |bytes| codec.heap_bytes(bytes)));
        }
        self.buffered.add(held)?;
        let mut values = Vec::with_capacity(codecs.len());
        for (at, codec) in codecs.iter().enumerate() {
            let value = codec
                .decode(raw(row, at)?)
                .map_err(|reason| Error::Unreadable { column: self.columns[at].name.clone(), reason })?;
            values.push(value);
        }
        self.rows.push(values);
        Ok(())
    }
}

/// A column's bytes as the server sent them; none where it is null.
fn raw(row: &PgRow, at: usize) -> Result<Option<&[u8]>, sqlx::Error> {
    let value = row.try_get_raw(at)?;
    Ok(if value.is_null() { None } else { value.as_bytes().ok() })
}
