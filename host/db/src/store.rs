//! The store: what a dispatch writes for itself, in the function's transaction and as the function's role.

use super::call::Call;
use super::ownership::Ownership;
use super::session::Bounded;
use fnhost_types::outbox;
use fnhost_types::record::Record;
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
    /// Why the partition is paused from here on; none where it goes on.
    pub pause: Option<String>,
    /// The version that attempts are charged by, see `fnhost.parked`; 0 where there is none.
    pub version: i64,
    /// The first digits of its digest, kept with what is dead.
    pub digest: &'a str,
}

/// A record to park.
pub struct Park<'a> {
    /// The record to store.
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
    /// The record to store.
    pub record: &'a Record,
    /// Attempts made.
    pub attempts: u32,
    /// Why the record is a dead letter.
    pub reason: String,
    /// What it emits is not sent, also where it is put back.
    pub silent: bool,
}

/// Stores `changes` if `ownership` still is what the row says, else fails with SQLSTATE [`FENCED`]; answers what the
/// ownership is once the transaction is committed.
///
/// # Errors
/// As said, or the database failed.
pub async fn store(
    connection: &mut Bounded,
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
    of_owner("fnhost.store", ownership)
        .with("p_epoch", ownership.epoch)
        .with("p_version", ownership.version)
        .with("p_stores", ownership.stores)
        .with("p_position", ownership.position)
        .with("p_new_position", after.position)
        .with("p_emitted", ownership.emitted)
        .with("p_new_emitted", after.emitted)
        .with("p_messages", changes.messages.as_deref())
        .with("p_streams", streams)
        .with("p_marks", marks)
        .with("p_acknowledged", changes.acknowledged)
        .run(&mut *connection)
        .await?;
    if !changes.park.is_empty() || !changes.unpark.is_empty() {
        park(&mut *connection, ownership, changes).await?;
    }
    if !changes.bury.is_empty() {
        bury(&mut *connection, ownership, changes).await?;
    }
    if let Some(reason) = &changes.pause {
        of_owner("fnhost.pause", ownership).with("p_reason", storable(reason)).run(connection).await?;
    }
    Ok(after)
}

/// A call of a function that checks who owns the partition.
fn of_owner(function: &'static str, ownership: &Ownership) -> Call {
    Call::of(function)
        .with("p_trigger", ownership.trigger)
        .with("p_topic", &ownership.tp.topic)
        .with("p_partition", ownership.tp.partition)
        .with("p_token", ownership.token)
}

/// Such a call for records, whose columns parked and dead ones share.
fn of_records<'r>(
    function: &'static str,
    ownership: &Ownership,
    records: impl Iterator<Item = &'r Record> + Clone,
) -> Call {
    let offsets: Vec<i64> = records.clone().map(|record| record.offset).collect();
    let keys: Vec<Option<&[u8]>> = records.clone().map(|record| record.key.as_deref()).collect();
    let values: Vec<Option<&[u8]>> = records.clone().map(|record| record.value.as_deref()).collect();
    let headers: Vec<Vec<u8>> =
        records.clone().map(|record| outbox::encode_headers(&record.headers)).collect();
    let timestamps_ms: Vec<i64> = records.map(|record| record.timestamp_ms).collect();
    of_owner(function, ownership)
        .with("p_offsets", offsets)
        .with("p_keys", keys)
        .with("p_values", values)
        .with("p_headers", headers)
        .with("p_timestamps_ms", timestamps_ms)
}

async fn park(
    connection: &mut Bounded,
    ownership: &Ownership,
    changes: &Changes<'_>,
) -> Result<(), sqlx::Error> {
    let parked = &changes.park;
    of_records("fnhost.park_charged", ownership, parked.iter().map(|p| p.record))
        .with("p_attempts", parked.iter().map(|p| p.attempts as i32).collect::<Vec<_>>())
        .with("p_delays_ms", parked.iter().map(|p| p.delay_ms).collect::<Vec<_>>())
        .with("p_reasons", parked.iter().map(|p| storable(&p.reason)).collect::<Vec<_>>())
        .with("p_unpark", &changes.unpark)
        .with("p_version", changes.version)
        .run(connection)
        .await
}

async fn bury(
    connection: &mut Bounded,
    ownership: &Ownership,
    changes: &Changes<'_>,
) -> Result<(), sqlx::Error> {
    let dead = &changes.bury;
    let traceparent =
        |record: &Record| record.header("traceparent").map(|value| storable(&String::from_utf8_lossy(value)));
    of_records("fnhost.bury", ownership, dead.iter().map(|b| b.record))
        .with("p_attempts", dead.iter().map(|b| b.attempts as i32).collect::<Vec<_>>())
        .with("p_reasons", dead.iter().map(|b| storable(&b.reason)).collect::<Vec<_>>())
        .with("p_traceparents", dead.iter().map(|b| traceparent(b.record)).collect::<Vec<_>>())
        .with("p_silents", dead.iter().map(|b| b.silent).collect::<Vec<_>>())
        .with("p_digest", changes.digest)
        .run(connection)
        .await
}

/// A reason comes from a guest or a record: Postgres text cannot hold NUL, and it needs no novel.
fn storable(reason: &str) -> String {
    const REASON_MAX_CHARS: usize = 2_000;
    reason.chars().filter(|c| *c != '\0').take(REASON_MAX_CHARS).collect()
}
