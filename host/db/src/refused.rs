//! Streams that cannot go on because Kafka refuses their oldest message: who owns the stream notes it here, people decide.

use super::ownership::{Ownership, lock_owned};
use super::session::Bounded;
use super::{Error, OwnerPool};
use fnhost_types::outbox::{self, HeaderRef, Outgoing};
use fnhost_types::record::{StreamSource, TopicPartition};
use serde::Serialize;

/// A message that Kafka refuses.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    /// Its number on the stream.
    pub seq: i64,
    /// Target topic.
    pub topic: &'a str,
    /// Target partition.
    pub partition: i32,
    /// What Kafka said.
    pub reason: &'a str,
}

/// A stream that waits, for people.
#[derive(Clone, Debug, Serialize)]
pub struct RefusedView {
    /// Name of the stream, without its incarnation.
    pub stream: String,
    /// Trigger id.
    pub trigger: String,
    /// Topic that is consumed; empty for a relay and a schedule.
    pub topic: String,
    /// Partition of it.
    pub partition: i32,
    /// The refused message's number on the stream.
    pub seq: i64,
    /// Where it was to go.
    pub target_topic: String,
    /// Partition of that.
    pub target_partition: i32,
    /// What Kafka said.
    pub reason: String,
    /// Since when; RFC 3339.
    pub since: String,
    /// How often it was tried.
    pub tries: i32,
    /// Outbox rows that wait, this one's included.
    pub rows: i64,
}

/// Notes that Kafka refuses a message of the stream that `ownership` numbers.
///
/// # Errors
/// The database did not answer.
pub async fn note(pool: &OwnerPool, ownership: &Ownership, refused: Refused<'_>) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO fnhost.refused AS r (trigger, topic, partition, seq, target_topic, target_partition, reason)
         SELECT p.trigger, p.topic, p.partition, $5, $6, $7, $8 FROM fnhost.partition p
          WHERE p.trigger = $1 AND p.topic = $2 AND p.partition = $3 AND p.epoch = $4
         ON CONFLICT (trigger, topic, partition) DO UPDATE
            SET seq = EXCLUDED.seq, target_topic = EXCLUDED.target_topic, target_partition = EXCLUDED.target_partition,
                reason = EXCLUDED.reason, given_up = r.given_up AND r.seq = EXCLUDED.seq,
                tries = CASE WHEN r.seq = EXCLUDED.seq THEN r.tries + 1 ELSE 1 END,
                since = CASE WHEN r.seq = EXCLUDED.seq THEN r.since ELSE EXCLUDED.since END",
    )
    .bind(ownership.trigger)
    .bind(&ownership.tp.topic)
    .bind(ownership.tp.partition)
    .bind(ownership.epoch)
    .bind(refused.seq)
    .bind(refused.topic)
    .bind(refused.partition)
    .bind(refused.reason)
    .execute(pool.pool())
    .await?;
    Ok(())
}

/// Whether the stream that `ownership` numbers waits.
///
/// # Errors
/// The database did not answer.
pub async fn waits(pool: &OwnerPool, ownership: &Ownership) -> Result<bool, Error> {
    let waits = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM fnhost.refused WHERE trigger = $1 AND topic = $2 AND partition = $3)",
    );
    Ok(waits
        .bind(ownership.trigger)
        .bind(&ownership.tp.topic)
        .bind(ownership.tp.partition)
        .fetch_one(pool.pool())
        .await?)
}

/// Kafka has taken what it refused before.
///
/// # Errors
/// The database did not answer.
pub async fn forget(pool: &OwnerPool, ownership: &Ownership) -> Result<(), Error> {
    sqlx::query("DELETE FROM fnhost.refused WHERE trigger = $1 AND topic = $2 AND partition = $3")
        .bind(ownership.trigger)
        .bind(&ownership.tp.topic)
        .bind(ownership.tp.partition)
        .execute(pool.pool())
        .await?;
    Ok(())
}

/// The streams of a deployment that wait, the longest first.
///
/// # Errors
/// The database did not answer.
pub async fn list(pool: &OwnerPool, deployment: &str) -> Result<Vec<RefusedView>, Error> {
    type Row = (String, String, i32, i64, String, i32, String, String, i32, i64);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT t.id, r.topic, r.partition, r.seq, r.target_topic, r.target_partition, r.reason,
                to_char(r.since AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), r.tries,
                (SELECT count(*) FROM fnhost.outbox o
                  WHERE o.trigger = r.trigger AND o.topic = r.topic AND o.partition = r.partition)
           FROM fnhost.refused r JOIN fnhost.trigger t USING (trigger) WHERE t.deployment = $1 ORDER BY r.since",
    )
    .bind(deployment)
    .fetch_all(pool.pool())
    .await?;
    let view = |(
        trigger,
        topic,
        partition,
        seq,
        target_topic,
        target_partition,
        reason,
        since,
        tries,
        rows,
    ): Row| {
        let consumed = (!topic.is_empty()).then(|| TopicPartition::new(&topic, partition));
        let stream = StreamSource::new(deployment, &trigger, consumed.as_ref()).to_string();
        RefusedView {
            stream,
            trigger,
            topic,
            partition,
            seq,
            target_topic,
            target_partition,
            reason,
            since,
            tries,
            rows,
        }
    };
    Ok(rows.into_iter().map(view).collect())
}

/// Has the stream of a trigger's partition tried again at once; false where it does not wait.
///
/// # Errors
/// The database did not answer.
pub async fn retry(
    pool: &OwnerPool,
    deployment: &str,
    trigger: &str,
    tp: &TopicPartition,
) -> Result<bool, Error> {
    let changed = sqlx::query(
        "UPDATE fnhost.partition p SET version = p.version + 1
           FROM fnhost.refused r JOIN fnhost.trigger t USING (trigger)
          WHERE t.deployment = $1 AND t.id = $2 AND r.topic = $3 AND r.partition = $4
            AND p.trigger = r.trigger AND p.topic = r.topic AND p.partition = r.partition",
    )
    .bind(deployment)
    .bind(trigger)
    .bind(&tp.topic)
    .bind(tp.partition)
    .execute(pool.pool())
    .await?;
    Ok(changed.rows_affected() == 1)
}

/// Gives the refused message of a stream up: its owner makes a dead letter of it before it tries again, so that it cannot be on its way
/// to Kafka meanwhile; what is behind it is sent then. Its number is left out, which consumers do not mind. Answers the
/// number; none where the stream does not wait.
///
/// # Errors
/// The database did not answer.
pub async fn give_up(
    pool: &OwnerPool,
    deployment: &str,
    trigger: &str,
    tp: &TopicPartition,
) -> Result<Option<i64>, Error> {
    let seq = sqlx::query_scalar(
        "WITH given_up AS (
             UPDATE fnhost.refused r SET given_up = true FROM fnhost.trigger t
              WHERE t.deployment = $1 AND t.id = $2 AND r.trigger = t.trigger AND r.topic = $3 AND r.partition = $4
             RETURNING r.*)
         UPDATE fnhost.partition p SET version = p.version + 1 FROM given_up g
          WHERE (p.trigger, p.topic, p.partition) = (g.trigger, g.topic, g.partition) RETURNING g.seq",
    );
    Ok(seq
        .bind(deployment)
        .bind(trigger)
        .bind(&tp.topic)
        .bind(tp.partition)
        .fetch_optional(pool.pool())
        .await?)
}

/// Makes a dead letter of the message of the stream that `ownership` numbers, if it is refused and was given up. The caller has nothing of
/// the stream on its way to Kafka.
///
/// # Errors
/// The database did not answer, the stream has another owner, or the outbox row cannot be read.
pub async fn bury_given_up(pool: &OwnerPool, ownership: &Ownership) -> Result<(), Error> {
    let (trigger, tp) = (ownership.trigger, &ownership.tp);
    let mut tx = pool.begin().await?;
    lock_owned(&mut tx, ownership).await?;
    let given_up: Option<(i64, String)> = sqlx::query_as(
        "DELETE FROM fnhost.refused WHERE trigger = $1 AND topic = $2 AND partition = $3 AND given_up
         RETURNING seq, reason",
    )
    .bind(trigger)
    .bind(&tp.topic)
    .bind(tp.partition)
    .fetch_optional(&mut *tx)
    .await?;
    let Some((seq, reason)) = given_up else { return Ok(()) };
    bury(&mut tx, trigger, tp, seq, &reason).await?;
    Ok(tx.commit().await?)
}

/// Takes message `seq` out of its outbox row and keeps it as a dead letter; does nothing where no row has it.
async fn bury(
    connection: &mut Bounded,
    trigger: i64,
    tp: &TopicPartition,
    seq: i64,
    reason: &str,
) -> Result<(), Error> {
    let taken: Option<(i64, Vec<u8>, Option<String>)> = sqlx::query_as(
        "DELETE FROM fnhost.outbox WHERE trigger = $1 AND topic = $2 AND partition = $3 AND $4 BETWEEN first_seq AND last_seq
         RETURNING first_seq, messages, incarnation",
    )
    .bind(trigger)
    .bind(&tp.topic)
    .bind(tp.partition)
    .bind(seq)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((first_seq, bytes, incarnation)) = taken else { return Ok(()) };
    let batch = outbox::decode(first_seq, &bytes)?;
    let at = usize::try_from(seq - first_seq).unwrap_or(usize::MAX);
    let (Some(message), Some(before)) = (batch.messages.get(at), batch.messages.get(..at)) else {
        return Ok(());
    };
    for (first, rest) in [(first_seq, before), (seq + 1, &batch.messages[at + 1..])] {
        if rest.is_empty() {
            continue;
        }
        sqlx::query(
            "INSERT INTO fnhost.outbox (trigger, topic, partition, first_seq, last_seq, messages, incarnation)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(trigger)
        .bind(&tp.topic)
        .bind(tp.partition)
        .bind(first)
        .bind(first + rest.len() as i64 - 1)
        .bind(outbox::encode(batch.version, rest))
        .bind(&incarnation)
        .execute(&mut *connection)
        .await?;
    }
    sqlx::query(
        "INSERT INTO fnhost.dead (trigger, topic, partition, \"offset\", key, value, headers, timestamp_ms, attempts, reason,
                                  target_topic, target_partition)
         VALUES ($1, $2, $3, $4, $5, $6, $7, -1, 1, $8, $9, $10)",
    )
    .bind(trigger)
    .bind(&tp.topic)
    .bind(tp.partition)
    .bind(seq)
    .bind(message.key)
    .bind(message.value)
    .bind(encoded_headers(message))
    .bind(format!(
        "message {seq} of the stream, for {}/{}, was refused by Kafka and given up by an operator: {reason}",
        message.topic, message.partition
    ))
    .bind(message.topic)
    .bind(message.partition)
    .execute(connection)
    .await?;
    Ok(())
}

fn encoded_headers(message: &Outgoing<'_>) -> Vec<u8> {
    outbox::encode_headers(&message.headers.iter().map(HeaderRef::to_header).collect::<Vec<_>>())
}
