//! Parked records as their partition's owner reads them, attempts that do not count any more, and what people do with parked records.

use super::ownership::{Ownership, PARKED_MAX, lock_owned};
use super::session::Bounded;
use super::views::{RecordView, record_view};
use super::{Error, OwnerPool};
use fnhost_types::outbox;
use fnhost_types::record::{Record, TopicPartition};
use serde::Deserialize;
use sqlx::Row as _;
use sqlx::postgres::{PgArguments, Postgres};

/// A row of `fnhost.parked`.
pub struct Parked {
    /// The record, with its headers decoded.
    pub record: Record,
    /// Attempts made.
    pub attempts: u32,
    /// Milliseconds since its first attempt; none before it.
    pub age_ms: Option<i64>,
    /// Milliseconds until it is due.
    pub due_in_ms: i64,
    /// What it emits is not sent.
    pub silent: bool,
}

/// Gives parked records the attempts back that versions made which were rolled back since, and makes them due now. Answers
/// the parked records where that changed any.
///
/// # Errors
/// The database did not answer, or the partition has another owner.
pub async fn give_back(pool: &OwnerPool, ownership: &Ownership) -> Result<Option<Vec<Parked>>, Error> {
    let (trigger, tp) = (ownership.trigger, &ownership.tp);
    let mut tx = pool.begin().await?;
    lock_owned(&mut tx, ownership).await?;
    let refunded = sqlx::query(
        "UPDATE fnhost.parked k
            SET attempts = k.attempts - r.refunded, charged_by = r.kept, next_attempt_at = clock_timestamp(),
                first_attempt_at = CASE WHEN k.attempts > r.refunded THEN k.first_attempt_at END
           FROM (SELECT p.\"offset\", count(v.version)::int AS refunded,
                        COALESCE(array_agg(c.version ORDER BY c.at) FILTER (WHERE v.version IS NULL), '{}') AS kept
                   FROM fnhost.parked p CROSS JOIN LATERAL unnest(p.charged_by) WITH ORDINALITY AS c(version, at)
                   LEFT JOIN fnhost.version v ON v.version = c.version AND v.withdrawn_at IS NOT NULL
                  WHERE p.trigger = $1 AND p.topic = $2 AND p.partition = $3
                  GROUP BY p.\"offset\" HAVING count(v.version) > 0) r
          WHERE k.trigger = $1 AND k.topic = $2 AND k.partition = $3 AND k.\"offset\" = r.\"offset\"",
    )
    .bind(trigger)
    .bind(&tp.topic)
    .bind(tp.partition)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    if refunded.rows_affected() == 0 {
        return Ok(None);
    }
    Ok(Some(load(pool, trigger, tp).await?))
}

pub(super) async fn load(pool: &OwnerPool, trigger: i64, tp: &TopicPartition) -> Result<Vec<Parked>, Error> {
    let rows = sqlx::query(
        "SELECT \"offset\", timestamp_ms, key, value, headers, attempts,
                (extract(epoch FROM clock_timestamp() - first_attempt_at) * 1000)::bigint,
                (extract(epoch FROM next_attempt_at - clock_timestamp()) * 1000)::bigint, silent
           FROM fnhost.parked WHERE trigger = $1 AND topic = $2 AND partition = $3 ORDER BY line",
    )
    .bind(trigger)
    .bind(&tp.topic)
    .bind(tp.partition)
    .fetch_all(pool.pool())
    .await?;
    rows.iter()
        .map(|row| {
            let headers: Vec<u8> = row.try_get(4)?;
            Ok(Parked {
                record: Record {
                    offset: row.try_get(0)?,
                    timestamp_ms: row.try_get(1)?,
                    key: row.try_get(2)?,
                    value: row.try_get(3)?,
                    headers: outbox::decode_headers(&headers)?,
                },
                attempts: row.try_get::<i32, _>(5)?.max(0) as u32,
                age_ms: row.try_get(6)?,
                due_in_ms: row.try_get(7)?,
                silent: row.try_get(8)?,
            })
        })
        .collect()
}

/// Which parked records are meant: those for which everything that is given here holds.
#[derive(Clone, Debug, Default, Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ParkedFilter {
    /// Trigger id.
    pub trigger: Option<String>,
    /// Topic.
    pub topic: Option<String>,
    /// Partition.
    pub partition: Option<i32>,
    /// Offset.
    pub offset: Option<i64>,
    /// Key, as text.
    pub key: Option<String>,
    /// Part of the reason, upper and lower case alike.
    pub reason: Option<String>,
}

/// The parameters $1 to $7 of every query below.
macro_rules! matching {
    ($head:literal, $tail:literal) => {
        concat!(
            $head,
            " FROM fnhost.parked k JOIN fnhost.trigger t USING (trigger)
              WHERE t.deployment = $1 AND ($2::text IS NULL OR t.id = $2) AND ($3::text IS NULL OR k.topic = $3)
                AND ($4::int IS NULL OR k.partition = $4) AND ($5::bigint IS NULL OR k.\"offset\" = $5)
                AND ($6::bytea IS NULL OR k.key = $6)
                AND ($7::text IS NULL OR position(lower($7) IN lower(k.reason)) > 0) ",
            $tail
        )
    };
}

fn matching<'q>(
    sql: &'static str,
    deployment: &'q str,
    filter: &'q ParkedFilter,
) -> sqlx::query::Query<'q, Postgres, PgArguments> {
    let ParkedFilter { trigger, topic, partition, offset, key, reason } = filter;
    sqlx::query(sql)
        .bind(deployment)
        .bind(trigger)
        .bind(topic)
        .bind(partition)
        .bind(offset)
        .bind(key.as_deref().map(str::as_bytes))
        .bind(reason)
}

/// Parked records that match, the next due first, at most `limit`.
///
/// # Errors
/// The database did not answer.
pub async fn list(
    pool: &OwnerPool,
    deployment: &str,
    filter: &ParkedFilter,
    limit: i64,
) -> Result<Vec<RecordView>, Error> {
    let sql = matching!(
        "SELECT t.id, k.topic, k.partition, k.\"offset\", k.key, k.value, k.headers, k.attempts, k.reason,
                to_char(k.next_attempt_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')",
        "ORDER BY k.next_attempt_at, k.line LIMIT $8"
    );
    let rows = matching(sql, deployment, filter).bind(limit).fetch_all(pool.pool()).await?;
    rows.iter().map(record_view).collect()
}

/// How many parked records match.
///
/// # Errors
/// The database did not answer.
pub async fn count(pool: &OwnerPool, deployment: &str, filter: &ParkedFilter) -> Result<i64, Error> {
    let row = matching(matching!("SELECT count(*)", ""), deployment, filter).fetch_one(pool.pool()).await?;
    Ok(row.try_get(0)?)
}

/// Has the parked records that match tried again at once; attempts stay counted. Answers how many.
///
/// # Errors
/// The database did not answer.
pub async fn retry(pool: &OwnerPool, deployment: &str, filter: &ParkedFilter) -> Result<i64, Error> {
    let sql = matching!(
        "WITH chosen AS (SELECT k.trigger, k.topic, k.partition, k.\"offset\"",
        "),
         due AS (
             UPDATE fnhost.parked k SET next_attempt_at = clock_timestamp()
              WHERE (k.trigger, k.topic, k.partition, k.\"offset\") IN (SELECT * FROM chosen) RETURNING 1)
         SELECT count(*) FROM due"
    );
    change(pool, deployment, filter, sql).await
}

/// Removes the parked records that match, for good; those behind them go on. Answers how many.
///
/// # Errors
/// The database did not answer.
pub async fn discard(pool: &OwnerPool, deployment: &str, filter: &ParkedFilter) -> Result<i64, Error> {
    let sql = matching!(
        "WITH chosen AS (SELECT k.trigger, k.topic, k.partition, k.\"offset\"",
        "),
         gone AS (
             DELETE FROM fnhost.parked k
              WHERE (k.trigger, k.topic, k.partition, k.\"offset\") IN (SELECT * FROM chosen) RETURNING 1)
         SELECT count(*) FROM gone"
    );
    change(pool, deployment, filter, sql).await
}

/// Changes the parked records that match, by a statement that answers how many there were; their owners read them anew.
async fn change(
    pool: &OwnerPool,
    deployment: &str,
    filter: &ParkedFilter,
    sql: &'static str,
) -> Result<i64, Error> {
    let of = matching!("SELECT DISTINCT k.trigger, k.topic, k.partition", "ORDER BY 1, 2, 3");
    let mut tx = pool.begin().await?;
    // Each partition's row is locked before its records are touched, as owners do it.
    for part in matching(of, deployment, filter).fetch_all(&mut *tx).await? {
        let tp = TopicPartition::new(part.try_get::<String, _>(1)?, part.try_get(2)?);
        raise_version(&mut tx, part.try_get(0)?, &tp).await?;
    }
    let changed = matching(sql, deployment, filter).fetch_one(&mut *tx).await?.try_get(0)?;
    tx.commit().await?;
    Ok(changed)
}

/// Has the owner of a partition, which stores nothing before, read it anew; its row is locked until the end of the transaction.
async fn raise_version(connection: &mut Bounded, trigger: i64, tp: &TopicPartition) -> Result<(), Error> {
    sqlx::query(
        "UPDATE fnhost.partition SET version = version + 1 WHERE trigger = $1 AND topic = $2 AND partition = $3",
    )
    .bind(trigger)
    .bind(&tp.topic)
    .bind(tp.partition)
    .execute(connection)
    .await?;
    Ok(())
}

/// What [`replay`] did with the records that it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// So many wait before their trigger; those that were parked already are not among them.
    Parked(u64),
    /// As many records are parked on the partition as may be: again later.
    NoRoom,
}

/// Puts records of a partition that were settled before its trigger once more, in their order, behind what waits of their keys. Those
/// that are not settled yet are left out: they come anyway. Where `silent`, what they emit is not sent.
///
/// # Errors
/// The database did not answer, or the trigger has no such partition.
pub async fn replay(
    pool: &OwnerPool,
    deployment: &str,
    trigger: &str,
    tp: &TopicPartition,
    records: &[Record],
    silent: bool,
) -> Result<Replayed, Error> {
    let mut tx = pool.begin().await?;
    let row: Option<(i64, i64, i64)> = sqlx::query_as(
        "SELECT p.trigger, p.position, (SELECT count(*) FROM fnhost.parked k
                  WHERE (k.trigger, k.topic, k.partition) = (p.trigger, p.topic, p.partition))
           FROM fnhost.partition p JOIN fnhost.trigger t USING (trigger)
          WHERE t.deployment = $1 AND t.id = $2 AND p.topic = $3 AND p.partition = $4 FOR UPDATE OF p",
    )
    .bind(deployment)
    .bind(trigger)
    .bind(&tp.topic)
    .bind(tp.partition)
    .fetch_optional(&mut *tx)
    .await?;
    let Some((row, position, parked)) = row else {
        return Err(Error::Unfit(format!("trigger {trigger} has no partition {tp}")));
    };
    // Half of what may be parked is left for what fails meanwhile.
    if parked as usize + records.len() > PARKED_MAX / 2 {
        return Ok(Replayed::NoRoom);
    }
    let settled: Vec<&Record> = records.iter().filter(|record| record.offset < position).collect();
    if settled.is_empty() {
        // The owner has nothing to read anew.
        return Ok(Replayed::Parked(0));
    }
    let put = sqlx::query(
        "INSERT INTO fnhost.parked (trigger, topic, partition, \"offset\", key, value, headers, timestamp_ms, attempts,
                                    next_attempt_at, reason, silent)
         SELECT $1, $2, $3, r.o, r.k, r.v, r.h, r.t, 0, clock_timestamp(), 'replayed', $9
           FROM unnest($4::bigint[], $5::bytea[], $6::bytea[], $7::bytea[], $8::bigint[]) AS r(o, k, v, h, t)
          ORDER BY r.o
         ON CONFLICT DO NOTHING",
    )
    .bind(row)
    .bind(&tp.topic)
    .bind(tp.partition)
    .bind(settled.iter().map(|record| record.offset).collect::<Vec<_>>())
    .bind(settled.iter().map(|record| record.key.as_deref()).collect::<Vec<_>>())
    .bind(settled.iter().map(|record| record.value.as_deref()).collect::<Vec<_>>())
    .bind(settled.iter().map(|record| outbox::encode_headers(&record.headers)).collect::<Vec<_>>())
    .bind(settled.iter().map(|record| record.timestamp_ms).collect::<Vec<_>>())
    .bind(silent)
    .execute(&mut *tx)
    .await?;
    raise_version(&mut tx, row, tp).await?;
    tx.commit().await?;
    Ok(Replayed::Parked(put.rows_affected()))
}
