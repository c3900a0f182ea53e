//! Outbox rows that Kafka may not have, as whoever goes on with their stream reads them: in pages, because what gathered while
//! Kafka was away may be larger than memory.

use super::ownership::{Ownership, load_watermarks};
use super::{Error, OwnerPool};
use fnhost_types::outbox::Unsent;
use fnhost_types::record::TopicPartition;
use std::collections::HashMap;

/// Rows of a page, at most.
pub const PAGE_ROWS_MAX: i64 = 1_000;
/// Bytes of messages after which a page takes no further row.
pub const PAGE_BYTES_MAX: i64 = 8 << 20;

/// Consecutive rows of an outbox.
pub struct Page {
    /// They, oldest first.
    pub rows: Vec<Unsent>,
    /// Number of their last message; what it was read behind where there is none.
    pub last_seq: i64,
    /// There may be rows behind them.
    pub more: bool,
}

/// The oldest rows of the outbox that `ownership` has behind message `after`, up to those that it numbered: at most [`PAGE_ROWS_MAX`], and none behind those that
/// have [`PAGE_BYTES_MAX`] together; one is read in any case.
///
/// # Errors
/// The database did not answer.
pub async fn page(pool: &OwnerPool, ownership: &Ownership, after: i64) -> Result<Page, Error> {
    // The sizes are known without reading the messages themselves.
    let read: Vec<(i64, i64, Vec<u8>, Option<String>)> = sqlx::query_as(
        "SELECT first_seq, last_seq, messages, incarnation FROM (
             SELECT *, sum(octet_length(messages)) OVER (ORDER BY first_seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
               FROM (SELECT first_seq, last_seq, messages, incarnation FROM fnhost.outbox
                      WHERE trigger = $1 AND topic = $2 AND partition = $3 AND first_seq > $4 AND last_seq <= $7
                      ORDER BY first_seq LIMIT $5) oldest) sized
          WHERE before IS NULL OR before < $6 ORDER BY first_seq",
    )
    .bind(ownership.trigger)
    .bind(&ownership.tp.topic)
    .bind(ownership.tp.partition)
    .bind(after)
    .bind(PAGE_ROWS_MAX)
    .bind(PAGE_BYTES_MAX)
    .bind(ownership.emitted)
    .fetch_all(pool.pool())
    .await?;
    let last_seq = read.last().map_or(after, |(_, last_seq, ..)| *last_seq);
    let bytes: usize = read.iter().map(|(.., messages, _)| messages.len()).sum();
    let more = read.len() as i64 >= PAGE_ROWS_MAX || bytes as i64 >= PAGE_BYTES_MAX;
    let unsent = |(first_seq, _, messages, incarnation)| Unsent { first_seq, messages, incarnation };
    Ok(Page { rows: read.into_iter().map(unsent).collect(), last_seq, more })
}

/// What [`super::ownership::load`] reads afresh, read too early: the watermarks, and the messages numbered so far. For a build without that guard.
///
/// # Errors
/// The database did not answer.
pub async fn read_early(
    pool: &OwnerPool,
    trigger: i64,
    tp: &TopicPartition,
) -> Result<(HashMap<String, i64>, i64), Error> {
    let mut connection = pool.acquire().await?;
    let watermarks = load_watermarks(&mut connection, trigger, tp).await?;
    let emitted = sqlx::query_scalar(
        "SELECT emitted FROM fnhost.partition WHERE trigger = $1 AND topic = $2 AND partition = $3",
    );
    let emitted =
        emitted.bind(trigger).bind(&tp.topic).bind(tp.partition).fetch_one(&mut *connection).await?;
    Ok((watermarks, emitted))
}
