//! Dead letters, for people: which there are, putting them back, and giving them up.

use super::ownership::PARKED_MAX;
use super::session::Bounded;
use super::views::{RecordView, record_view};
use super::{Error, OwnerPool};
use fnhost_types::outbox::{self, HeaderRef, Outgoing};
use fnhost_types::record::TopicPartition;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::postgres::{PgArguments, Postgres};

/// Dead letters that one transaction puts back or removes at most.
const CHUNK_MAX: usize = 500;
/// Characters of the id of a group of dead letters.
const GROUP_CHARS: i32 = 8;

/// Which dead letters are meant: those for which everything that is given here holds.
#[derive(Clone, Debug, Default, Deserialize)]
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

/// What [`redrive`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Redriven {
    /// Records that wait before their trigger now.
    pub records: u64,
    /// Messages that are in the outbox again.
    pub messages: u64,
    /// Left: the record waits already, is still to be read from the log, or another dead letter of it was put back.
    pub waits_already: u64,
    /// Left: as many records are parked on their partition as may be; redrive again later.
    pub no_room: u64,
    /// Left: ticks of schedules and events of relays, which have no place to be put back to.
    pub not_records: u64,
}

/// Puts the dead letters that match back before their own triggers, exactly once: in one transaction for each part of a partition they
/// stop being dead and wait, behind what waits of their keys, with no attempt made. Nobody else gets them. A message that Kafka
/// refused gets the next number of its stream and is sent.
///
/// # Errors
/// The database did not answer, or a dead letter cannot be read; what was put back until then stays so.
pub async fn redrive(pool: &OwnerPool, deployment: &str, filter: &DeadFilter) -> Result<Redriven, Error> {
    // In the order of the log.
    let sql = matching!(
        "SELECT d.trigger, d.topic, d.partition, d.id, t.kind, d.target_topic IS NOT NULL",
        "ORDER BY d.trigger, d.topic, d.partition, d.\"offset\", d.id"
    );
    let rows = matching(sql, deployment, filter).fetch_all(pool.pool()).await?;
    let mut redriven = Redriven::default();
    let mut parts: Vec<(i64, TopicPartition, Vec<i64>)> = Vec::new();
    for row in rows {
        let (kind, message): (String, bool) = (row.try_get(4)?, row.try_get(5)?);
        if kind != "kafka" && !message {
            redriven.not_records += 1;
            continue;
        }
        let tp = TopicPartition::new(row.try_get::<String, _>(1)?, row.try_get(2)?);
        let (trigger, id) = (row.try_get(0)?, row.try_get(3)?);
        match parts.last_mut() {
            Some((t, p, ids)) if *t == trigger && *p == tp && ids.len() < CHUNK_MAX => ids.push(id),
            _ => parts.push((trigger, tp, vec![id])),
        }
    }
    for (trigger, tp, ids) in parts {
        let part = redrive_part(pool, trigger, &tp, &ids).await?;
        redriven.records += part.records;
        redriven.messages += part.messages;
        redriven.waits_already += part.waits_already;
        redriven.no_room += part.no_room;
    }
    Ok(redriven)
}

async fn redrive_part(
    pool: &OwnerPool,
    trigger: i64,
    tp: &TopicPartition,
    ids: &[i64],
) -> Result<Redriven, Error> {
    let mut tx = pool.begin().await?;
    // The row's lock keeps its owner from storing meanwhile; its version then has it read what waits anew.
    let (parked, emitted, incarnation, position): (i64, i64, Option<String>, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM fnhost.parked k
                  WHERE (k.trigger, k.topic, k.partition) = (p.trigger, p.topic, p.partition)),
                p.emitted, p.incarnation, p.position
           FROM fnhost.partition p WHERE p.trigger = $1 AND p.topic = $2 AND p.partition = $3 FOR UPDATE",
    )
    .bind(trigger)
    .bind(&tp.topic)
    .bind(tp.partition)
    .fetch_one(&mut *tx)
    .await?;
    let room = (PARKED_MAX as i64 - parked).max(0);
    let (records, fitting): (i64, i64) = sqlx::query_as(
        "WITH chosen AS (
             SELECT DISTINCT ON (\"offset\") id, \"offset\" FROM fnhost.dead
              WHERE id = ANY ($4) AND target_topic IS NULL AND \"offset\" < $6
                AND NOT EXISTS (SELECT FROM fnhost.parked k
                                 WHERE (k.trigger, k.topic, k.partition, k.\"offset\") = ($1, $2, $3, dead.\"offset\"))
              ORDER BY \"offset\", id DESC),
         taken AS (
             DELETE FROM fnhost.dead
              WHERE id IN (SELECT id FROM chosen ORDER BY \"offset\" LIMIT $5) RETURNING *),
         put AS (
             INSERT INTO fnhost.parked (trigger, topic, partition, \"offset\", key, value, headers, timestamp_ms, attempts,
                                        next_attempt_at, reason, silent)
             SELECT trigger, topic, partition, \"offset\", key, value, headers, timestamp_ms, 0, clock_timestamp(),
                    left('redriven after: ' || reason, 2000), silent
               FROM taken ORDER BY \"offset\" RETURNING 1)
         SELECT (SELECT count(*) FROM put), (SELECT count(*) FROM chosen)",
    )
    .bind(trigger)
    .bind(&tp.topic)
    .bind(tp.partition)
    .bind(ids)
    .bind(room)
    .bind(position)
    .fetch_one(&mut *tx)
    .await?;
    let messages = take_messages(&mut tx, ids).await?;
    let seq = put_messages(&mut tx, (trigger, tp), emitted, incarnation.as_deref(), &messages).await?;
    sqlx::query(
        "UPDATE fnhost.partition SET version = version + 1, emitted = $4
          WHERE trigger = $1 AND topic = $2 AND partition = $3",
    )
    .bind(trigger)
    .bind(&tp.topic)
    .bind(tp.partition)
    .bind(seq)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    let left = ids.len() as i64 - messages.len() as i64 - fitting;
    Ok(Redriven {
        records: records.unsigned_abs(),
        messages: messages.len() as u64,
        waits_already: left.max(0).unsigned_abs(),
        no_room: (fitting - records).unsigned_abs(),
        not_records: 0,
    })
}

/// A message that was given up.
struct Message {
    topic: String,
    partition: i32,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<u8>,
}

/// Takes the messages among these dead letters, in their order.
async fn take_messages(connection: &mut Bounded, ids: &[i64]) -> Result<Vec<Message>, Error> {
    let rows = sqlx::query(
        "WITH taken AS (DELETE FROM fnhost.dead WHERE id = ANY ($1) AND target_topic IS NOT NULL RETURNING *)
         SELECT target_topic, target_partition, key, value, headers FROM taken ORDER BY id",
    )
    .bind(ids)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Message {
                topic: row.try_get(0)?,
                partition: row.try_get(1)?,
                key: row.try_get(2)?,
                value: row.try_get(3)?,
                headers: row.try_get(4)?,
            })
        })
        .collect()
}

/// Puts messages into the outbox, numbered from `emitted` + 1; answers the last number.
async fn put_messages(
    connection: &mut Bounded,
    (trigger, tp): (i64, &TopicPartition),
    emitted: i64,
    incarnation: Option<&str>,
    messages: &[Message],
) -> Result<i64, Error> {
    if messages.is_empty() {
        return Ok(emitted);
    }
    let headers: Vec<_> =
        messages.iter().map(|m| outbox::decode_headers(&m.headers)).collect::<Result<_, _>>()?;
    let outgoing: Vec<Outgoing<'_>> = messages
        .iter()
        .zip(&headers)
        .map(|(message, headers)| Outgoing {
            topic: &message.topic,
            partition: message.partition,
            key: message.key.as_deref(),
            value: message.value.as_deref(),
            headers: headers.iter().map(HeaderRef::from).collect(),
        })
        .collect();
    let last = emitted + messages.len() as i64;
    sqlx::query(
        "INSERT INTO fnhost.outbox (trigger, topic, partition, first_seq, last_seq, messages, incarnation)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(trigger)
    .bind(&tp.topic)
    .bind(tp.partition)
    .bind(emitted + 1)
    .bind(last)
    .bind(outbox::encode("", &outgoing))
    .bind(incarnation)
    .execute(connection)
    .await?;
    Ok(last)
}
