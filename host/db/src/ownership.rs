//! Who owns a partition: take-over, what an owner loads, and the judgement of a COMMIT without an answer.
//!
//! These statements run as the host's own role, outside of any function's session.

use super::parked::{self, Parked};
use super::session::Bounded;
use super::{Error, OwnerPool};
use fnhost_types::guard;
use fnhost_types::record::TopicPartition;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use sqlx::Row as _;
use std::collections::HashMap;
use std::time::Duration;
use uuid::Uuid;

/// How long a take-over waits for a lock before it terminates the sessions that hold it.
const TAKE_OVER_LOCK_TIMEOUT: Duration = Duration::from_millis(200);
/// How often a take-over terminates blockers before it reports failure.
const TAKE_OVER_TRIES_MAX: u32 = 25;
/// Records parked on one partition that an owner loads. While as many are parked, the partition fetches no new records.
pub const PARKED_MAX: usize = 10_000;

/// The row of a partition as its owner knows it. Every field is part of what `fnhost.store` checks.
#[derive(Clone, Debug)]
pub struct Ownership {
    /// Row of `fnhost.trigger`.
    pub trigger: i64,
    /// Topic and partition.
    pub tp: TopicPartition,
    /// Secret of this take-over.
    pub token: Uuid,
    /// Number of this take-over.
    pub epoch: i64,
    /// Raised by changes from outside.
    pub version: i64,
    /// Stores so far.
    pub stores: i64,
    /// Next offset to process.
    pub position: i64,
    /// Messages numbered so far.
    pub emitted: i64,
    /// The database's incarnation that they are numbered in; no part of what is checked.
    pub incarnation: String,
    /// The id of the topic that the position belongs to, where the brokers have ids; no part of what is checked.
    pub topic_id: Option<Uuid>,
}

/// What an owner continues from.
pub struct Loaded {
    /// The partition's row, as the take-over left it.
    pub ownership: Ownership,
    /// Highest number accepted from each stream.
    pub watermarks: HashMap<String, i64>,
    /// Parked records, those of a key in the order in which they are handled.
    pub parked: Vec<Parked>,
    /// The previous owner, another process, did not release the partition.
    pub unclean: bool,
    /// The record that was announced and never finished, and how often that happened.
    pub announced: Option<(i64, i32)>,
    /// Why nothing is handled until somebody resumes; none where it is not paused.
    pub paused: Option<String>,
}

/// What became of a COMMIT that got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The COMMIT happened.
    Committed,
    /// The COMMIT did not happen, or not yet.
    NotCommitted,
    /// Another owner has the partition: nothing may be concluded, and nothing must be sent.
    Fenced,
}

/// Raises the epoch of a partition and makes `owner` its owner. Sessions that hold the row are given
/// [`TAKE_OVER_LOCK_TIMEOUT`], then terminated: they are a fenced owner's. `topic_id` is noted where none was known.
///
/// The caller has proved its membership before, and calls [`load`] only after this returned: a read in the same
/// statement would miss what the old owner was just committing.
///
/// # Errors
/// The database did not answer, or the row stayed locked.
pub async fn raise_epoch(
    pool: &OwnerPool,
    trigger: i64,
    tp: &TopicPartition,
    owner: Uuid,
    topic_id: Option<Uuid>,
) -> Result<TakenOver, Error> {
    unlocking(pool, trigger, tp, || try_raise_epoch(pool, trigger, tp, owner, topic_id).boxed()).await
}

/// Runs `take`, whose wait for the row of a partition is limited by [`limit_lock_wait`], until it gets the row; in between the
/// sessions that hold the row are terminated.
pub(super) async fn unlocking<'t, T>(
    pool: &OwnerPool,
    trigger: i64,
    tp: &TopicPartition,
    take: impl Fn() -> BoxFuture<'t, Result<T, Error>>,
) -> Result<T, Error> {
    for _ in 0..TAKE_OVER_TRIES_MAX {
        match take().await {
            Err(Error::Sql(error)) if sqlstate(&error).as_deref() == Some("55P03") => {
                terminate_blockers(pool, trigger, tp).await?;
            }
            other => return other,
        }
    }
    Err(Error::Locked { partition: tp.to_string() })
}

/// Lets the statements of this transaction wait for a lock for [`TAKE_OVER_LOCK_TIMEOUT`] at most.
pub(super) async fn limit_lock_wait(connection: &mut Bounded) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT set_config('lock_timeout', $1, true)")
        .bind(format!("{}ms", TAKE_OVER_LOCK_TIMEOUT.as_millis()))
        .execute(connection)
        .await?;
    Ok(())
}

/// The answer of [`raise_epoch`].
pub struct TakenOver {
    token: Uuid,
    epoch: i64,
    unclean: bool,
}

async fn try_raise_epoch(
    pool: &OwnerPool,
    trigger: i64,
    tp: &TopicPartition,
    owner: Uuid,
    topic_id: Option<Uuid>,
) -> Result<TakenOver, Error> {
    let mut tx = pool.begin().await?;
    limit_lock_wait(&mut tx).await?;
    let row = sqlx::query(
        "WITH before AS MATERIALIZED (
             SELECT COALESCE(p.owner <> $4, false) AS unclean FROM fnhost.partition p
              WHERE trigger = $1 AND topic = $2 AND partition = $3 FOR UPDATE)
         UPDATE fnhost.partition p
            SET epoch = p.epoch + 1, owner = $4, token = gen_random_uuid(),
                topic_id = COALESCE(p.topic_id, $5), incarnation = fnhost.present_incarnation()
           FROM before
          WHERE p.trigger = $1 AND p.topic = $2 AND p.partition = $3
         RETURNING p.token, p.epoch, before.unclean",
    )
    .bind(trigger)
    .bind(&tp.topic)
    .bind(tp.partition)
    .bind(owner)
    .bind(topic_id)
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(TakenOver { token: row.try_get(0)?, epoch: row.try_get(1)?, unclean: row.try_get(2)? })
}

/// Terminates the sessions that block a take-over of this row. Advisory views of locks are enough here: the epoch and the
/// token are what protects the data, this only shortens the wait.
async fn terminate_blockers(pool: &OwnerPool, trigger: i64, tp: &TopicPartition) -> Result<(), Error> {
    let mut probe = pool.acquire().await?;
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *probe).await?;
    let wait = sqlx::query(
        "SELECT FROM fnhost.partition WHERE trigger = $1 AND topic = $2 AND partition = $3 FOR UPDATE",
    )
    .bind(trigger)
    .bind(&tp.topic)
    .bind(tp.partition);
    let look = async {
        loop {
            let ended: Vec<i32> = sqlx::query_scalar(
                "SELECT b FROM unnest(pg_blocking_pids($1)) b WHERE pg_terminate_backend(b)",
            )
            .bind(pid)
            .fetch_all(pool.pool())
            .await?;
            if !ended.is_empty() {
                tracing::warn!(topic = tp.topic, partition = tp.partition, sessions = ?ended, "terminated sessions of a previous owner that held the partition");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        #[expect(unreachable_code, reason = "gives the block its type")]
        Ok::<(), Error>(())
    };
    tokio::select! {
        locked = wait.execute(&mut *probe) => locked.map(drop).map_err(Error::from),
        failed = look => failed,
        () = tokio::time::sleep(Duration::from_secs(2)) => {
            // The lock request is abandoned with its session, or it would be the next blocker.
            Ok(())
        }
    }
}

/// Reads what the new owner continues from, in statements that began after the epoch was raised.
///
/// # Errors
/// The database did not answer; parked headers cannot be read.
pub async fn load(
    pool: &OwnerPool,
    trigger: i64,
    tp: &TopicPartition,
    taken: &TakenOver,
) -> Result<Loaded, Error> {
    let row = sqlx::query(
        "SELECT epoch, version, stores, position, emitted, announced, announcements, COALESCE(p.incarnation, ''), topic_id,
                COALESCE(p.paused, t.paused)
           FROM fnhost.partition p JOIN fnhost.trigger t USING (trigger)
          WHERE p.trigger = $1 AND p.topic = $2 AND p.partition = $3",
    )
    .bind(trigger)
    .bind(&tp.topic)
    .bind(tp.partition)
    .fetch_one(pool.pool())
    .await?;
    if row.try_get::<i64, _>(0)? != taken.epoch {
        return Err(Error::Fenced { partition: tp.to_string() });
    }
    let ownership = Ownership {
        trigger,
        tp: tp.clone(),
        token: taken.token,
        epoch: taken.epoch,
        version: row.try_get(1)?,
        stores: row.try_get(2)?,
        position: row.try_get(3)?,
        emitted: row.try_get(4)?,
        incarnation: row.try_get(7)?,
        topic_id: row.try_get(8)?,
    };
    let announced: Option<i64> = row.try_get(5)?;
    let announcements: i32 = row.try_get(6)?;
    let mut connection = pool.acquire().await?;
    let watermarks = load_watermarks(&mut connection, trigger, tp).await?;
    drop(connection);
    Ok(Loaded {
        watermarks,
        parked: parked::load(pool, trigger, tp).await?,
        unclean: taken.unclean,
        announced: announced.map(|offset| (offset, announcements)),
        paused: row.try_get(9)?,
        ownership,
    })
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

/// Looks at the row from a new connection after a COMMIT of `before` got no answer.
///
/// A COMMIT may still be under way when this says [`Judgement::NotCommitted`]; running the batch again is safe all the
/// same, because its store waits for that row and then finds it changed.
///
/// # Errors
/// The database did not answer.
pub async fn judge_commit(pool: &OwnerPool, before: &Ownership) -> Result<Judgement, Error> {
    let (epoch, stores): (i64, i64) = sqlx::query_as(
        "SELECT epoch, stores FROM fnhost.partition WHERE trigger = $1 AND topic = $2 AND partition = $3",
    )
    .bind(before.trigger)
    .bind(&before.tp.topic)
    .bind(before.tp.partition)
    .fetch_one(pool.pool())
    .await?;
    if !guard::on("judge") || (!guard::on("epoch") && stores > before.stores) {
        return Ok(Judgement::Committed);
    }
    Ok(if epoch != before.epoch {
        Judgement::Fenced
    } else if stores == before.stores + 1 {
        Judgement::Committed
    } else if stores == before.stores {
        Judgement::NotCommitted
    } else {
        Judgement::Fenced
    })
}

/// Writes down that the record at `offset` is about to be handed to the function, so that one that kills the host is found.
/// Answers how often this record was announced in a row; `again` where the former announcement of it does not count, because what
/// ended badly was nobody's fault.
///
/// # Errors
/// The database did not answer, or the partition has another owner.
pub async fn announce(
    pool: &OwnerPool,
    ownership: &Ownership,
    offset: i64,
    again: bool,
) -> Result<i32, Error> {
    sqlx::query_scalar(
        "UPDATE fnhost.partition
            SET announcements = CASE WHEN announced = $5 THEN announcements + CASE WHEN $6 THEN 0 ELSE 1 END ELSE 1 END,
                announced = $5
          WHERE trigger = $1 AND topic = $2 AND partition = $3 AND epoch = $4 RETURNING announcements",
    )
    .bind(ownership.trigger)
    .bind(&ownership.tp.topic)
    .bind(ownership.tp.partition)
    .bind(ownership.epoch)
    .bind(offset)
    .bind(again)
    .fetch_optional(pool.pool())
    .await?
    .ok_or_else(|| Error::Fenced { partition: ownership.tp.to_string() })
}

/// Drops the outbox rows up to `seq`, which Kafka has acknowledged, while nothing is dispatched on the partition.
///
/// # Errors
/// The database did not answer, or the partition has another owner.
pub async fn clear(pool: &OwnerPool, ownership: &Ownership, seq: i64) -> Result<(), Error> {
    let mut tx = pool.begin().await?;
    lock_owned(&mut tx, ownership).await?;
    sqlx::query(
        "DELETE FROM fnhost.outbox WHERE trigger = $1 AND topic = $2 AND partition = $3 AND last_seq <= $4",
    )
    .bind(ownership.trigger)
    .bind(&ownership.tp.topic)
    .bind(ownership.tp.partition)
    .bind(seq)
    .execute(&mut *tx)
    .await?;
    Ok(tx.commit().await?)
}

/// Locks the row of a partition until the end of the transaction, so that nobody takes it over in between.
///
/// # Errors
/// The database did not answer, or the partition has another owner.
pub(super) async fn lock_owned(connection: &mut Bounded, ownership: &Ownership) -> Result<(), Error> {
    let owned = sqlx::query(
        "SELECT FROM fnhost.partition
          WHERE trigger = $1 AND topic = $2 AND partition = $3 AND epoch = $4 FOR UPDATE",
    )
    .bind(ownership.trigger)
    .bind(&ownership.tp.topic)
    .bind(ownership.tp.partition)
    .bind(ownership.epoch)
    .fetch_optional(connection)
    .await?;
    owned.map(drop).ok_or_else(|| Error::Fenced { partition: ownership.tp.to_string() })
}

/// Gives a partition up cleanly. Does nothing where somebody else owns it already.
///
/// # Errors
/// The database did not answer.
pub async fn release(pool: &OwnerPool, ownership: &Ownership) -> Result<(), Error> {
    sqlx::query(
        "UPDATE fnhost.partition SET owner = NULL, token = NULL, lease_until = NULL
          WHERE trigger = $1 AND topic = $2 AND partition = $3 AND epoch = $4",
    )
    .bind(ownership.trigger)
    .bind(&ownership.tp.topic)
    .bind(ownership.tp.partition)
    .bind(ownership.epoch)
    .execute(pool.pool())
    .await?;
    Ok(())
}

/// SQLSTATE of a database error.
pub fn sqlstate(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|e| e.code()).map(|c| c.to_string())
}
