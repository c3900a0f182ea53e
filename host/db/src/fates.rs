//! What the database knows of single records: for `fnhost explain`.

use super::session::Bounded;
use super::streams::load_watermarks;
use super::{Error, OwnerPool, ident};
use fnhost_types::record::{StreamSource, TopicPartition};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use std::collections::{BTreeMap, HashMap};

/// Outbox rows of a deployment that are looked through at most, oldest first.
const OUTBOX_ROWS_MAX: i64 = 1_000;
/// Events of one function that wait for its relay and are shown at most.
const EVENTS_MAX: i64 = 100;

/// A record that waits for another attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct ParkedAt {
    /// Attempts made; 0 where it only waits behind an earlier record of its key.
    pub attempts: i32,
    /// What the last attempt said.
    pub reason: String,
    /// When the next attempt is due; RFC 3339.
    pub next_attempt_at: String,
    /// Offset of the first parked record of its key before it.
    pub behind: Option<i64>,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadAt {
    /// Row of `fnhost.dead`.
    pub letter: i64,
    /// Attempts made.
    pub attempts: i32,
    /// Why the last attempt failed.
    pub reason: String,
    /// When; RFC 3339.
    pub died_at: String,
}

/// A trigger on one partition, and what it made of the offsets that were asked for.
#[derive(Clone, Debug, Default)]
pub struct TriggerAt {
    /// The next offset to process.
    pub position: i64,
    /// The highest number accepted of each stream.
    pub watermarks: HashMap<String, i64>,
    /// Parked records by offset.
    pub parked: BTreeMap<i64, ParkedAt>,
    /// Dead letters by offset, the last one of each.
    pub dead: BTreeMap<i64, DeadAt>,
}

/// How the deployment's Kafka triggers stand on a partition, by id, with what they made of `offsets`.
///
/// # Errors
/// The database did not answer.
pub async fn triggers_at(
    pool: &OwnerPool,
    deployment: &str,
    tp: &TopicPartition,
    offsets: &[i64],
) -> Result<BTreeMap<String, TriggerAt>, Error> {
    // One snapshot: a record must not slip from one state into another between two statements.
    let mut tx = pool.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").execute(&mut *tx).await?;
    let positions: Vec<(i64, String, i64)> = sqlx::query_as(
        "SELECT t.trigger, t.id, p.position FROM fnhost.partition p JOIN fnhost.trigger t USING (trigger)
          WHERE t.deployment = $1 AND t.kind = 'kafka' AND p.topic = $2 AND p.partition = $3",
    )
    .bind(deployment)
    .bind(&tp.topic)
    .bind(tp.partition)
    .fetch_all(&mut *tx)
    .await?;
    let mut triggers = BTreeMap::new();
    for (row, id, position) in positions {
        let mut at = TriggerAt { position, ..TriggerAt::default() };
        at.watermarks = load_watermarks(&mut tx, row, tp).await?;
        at.parked = parked_at(&mut tx, row, tp, offsets).await?;
        at.dead = dead_at(&mut tx, row, tp, offsets).await?;
        triggers.insert(id, at);
    }
    tx.commit().await?;
    Ok(triggers)
}

async fn parked_at(
    connection: &mut Bounded,
    trigger: i64,
    tp: &TopicPartition,
    offsets: &[i64],
) -> Result<BTreeMap<i64, ParkedAt>, Error> {
    let sql = "
        SELECT k.\"offset\", k.attempts, k.reason,
               to_char(k.next_attempt_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
               (SELECT min(h.\"offset\") FROM fnhost.parked h
                 WHERE h.trigger = k.trigger AND h.topic = k.topic AND h.partition = k.partition
                   AND h.key = k.key AND h.\"offset\" < k.\"offset\")
          FROM fnhost.parked k
         WHERE k.trigger = $1 AND k.topic = $2 AND k.partition = $3 AND k.\"offset\" = ANY ($4)";
    by_offset(connection, sql, (trigger, tp, offsets), |row| {
        Ok(ParkedAt {
            attempts: row.try_get(1)?,
            reason: row.try_get(2)?,
            next_attempt_at: row.try_get(3)?,
            behind: row.try_get(4)?,
        })
    })
    .await
}

async fn dead_at(
    connection: &mut Bounded,
    trigger: i64,
    tp: &TopicPartition,
    offsets: &[i64],
) -> Result<BTreeMap<i64, DeadAt>, Error> {
    // The later one of an offset replaces the earlier.
    let sql = "
        SELECT \"offset\", id, attempts, reason,
               to_char(died_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')
          FROM fnhost.dead
         WHERE trigger = $1 AND topic = $2 AND partition = $3 AND \"offset\" = ANY ($4) ORDER BY id";
    by_offset(connection, sql, (trigger, tp, offsets), |row| {
        Ok(DeadAt {
            letter: row.try_get(1)?,
            attempts: row.try_get(2)?,
            reason: row.try_get(3)?,
            died_at: row.try_get(4)?,
        })
    })
    .await
}

/// Rows of a partition, by the offset that each begins with.
async fn by_offset<T>(
    connection: &mut Bounded,
    sql: &'static str,
    (trigger, tp, offsets): (i64, &TopicPartition, &[i64]),
    read: impl Fn(&PgRow) -> Result<T, sqlx::Error>,
) -> Result<BTreeMap<i64, T>, Error> {
    let query = sqlx::query(sql).bind(trigger).bind(&tp.topic).bind(tp.partition).bind(offsets);
    let rows = query.fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, read(row)?))).collect()
}

/// An outbox row that no store has cleared yet: Kafka may have its messages or not.
pub struct OutboxRow {
    /// The stream that its messages are numbered on.
    pub stream: String,
    /// Number of its first message.
    pub first_seq: i64,
    /// Its messages, encoded.
    pub messages: Vec<u8>,
    /// Time since its commit, milliseconds.
    pub age_ms: i64,
}

/// The outbox rows of a deployment, the oldest ones first.
///
/// # Errors
/// The database did not answer.
pub async fn outbox_rows(pool: &OwnerPool, deployment: &str) -> Result<Vec<OutboxRow>, Error> {
    let rows = sqlx::query(
        "SELECT t.id, o.topic, o.partition, o.incarnation, o.first_seq, o.messages, (extract(epoch FROM clock_timestamp() - o.created_at) * 1000)::bigint
           FROM fnhost.outbox o JOIN fnhost.trigger t USING (trigger)
          WHERE t.deployment = $1 ORDER BY o.created_at LIMIT $2",
    )
    .bind(deployment)
    .bind(OUTBOX_ROWS_MAX)
    .fetch_all(pool.pool())
    .await?;
    rows.iter()
        .map(|row| {
            let tp = TopicPartition::new(row.try_get::<String, _>(1)?, row.try_get(2)?);
            let source =
                StreamSource::new(deployment, row.try_get(0)?, (!tp.topic.is_empty()).then_some(&tp));
            Ok(OutboxRow {
                stream: source.name(row.try_get(3)?),
                first_seq: row.try_get(4)?,
                messages: row.try_get(5)?,
                age_ms: row.try_get(6)?,
            })
        })
        .collect()
}

/// Topics and types (empty where they have none) of the events of a key that a function's HTTP side has inserted and its relay has not
/// taken.
///
/// # Errors
/// The database did not answer, or the table is not there.
pub async fn unrelayed(
    pool: &OwnerPool,
    schema: &str,
    table: &str,
    key: &[u8],
) -> Result<Vec<(String, String)>, Error> {
    let (schema, table) = (ident(schema), ident(table));
    let sql = format!(
        "SELECT topic, COALESCE(headers->>'ce_type', '') FROM {schema}.{table} WHERE key = $1 ORDER BY id LIMIT $2"
    );
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(key).bind(EVENTS_MAX).fetch_all(pool.pool()).await?)
}
