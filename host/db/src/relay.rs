//! The relay's SQL: its lease, the events it takes, and its sleep.

use super::ownership::{Ownership, limit_lock_wait, unlocking};
use super::session::Bounded;
use super::{Error, OwnerPool, ident};
use fnhost_types::record::TopicPartition;
use futures::FutureExt as _;
use sqlx::{AssertSqlSafe, Row as _};
use std::time::Duration;
use uuid::Uuid;

/// Channel on which inserts of events notify a sleeping relay; the payload is the schema.
pub const WAKE_CHANNEL: &str = "fnhost_relay";

/// An event that a function inserted.
pub struct Event {
    /// Its number, in insert order.
    pub id: i64,
    /// Target topic.
    pub topic: String,
    /// Key bytes.
    pub key: Option<Vec<u8>>,
    /// Value bytes.
    pub value: Option<Vec<u8>>,
    /// Header names and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Short digest of the version that inserted it; none where Spin served the request.
    pub version: Option<String>,
}

impl Event {
    /// Bytes of key, value and headers.
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len) + headers
    }
}

/// True where the lease in row `p` is over: it was given back, its time is up, or the process that has it is gone. Of that one no
/// session is left ([`OwnerPool::of_host`]). It is only a hint to be quick: one that is still there all the same, because the server has
/// cut its sessions, is fenced by the next epoch. Sessions without a host's name may be those of a host that does not name its own.
const OVER: &str = "(p.owner IS NULL OR p.owner = $2 OR p.lease_until IS NULL OR p.lease_until < clock_timestamp()
     OR NOT EXISTS (SELECT FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name IN ('fnhost', 'fnhost ' || p.owner)))";

/// Takes the lease of a relay or a schedule, if nobody holds it and it is not paused, and raises its epoch. The row is made where it is missing.
/// Sessions that hold the row although its lease is over are a former leader's that is stopped or gone: they are terminated.
///
/// # Errors
/// The database did not answer, or the row stayed locked.
pub async fn take_lease(pool: &OwnerPool, trigger: i64, owner: Uuid, lease: Duration) -> Result<bool, Error> {
    sqlx::query("INSERT INTO fnhost.partition (trigger, topic, partition, position) VALUES ($1, '', 0, 0) ON CONFLICT DO NOTHING")
        .bind(trigger)
        .execute(pool.pool())
        .await?;
    let row = TopicPartition::new("", 0);
    unlocking(pool, trigger, &row, || try_take_lease(pool, trigger, owner, lease).boxed()).await
}

async fn try_take_lease(pool: &OwnerPool, trigger: i64, owner: Uuid, lease: Duration) -> Result<bool, Error> {
    // Looked at without the lock: nobody waits for a leader, or ends its sessions, before its time is up.
    let free: bool = sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT t.paused IS NULL AND p.paused IS NULL AND {OVER}
           FROM fnhost.partition p JOIN fnhost.trigger t USING (trigger)
          WHERE p.trigger = $1 AND p.topic = '' AND p.partition = 0"
    )))
    .bind(trigger)
    .bind(owner)
    .fetch_one(pool.pool())
    .await?;
    if !free {
        return Ok(false);
    }
    let mut tx = pool.begin().await?;
    limit_lock_wait(&mut tx).await?;
    let taken = sqlx::query(AssertSqlSafe(format!(
        "UPDATE fnhost.partition p
            SET epoch = epoch + 1, owner = $2, token = gen_random_uuid(), incarnation = fnhost.present_incarnation(),
                lease_until = clock_timestamp() + $3 * interval '1 millisecond'
          WHERE trigger = $1 AND topic = '' AND partition = 0 AND {OVER}"
    )))
    .bind(trigger)
    .bind(owner)
    .bind(lease.as_millis() as i64)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(taken.rows_affected() == 1)
}

/// Reads the ownership that [`take_lease`] won. A statement of its own: it sees what a former leader committed.
///
/// # Errors
/// The database did not answer, or another leader took over meanwhile.
pub async fn load(pool: &OwnerPool, trigger: i64, owner: Uuid) -> Result<Ownership, Error> {
    let row = sqlx::query(
        "SELECT token, epoch, version, stores, position, emitted, COALESCE(incarnation, '') FROM fnhost.partition
          WHERE trigger = $1 AND topic = '' AND partition = 0 AND owner = $2",
    )
    .bind(trigger)
    .bind(owner)
    .fetch_optional(pool.pool())
    .await?
    .ok_or_else(|| Error::Fenced { partition: "the relay".into() })?;
    Ok(Ownership {
        trigger,
        tp: TopicPartition::new("", 0),
        token: row.try_get(0)?,
        epoch: row.try_get(1)?,
        version: row.try_get(2)?,
        stores: row.try_get(3)?,
        position: row.try_get(4)?,
        emitted: row.try_get(5)?,
        incarnation: row.try_get(6)?,
        topic_id: None,
    })
}

/// Renews the lease, in the relay's transaction or alone.
///
/// # Errors
/// The database did not answer, or the lease is another's.
pub async fn renew_lease(
    connection: &mut Bounded,
    ownership: &Ownership,
    lease: Duration,
) -> Result<(), Error> {
    let renewed = sqlx::query(
        "UPDATE fnhost.partition SET lease_until = clock_timestamp() + $3 * interval '1 millisecond'
          WHERE trigger = $1 AND topic = '' AND partition = 0 AND epoch = $2",
    )
    .bind(ownership.trigger)
    .bind(ownership.epoch)
    .bind(lease.as_millis() as i64)
    .execute(connection)
    .await?;
    if renewed.rows_affected() == 1 { Ok(()) } else { Err(Error::Fenced { partition: "the relay".into() }) }
}

/// Takes the oldest visible events out of a function's table, in insert order: at most `max`, and none behind those that have `max_bytes`
/// together; one is taken in any case. Before it touches any, it locks the relay's row: whoever takes the lead over then finds the
/// sessions of a leader that is stopped by that row. Nothing is taken where the epoch is another one.
///
/// # Errors
/// The database did not answer.
pub async fn take_events(
    connection: &mut Bounded,
    ownership: &Ownership,
    schema: &str,
    table: &str,
    max: i64,
    max_bytes: i64,
) -> Result<Vec<Event>, Error> {
    let (schema, table) = (ident(schema), ident(table));
    // Not locked where there is nothing to take, which is asked all the time.
    let sql = format!(
        "WITH leads AS MATERIALIZED (
             SELECT FROM fnhost.partition
              WHERE trigger = $3 AND topic = '' AND partition = 0 AND epoch = $4
                AND EXISTS (SELECT FROM {schema}.{table}) FOR UPDATE)
         DELETE FROM {schema}.{table}
          WHERE EXISTS (SELECT FROM leads) AND id = ANY (ARRAY(
             SELECT id FROM (
                 SELECT id, sum(COALESCE(octet_length(key), 0) + COALESCE(octet_length(value), 0) + octet_length(headers::text))
                            OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
                   FROM (SELECT * FROM {schema}.{table} ORDER BY id LIMIT $1) oldest) sized
              WHERE before IS NULL OR before < $2))
         RETURNING id, topic, key, value, headers, version"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(max)
        .bind(max_bytes)
        .bind(ownership.trigger)
        .bind(ownership.epoch)
        .fetch_all(connection)
        .await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        let headers: sqlx::types::Json<serde_json::Map<String, serde_json::Value>> = row.try_get(4)?;
        events.push(Event {
            id: row.try_get(0)?,
            topic: row.try_get(1)?,
            key: row.try_get(2)?,
            value: row.try_get(3)?,
            headers: headers.0.into_iter().map(|(name, value)| (name, header_bytes(value))).collect(),
            version: row.try_get::<Option<String>, _>(5)?.filter(|version| !version.is_empty()),
        });
    }
    // RETURNING promises no order.
    events.sort_by_key(|e| e.id);
    Ok(events)
}

fn header_bytes(value: serde_json::Value) -> Vec<u8> {
    match value {
        serde_json::Value::String(text) => text.into_bytes(),
        other => other.to_string().into_bytes(),
    }
}

/// Raises or lowers the flag that makes inserts notify.
///
/// # Errors
/// The database did not answer.
pub async fn set_sleeping(pool: &OwnerPool, schema: &str, sleeping: bool) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO fnhost.relay_sleep AS s (schema_name, sleeping) VALUES ($1::text::name, $2)
         ON CONFLICT (schema_name) DO UPDATE SET sleeping = EXCLUDED.sleeping WHERE s.sleeping <> EXCLUDED.sleeping",
    )
    .bind(schema)
    .bind(sleeping)
    .execute(pool.pool())
    .await?;
    Ok(())
}

/// A stream whose messages nobody sends.
pub struct Orphan {
    /// Row of `fnhost.trigger`.
    pub trigger: i64,
    /// Trigger id.
    pub id: String,
    /// Partition that numbers the stream.
    pub tp: TopicPartition,
}

/// Partitions of triggers other than `known` whose oldest outbox row is older than `after`.
///
/// # Errors
/// The database did not answer.
pub async fn orphaned(
    pool: &OwnerPool,
    deployment: &str,
    known: &[i64],
    after: Duration,
) -> Result<Vec<Orphan>, Error> {
    let rows: Vec<(i64, String, String, i32)> = sqlx::query_as(
        "SELECT DISTINCT o.trigger, t.id, o.topic, o.partition
           FROM fnhost.outbox o JOIN fnhost.trigger t USING (trigger)
          WHERE t.deployment = $1 AND o.trigger <> ALL ($2)
            AND o.created_at < clock_timestamp() - $3 * interval '1 millisecond'",
    )
    .bind(deployment)
    .bind(known)
    .bind(after.as_millis() as i64)
    .fetch_all(pool.pool())
    .await?;
    Ok(rows
        .into_iter()
        .map(|(trigger, id, topic, partition)| Orphan {
            trigger,
            id,
            tp: TopicPartition { topic, partition },
        })
        .collect())
}
