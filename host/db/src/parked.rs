//! Parked records as their partition's owner reads them, and attempts that do not count any more.

use super::ownership::{Ownership, lock_owned};
use super::{Error, OwnerPool};
use fnhost_types::outbox;
use fnhost_types::record::{Record, TopicPartition};
use sqlx::Row as _;

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
                (extract(epoch FROM next_attempt_at - clock_timestamp()) * 1000)::bigint
           FROM fnhost.parked WHERE trigger = $1 AND topic = $2 AND partition = $3 ORDER BY \"offset\"",
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
            })
        })
        .collect()
}
