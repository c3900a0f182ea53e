//! The store: what a dispatch writes for itself, in the function's transaction and as the function's role.

use super::ownership::Ownership;
use fnhost_types::outbox;
use fnhost_types::record::Record;
use sqlx::postgres::PgConnection;
use std::collections::HashMap;

/// SQLSTATE with which `fnhost.store` refuses a caller that is not the owner it thinks it is.
pub const FENCED: &str = "FN001";

/// What a batch changes of its partition.
#[derive(Default)]
pub struct Changes<'a> {
    /// Next offset to process.
    pub position: i64,
    /// Number of messages emitted.
    pub emitted: usize,
    /// They, encoded; absent where there are none.
    pub messages: Option<Vec<u8>>,
    /// Watermarks that rose.
    pub watermarks: HashMap<String, i64>,
    /// Kafka acknowledged every message up to this number.
    pub acknowledged: Option<i64>,
    /// Records to park, or parked ones that failed another attempt.
    pub park: Vec<Park<'a>>,
    /// Offsets of parked records that are finished.
    pub unpark: Vec<i64>,
    /// Records that are dead.
    pub bury: Vec<Bury<'a>>,
    /// The version that attempts are charged by, see `fnhost.parked`; 0 where there is none.
    pub version: i64,
}

/// A record to park.
pub struct Park<'a> {
    /// Which.
    pub record: &'a Record,
    /// Attempts made; 0 where it only waits behind another record of its key.
    pub attempts: u32,
    /// Milliseconds until it is due.
    pub delay_ms: i64,
    /// What the last attempt said.
    pub reason: String,
}

/// A dead record.
pub struct Bury<'a> {
    /// Which.
    pub record: &'a Record,
    /// Attempts made.
    pub attempts: u32,
    /// Why.
    pub reason: String,
}

/// Stores `changes` if `ownership` still is what the row says, else fails with SQLSTATE [`FENCED`]; answers what the
/// ownership is once the transaction is committed.
///
/// # Errors
/// As said, or the database failed.
pub async fn store(
    connection: &mut PgConnection,
    ownership: &Ownership,
    changes: &Changes<'_>,
) -> Result<Ownership, sqlx::Error> {
    let after = Ownership {
        stores: ownership.stores + 1,
        position: changes.position,
        emitted: ownership.emitted + changes.emitted as i64,
        ..ownership.clone()
    };
    let (streams, marks): (Vec<&str>, Vec<i64>) =
        changes.watermarks.iter().map(|(s, m)| (s.as_str(), *m)).unzip();
    sqlx::query("SELECT fnhost.store($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)")
        .bind(ownership.trigger)
        .bind(&ownership.tp.topic)
        .bind(ownership.tp.partition)
        .bind(ownership.token)
        .bind(ownership.epoch)
        .bind(ownership.version)
        .bind(ownership.stores)
        .bind(ownership.position)
        .bind(after.position)
        .bind(ownership.emitted)
        .bind(after.emitted)
        .bind(changes.messages.as_deref())
        .bind(streams)
        .bind(marks)
        .bind(changes.acknowledged)
        .execute(&mut *connection)
        .await?;
    if !changes.park.is_empty() || !changes.unpark.is_empty() {
        park(connection, ownership, changes).await?;
    }
    if !changes.bury.is_empty() {
        bury(connection, ownership, changes).await?;
    }
    Ok(after)
}

/// The columns that parked and dead records share.
struct Columns<'a> {
    offsets: Vec<i64>,
    keys: Vec<Option<&'a [u8]>>,
    values: Vec<Option<&'a [u8]>>,
    headers: Vec<Vec<u8>>,
    timestamps_ms: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn of(records: impl Iterator<Item = &'a Record>) -> Self {
        let mut columns =
            Self { offsets: vec![], keys: vec![], values: vec![], headers: vec![], timestamps_ms: vec![] };
        for record in records {
            columns.offsets.push(record.offset);
            columns.keys.push(record.key.as_deref());
            columns.values.push(record.value.as_deref());
            columns.headers.push(outbox::encode_headers(&record.headers));
            columns.timestamps_ms.push(record.timestamp_ms);
        }
        columns
    }
}

async fn park(
    connection: &mut PgConnection,
    ownership: &Ownership,
    changes: &Changes<'_>,
) -> Result<(), sqlx::Error> {
    let columns = Columns::of(changes.park.iter().map(|p| p.record));
    sqlx::query("SELECT fnhost.park_charged($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)")
        .bind(ownership.trigger)
        .bind(&ownership.tp.topic)
        .bind(ownership.tp.partition)
        .bind(ownership.token)
        .bind(columns.offsets)
        .bind(columns.keys)
        .bind(columns.values)
        .bind(columns.headers)
        .bind(columns.timestamps_ms)
        .bind(changes.park.iter().map(|p| p.attempts as i32).collect::<Vec<_>>())
        .bind(changes.park.iter().map(|p| p.delay_ms).collect::<Vec<_>>())
        .bind(changes.park.iter().map(|p| storable(&p.reason)).collect::<Vec<_>>())
        .bind(&changes.unpark)
        .bind(changes.version)
        .execute(connection)
        .await?;
    Ok(())
}

async fn bury(
    connection: &mut PgConnection,
    ownership: &Ownership,
    changes: &Changes<'_>,
) -> Result<(), sqlx::Error> {
    let columns = Columns::of(changes.bury.iter().map(|b| b.record));
    let traceparents: Vec<Option<String>> = changes
        .bury
        .iter()
        .map(|b| b.record.header("traceparent").map(|v| storable(&String::from_utf8_lossy(v))))
        .collect();
    sqlx::query("SELECT fnhost.bury($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)")
        .bind(ownership.trigger)
        .bind(&ownership.tp.topic)
        .bind(ownership.tp.partition)
        .bind(ownership.token)
        .bind(columns.offsets)
        .bind(columns.keys)
        .bind(columns.values)
        .bind(columns.headers)
        .bind(columns.timestamps_ms)
        .bind(changes.bury.iter().map(|b| b.attempts as i32).collect::<Vec<_>>())
        .bind(changes.bury.iter().map(|b| storable(&b.reason)).collect::<Vec<_>>())
        .bind(traceparents)
        .execute(connection)
        .await?;
    Ok(())
}

/// A reason comes from a guest or a record: Postgres text cannot hold NUL, and it needs no novel.
fn storable(reason: &str) -> String {
    const REASON_MAX_CHARS: usize = 2_000;
    reason.chars().filter(|c| *c != '\0').take(REASON_MAX_CHARS).collect()
}
