//! What the admin address shows of the database.

use super::{Error, OwnerPool};
use fnhost_types::outbox;
use serde::Serialize;
use sqlx::Row as _;

/// A record that waits or died, for people. Keys, values and headers are text; bytes that are not UTF-8 are replaced.
#[derive(Debug, Serialize)]
pub struct RecordView {
    /// Trigger id.
    pub trigger: String,
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Key.
    pub key: Option<String>,
    /// Value; none for a tombstone.
    pub value: Option<String>,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// Attempts made.
    pub attempts: i32,
    /// What the last attempt said.
    pub reason: String,
    /// When it died, or when its next attempt is due; RFC 3339.
    pub at: String,
}

/// The record in columns 0 to 9 of a row: trigger id, topic, partition, offset, key, value, headers, attempts, reason, time.
pub(super) fn record_view(row: &sqlx::postgres::PgRow) -> Result<RecordView, Error> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let headers: Vec<u8> = row.try_get(6)?;
    Ok(RecordView {
        trigger: row.try_get(0)?,
        topic: row.try_get(1)?,
        partition: row.try_get(2)?,
        offset: row.try_get(3)?,
        key: row.try_get::<Option<Vec<u8>>, _>(4)?.map(text),
        value: row.try_get::<Option<Vec<u8>>, _>(5)?.map(text),
        headers: outbox::decode_headers(&headers)?.into_iter().map(|h| (h.name, text(h.value))).collect(),
        attempts: row.try_get(7)?,
        reason: row.try_get(8)?,
        at: row.try_get(9)?,
    })
}

/// Counts over a deployment.
#[derive(Debug, Serialize)]
pub struct Totals {
    /// Parked records.
    pub parked: i64,
    /// Dead letters.
    pub dead: i64,
    /// Outbox rows that Kafka has not acknowledged, or that a later store will clear.
    pub outbox_rows: i64,
    /// Age of the oldest of them, milliseconds; 0 where there is none.
    pub outbox_age_ms: i64,
}

/// Counts of a deployment.
///
/// # Errors
/// The database did not answer.
pub async fn totals(pool: &OwnerPool, deployment: &str) -> Result<Totals, Error> {
    let row: (i64, i64, i64, i64) = sqlx::query_as(
        "WITH own AS (SELECT trigger FROM fnhost.trigger WHERE deployment = $1)
         SELECT (SELECT count(*) FROM fnhost.parked WHERE trigger IN (SELECT trigger FROM own)),
                (SELECT count(*) FROM fnhost.dead WHERE trigger IN (SELECT trigger FROM own)),
                count(*), COALESCE((extract(epoch FROM clock_timestamp() - min(created_at)) * 1000)::bigint, 0)
           FROM fnhost.outbox WHERE trigger IN (SELECT trigger FROM own)",
    )
    .bind(deployment)
    .fetch_one(pool.pool())
    .await?;
    Ok(Totals { parked: row.0, dead: row.1, outbox_rows: row.2, outbox_age_ms: row.3 })
}

/// The outbox rows of one trigger or relay that are not cleared yet.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxView {
    /// Trigger id.
    pub trigger: String,
    /// Rows.
    pub rows: i64,
    /// Age of the oldest, seconds; 0 where there is none.
    pub oldest_age_s: f64,
}

/// The outbox of each trigger of a deployment, also where it is empty.
///
/// # Errors
/// The database did not answer.
pub async fn outbox(pool: &OwnerPool, deployment: &str) -> Result<Vec<OutboxView>, Error> {
    let rows: Vec<(String, i64, f64)> = sqlx::query_as(
        "SELECT t.id, count(o.trigger),
                COALESCE(extract(epoch FROM clock_timestamp() - min(o.created_at)), 0)::float8
           FROM fnhost.trigger t LEFT JOIN fnhost.outbox o USING (trigger)
          WHERE t.deployment = $1 GROUP BY t.id",
    )
    .bind(deployment)
    .fetch_all(pool.pool())
    .await?;
    let view = |(trigger, rows, oldest_age_s)| OutboxView { trigger, rows, oldest_age_s };
    Ok(rows.into_iter().map(view).collect())
}
