//! Positions as people see and choose them, how far behind they are, and what is paused.

use super::{Error, OwnerPool};
use fnhost_types::record::TopicPartition;
use serde::Serialize;
use sqlx::Row as _;
use uuid::Uuid;

/// A partition of a trigger, a relay or a schedule, whichever host has it.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionRow {
    /// Trigger id.
    pub trigger: String,
    /// `kafka`, `relay` or `schedule`.
    pub kind: String,
    /// Topic; empty for a relay and a schedule.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// The next offset to process.
    pub position: i64,
    /// Name of the host that owns it; none where nobody does, or a host that does not renew its lease.
    pub host: Option<String>,
    /// Records parked.
    pub parked: i64,
    /// The earliest timestamp of a parked record, in milliseconds since 1970; told as an age by who asks.
    #[serde(skip)]
    pub oldest_parked_ms: Option<i64>,
    /// Dead letters.
    pub dead: i64,
    /// Outbox rows that are not cleared.
    pub outbox_rows: i64,
    /// Why it is paused, the trigger's reason where that is paused.
    pub paused: Option<String>,
    /// Why it is stopped until somebody decides.
    pub stopped: Option<String>,
    /// What Kafka said to the message that blocks it.
    pub blocked: Option<String>,
}

/// The partitions of a deployment, or of one trigger, sorted.
///
/// # Errors
/// The database did not answer.
pub async fn partitions(
    pool: &OwnerPool,
    deployment: &str,
    trigger: Option<&str>,
) -> Result<Vec<PartitionRow>, Error> {
    let rows = sqlx::query(
        "SELECT t.id, t.kind, p.topic, p.partition, p.position,
                (SELECT h.name FROM fnhost.host h
                  WHERE h.deployment = t.deployment AND h.host = p.owner AND h.lease_until > clock_timestamp() LIMIT 1),
                (SELECT count(*) FROM fnhost.parked k WHERE (k.trigger, k.topic, k.partition) = (p.trigger, p.topic, p.partition)),
                (SELECT count(*) FROM fnhost.dead d WHERE (d.trigger, d.topic, d.partition) = (p.trigger, p.topic, p.partition)),
                (SELECT count(*) FROM fnhost.outbox o WHERE (o.trigger, o.topic, o.partition) = (p.trigger, p.topic, p.partition)),
                COALESCE(p.paused, t.paused), p.stopped, r.reason,
                (SELECT min(k.timestamp_ms) FROM fnhost.parked k
                  WHERE (k.trigger, k.topic, k.partition) = (p.trigger, p.topic, p.partition) AND k.timestamp_ms >= 0)
           FROM fnhost.partition p JOIN fnhost.trigger t USING (trigger)
           LEFT JOIN fnhost.refused r USING (trigger, topic, partition)
          WHERE t.deployment = $1 AND ($2::text IS NULL OR t.id = $2)
          ORDER BY t.id, p.topic, p.partition",
    )
    .bind(deployment)
    .bind(trigger)
    .fetch_all(pool.pool())
    .await?;
    rows.iter()
        .map(|row| {
            Ok(PartitionRow {
                trigger: row.try_get(0)?,
                kind: row.try_get(1)?,
                topic: row.try_get(2)?,
                partition: row.try_get(3)?,
                position: row.try_get(4)?,
                host: row.try_get(5)?,
                parked: row.try_get(6)?,
                dead: row.try_get(7)?,
                outbox_rows: row.try_get(8)?,
                paused: row.try_get(9)?,
                stopped: row.try_get(10)?,
                blocked: row.try_get(11)?,
                oldest_parked_ms: row.try_get(12)?,
            })
        })
        .collect()
}

/// Pauses a trigger, or one of its partitions, also for hosts that start later: what is in hand is finished or handled again later, and
/// nothing new is begun. False where there is no such trigger or partition.
///
/// # Errors
/// The database did not answer.
pub async fn pause(
    pool: &OwnerPool,
    deployment: &str,
    trigger: &str,
    tp: Option<&TopicPartition>,
    reason: &str,
) -> Result<bool, Error> {
    set_paused(pool, deployment, trigger, tp, Some(reason)).await
}

/// Resumes a trigger with all of its partitions, or one partition. False where there is no such trigger or partition, or a partition's
/// whole trigger is paused.
///
/// # Errors
/// The database did not answer.
pub async fn resume(
    pool: &OwnerPool,
    deployment: &str,
    trigger: &str,
    tp: Option<&TopicPartition>,
) -> Result<bool, Error> {
    set_paused(pool, deployment, trigger, tp, None).await
}

async fn set_paused(
    pool: &OwnerPool,
    deployment: &str,
    trigger: &str,
    tp: Option<&TopicPartition>,
    reason: Option<&str>,
) -> Result<bool, Error> {
    // Raised versions have present owners look. A new partition of a paused trigger is paused too.
    let Some(tp) = tp else {
        let changed: i64 = sqlx::query_scalar(
            "WITH chosen AS (
                 UPDATE fnhost.trigger SET paused = $3, paused_at = CASE WHEN $3 IS NOT NULL THEN clock_timestamp() END
                  WHERE deployment = $1 AND id = $2 RETURNING trigger),
             told AS (
                 UPDATE fnhost.partition p SET version = p.version + 1, paused = NULL, paused_at = NULL
                   FROM chosen c WHERE p.trigger = c.trigger)
             SELECT count(*) FROM chosen",
        )
        .bind(deployment)
        .bind(trigger)
        .bind(reason)
        .fetch_one(pool.pool())
        .await?;
        return Ok(changed > 0);
    };
    let changed = sqlx::query(
        "UPDATE fnhost.partition p
            SET version = p.version + 1, paused = $3, paused_at = CASE WHEN $3 IS NOT NULL THEN clock_timestamp() END
           FROM fnhost.trigger t
          WHERE t.deployment = $1 AND t.id = $2 AND p.trigger = t.trigger AND p.topic = $4 AND p.partition = $5
            AND ($3 IS NOT NULL OR t.paused IS NULL)",
    )
    .bind(deployment)
    .bind(trigger)
    .bind(reason)
    .bind(&tp.topic)
    .bind(tp.partition)
    .execute(pool.pool())
    .await?;
    Ok(changed.rows_affected() > 0)
}

/// Moves a trigger's position of a partition and raises its version, so that a present owner notices before its next store.
/// It goes on where it had stopped, in the topic of that id. Parked records from the position on are forgotten,
/// because they come again. Where it moves back, the watermarks go too: the records from there on are meant to be handled again, and a message that Kafka
/// holds twice is still taken once where both copies lie behind the new position. Answers the former position; none where the
/// trigger has no such partition.
///
/// # Errors
/// The database did not answer.
pub async fn set(
    pool: &OwnerPool,
    deployment: &str,
    trigger: &str,
    tp: &TopicPartition,
    position: i64,
    topic_id: Option<Uuid>,
) -> Result<Option<i64>, Error> {
    Ok(sqlx::query_scalar(
        "WITH former AS (
             SELECT p.trigger, p.topic, p.partition, p.position
               FROM fnhost.partition p JOIN fnhost.trigger t USING (trigger)
              WHERE t.deployment = $1 AND t.id = $2 AND p.topic = $3 AND p.partition = $4 FOR UPDATE OF p),
         forgotten AS (
             DELETE FROM fnhost.watermark w USING former f
              WHERE w.trigger = f.trigger AND w.topic = f.topic AND w.partition = f.partition AND $5 < f.position),
         unparked AS (
             DELETE FROM fnhost.parked k USING former f
              WHERE k.trigger = f.trigger AND k.topic = f.topic AND k.partition = f.partition AND k.\"offset\" >= $5)
         UPDATE fnhost.partition p
            SET position = $5, version = p.version + 1, chosen = true, stopped = NULL, stopped_at = NULL, topic_id = $6,
                announced = NULL, announcements = 0
           FROM former f WHERE p.trigger = f.trigger AND p.topic = f.topic AND p.partition = f.partition
         RETURNING f.position",
    )
    .bind(deployment)
    .bind(trigger)
    .bind(&tp.topic)
    .bind(tp.partition)
    .bind(position)
    .bind(topic_id)
    .fetch_optional(pool.pool())
    .await?)
}
