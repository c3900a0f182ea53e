//! Dead letters, for people: which there are, putting them back, and giving them up.

use super::views::{RecordView, record_view};
use super::{Error, OwnerPool};
pub use redrive::{Redriven, redrive};
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::postgres::{PgArguments, Postgres};

/// Characters of the id of a group of dead letters.
const GROUP_CHARS: i32 = 8;

/// Which dead letters are meant: those for which everything that is given here holds.
#[derive(Clone, Debug, Default, Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeadFilter {
    /// Numbers of dead letters; empty: any.
    pub ids: Vec<i64>,
    /// Trigger id.
    pub trigger: Option<String>,
    /// Topic.
    pub topic: Option<String>,
    /// Partition.
    pub partition: Option<i32>,
    /// Died at this time or later; milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Died before this time; milliseconds since 1970.
    pub until_ms: Option<i64>,
    /// Part of the reason, upper and lower case alike.
    pub reason: Option<String>,
    /// Id of the group, as [`groups`] shows it.
    pub group: Option<String>,
}

/// The parameters $1 to $10 of every query here.
macro_rules! matching {
    ($head:literal, $tail:literal) => {
        concat!(
            $head,
            " FROM fnhost.dead d JOIN fnhost.trigger t USING (trigger)
              WHERE t.deployment = $1 AND (cardinality($2::bigint[]) = 0 OR d.id = ANY ($2))
                AND ($3::text IS NULL OR t.id = $3) AND ($4::text IS NULL OR d.topic = $4)
                AND ($5::int IS NULL OR d.partition = $5)
                AND ($6::bigint IS NULL OR d.died_at >= to_timestamp($6 / 1000.0))
                AND ($7::bigint IS NULL OR d.died_at < to_timestamp($7 / 1000.0))
                AND ($8::text IS NULL OR position(lower($8) IN lower(d.reason)) > 0)
                AND ($9::text IS NULL OR left(md5(fnhost.fingerprint(d.reason)), $10) = $9) ",
            $tail
        )
    };
}

// Below the macro, which it uses.
mod redrive;

type Query<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

fn matching<'q>(sql: &'static str, deployment: &'q str, filter: &'q DeadFilter) -> Query<'q> {
    let DeadFilter { ids, trigger, topic, partition, since_ms, until_ms, reason, group } = filter;
    sqlx::query(sql)
        .bind(deployment)
        .bind(ids)
        .bind(trigger)
        .bind(topic)
        .bind(partition)
        .bind(since_ms)
        .bind(until_ms)
        .bind(reason)
        .bind(group)
        .bind(GROUP_CHARS)
}

/// A dead letter.
#[derive(Debug, Serialize)]
pub struct DeadLetter {
    /// Its number.
    pub id: i64,
    /// The record; `attempts`, `reason` and `at` are those of its death.
    #[serde(flatten)]
    pub record: RecordView,
    /// Id of its group.
    pub group: String,
    /// The version that failed: the first digits of its digest; empty where it was no function's fault.
    pub digest: String,
    /// The record's `traceparent` (W3C).
    pub traceparent: Option<String>,
    /// Of a message that Kafka refused: topic and partition it was to go to.
    pub target: Option<String>,
}

/// Dead letters that match, newest first, at most `limit`.
///
/// # Errors
/// The database did not answer.
pub async fn list(
    pool: &OwnerPool,
    deployment: &str,
    filter: &DeadFilter,
    limit: i64,
) -> Result<Vec<DeadLetter>, Error> {
    let sql = matching!(
        "SELECT t.id, d.topic, d.partition, d.\"offset\", d.key, d.value, d.headers, d.attempts, d.reason,
                to_char(d.died_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
                d.id, left(md5(fnhost.fingerprint(d.reason)), $10), d.digest, d.traceparent,
                d.target_topic || '/' || d.target_partition",
        "ORDER BY d.id DESC LIMIT $11"
    );
    let rows = matching(sql, deployment, filter).bind(limit).fetch_all(pool.pool()).await?;
    rows.iter()
        .map(|row| {
            Ok(DeadLetter {
                record: record_view(row)?,
                id: row.try_get(10)?,
                group: row.try_get(11)?,
                digest: row.try_get(12)?,
                traceparent: row.try_get(13)?,
                target: row.try_get(14)?,
            })
        })
        .collect()
}

/// Dead letters of the same fault: of one trigger, with reasons that differ only in what differs from record to record.
#[derive(Debug, Serialize)]
pub struct DeadGroup {
    /// Id of the group.
    pub group: String,
    /// Trigger id.
    pub trigger: String,
    /// How many there are.
    pub count: i64,
    /// The reason without quoted texts, numbers and ids.
    pub fingerprint: String,
    /// Reason of the first one.
    pub first_reason: String,
    /// When that died; RFC 3339.
    pub first_at: String,
    /// Reason of the last one.
    pub last_reason: String,
    /// When that died; RFC 3339.
    pub last_at: String,
    /// Versions that failed, by the first digits of their digests.
    pub digests: Vec<String>,
    /// `traceparent` of the last one that has one.
    pub traceparent: Option<String>,
}

/// The groups of the dead letters that match, the largest first, at most `limit`.
///
/// # Errors
/// The database did not answer.
pub async fn groups(
    pool: &OwnerPool,
    deployment: &str,
    filter: &DeadFilter,
    limit: i64,
) -> Result<Vec<DeadGroup>, Error> {
    let sql = matching!(
        "SELECT left(md5(fnhost.fingerprint(d.reason)), $10), t.id, count(*), fnhost.fingerprint(d.reason),
                (array_agg(d.reason ORDER BY d.id))[1],
                to_char(min(d.died_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
                (array_agg(d.reason ORDER BY d.id DESC))[1],
                to_char(max(d.died_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
                COALESCE(array_agg(DISTINCT d.digest) FILTER (WHERE d.digest <> ''), '{}'),
                (array_agg(d.traceparent ORDER BY d.id DESC) FILTER (WHERE d.traceparent IS NOT NULL))[1]",
        "GROUP BY 1, t.id, 4 ORDER BY 3 DESC, 1 LIMIT $11"
    );
    let rows = matching(sql, deployment, filter).bind(limit).fetch_all(pool.pool()).await?;
    rows.iter()
        .map(|row| {
            Ok(DeadGroup {
                group: row.try_get(0)?,
                trigger: row.try_get(1)?,
                count: row.try_get(2)?,
                fingerprint: row.try_get(3)?,
                first_reason: row.try_get(4)?,
                first_at: row.try_get(5)?,
                last_reason: row.try_get(6)?,
                last_at: row.try_get(7)?,
                digests: row.try_get(8)?,
                traceparent: row.try_get(9)?,
            })
        })
        .collect()
}

/// How many dead letters match.
///
/// # Errors
/// The database did not answer.
pub async fn count(pool: &OwnerPool, deployment: &str, filter: &DeadFilter) -> Result<i64, Error> {
    let row = matching(matching!("SELECT count(*)", ""), deployment, filter).fetch_one(pool.pool()).await?;
    Ok(row.try_get(0)?)
}

/// Removes the dead letters that match; answers how many.
///
/// # Errors
/// The database did not answer.
pub async fn discard(pool: &OwnerPool, deployment: &str, filter: &DeadFilter) -> Result<u64, Error> {
    let sql = matching!(
        "WITH chosen AS (SELECT d.id",
        ") DELETE FROM fnhost.dead WHERE id IN (SELECT id FROM chosen)"
    );
    Ok(matching(sql, deployment, filter).execute(pool.pool()).await?.rows_affected())
}
