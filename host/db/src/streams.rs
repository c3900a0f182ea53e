//! The streams that meet in a partition: what was accepted of those it consumes, and what is unsent of its own.

use super::session::Bounded;
use super::{Error, OwnerPool};
use fnhost_types::outbox::Unsent;
use fnhost_types::record::TopicPartition;
use std::collections::HashMap;

/// The watermarks, and the outbox rows that Kafka may not have.
///
/// # Errors
/// The database did not answer.
pub async fn load(
    pool: &OwnerPool,
    trigger: i64,
    tp: &TopicPartition,
) -> Result<(HashMap<String, i64>, Vec<Unsent>), Error> {
    let mut connection = pool.acquire().await?;
    let watermarks = load_watermarks(&mut connection, trigger, tp).await?;
    drop(connection);
    Ok((watermarks, load_unsent(pool, trigger, tp).await?))
}

/// The highest number accepted from each stream.
pub(super) async fn load_watermarks(
    connection: &mut Bounded,
    trigger: i64,
    tp: &TopicPartition,
) -> Result<HashMap<String, i64>, Error> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT stream, seq FROM fnhost.watermark WHERE trigger = $1 AND topic = $2 AND partition = $3",
    )
    .bind(trigger)
    .bind(&tp.topic)
    .bind(tp.partition)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().collect())
}

pub(super) async fn load_unsent(
    pool: &OwnerPool,
    trigger: i64,
    tp: &TopicPartition,
) -> Result<Vec<Unsent>, Error> {
    let rows: Vec<(i64, Vec<u8>, Option<String>)> = sqlx::query_as(
        "SELECT first_seq, messages, incarnation FROM fnhost.outbox
          WHERE trigger = $1 AND topic = $2 AND partition = $3 ORDER BY first_seq",
    )
    .bind(trigger)
    .bind(&tp.topic)
    .bind(tp.partition)
    .fetch_all(pool.pool())
    .await?;
    let unsent = |(first_seq, messages, incarnation)| Unsent { first_seq, messages, incarnation };
    Ok(rows.into_iter().map(unsent).collect())
}
