//! Putting dead letters back.

use super::{DeadFilter, matching};
use crate::ownership::PARKED_MAX;
use crate::session::Bounded;
use crate::{Error, OwnerPool};
use fnhost_types::outbox::{self, HeaderRef, Outgoing};
use fnhost_types::record::TopicPartition;
use serde::Serialize;
use sqlx::Row as _;

/// Dead letters that one transaction puts back at most.
const CHUNK_MAX: usize = 500;

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
    // Where nothing comes back, the owner has nothing to read anew.
    if records > 0 || !messages.is_empty() {
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
    }
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
