//! What is kept, and for how long: nothing in the host's schema grows without end.
//!
//! Outbox rows go with Kafka's acknowledgement and parked records with their last attempt; what is removed here has no such moment.

use super::session::Bounded;
use super::{Error, OwnerPool};
use std::time::Duration;

/// Versions of a component that are kept beside those that run.
pub const VERSIONS_KEPT: i64 = 20;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Rows that one statement removes at most, so that none holds locks for long.
const ROWS_MAX: i64 = 5_000;

/// What is kept of a deployment.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// Age of a dead letter after which it is removed.
    pub dead: Duration,
    /// Dead letters, the newest of which are kept.
    pub dead_max: i64,
    /// Time without a higher number after which a watermark is removed. A record of that stream which arrives even later is taken
    /// for a new one, so this is longer than a topic keeps records that anybody may still consume.
    pub watermark: Duration,
    /// Time after which a host that is gone is forgotten.
    pub host: Duration,
    /// Age of an entry of the audit after which it is removed.
    pub audit: Duration,
    /// Entries of the audit, the newest of which are kept.
    pub audit_max: i64,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            dead: DAY * 90,
            dead_max: 100_000,
            watermark: DAY * 400,
            host: DAY,
            audit: DAY * 400,
            audit_max: 100_000,
        }
    }
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Dead letters.
    pub dead: u64,
    /// Watermarks of streams that have ended.
    pub watermarks: u64,
    /// Hosts that are gone.
    pub hosts: u64,
    /// Entries of the audit.
    pub audit: u64,
}

/// Notes how long the dead letters of a trigger are kept.
///
/// # Errors
/// The database did not answer.
pub async fn keep_dead(pool: &OwnerPool, trigger: i64, days: u32) -> Result<(), Error> {
    sqlx::query("UPDATE fnhost.trigger SET dead_kept_days = $2 WHERE trigger = $1 AND dead_kept_days IS DISTINCT FROM $2")
        .bind(trigger)
        .bind(i32::try_from(days).unwrap_or(i32::MAX))
        .execute(pool.pool())
        .await?;
    Ok(())
}

/// Whether the upkeep of a deployment is due; where it is, it is due again after `interval`, and the caller does it now.
///
/// # Errors
/// The database did not answer.
pub async fn is_due(pool: &OwnerPool, deployment: &str, interval: Duration) -> Result<bool, Error> {
    let claimed = sqlx::query(
        "INSERT INTO fnhost.upkeep AS u (deployment, next_at)
         VALUES ($1, clock_timestamp() + $2 * interval '1 millisecond')
         ON CONFLICT (deployment) DO UPDATE SET next_at = EXCLUDED.next_at WHERE u.next_at <= clock_timestamp()",
    )
    .bind(deployment)
    .bind(millis(interval))
    .execute(pool.pool())
    .await?;
    Ok(claimed.rows_affected() == 1)
}

/// Removes what is not kept any more.
///
/// # Errors
/// The database did not answer; what was removed until then stays removed.
pub async fn remove(pool: &OwnerPool, deployment: &str, kept: &Kept) -> Result<Removed, Error> {
    note_watermarks(pool, deployment).await?;
    let removed = Removed {
        dead: remove_dead(pool, deployment, kept).await?,
        watermarks: remove_watermarks(pool, deployment, kept.watermark).await?,
        hosts: remove_hosts(pool, deployment, kept.host).await?,
        audit: remove_audit(pool, deployment, kept).await?,
    };
    prune_versions(pool, deployment).await?;
    Ok(removed)
}

async fn remove_dead(pool: &OwnerPool, deployment: &str, kept: &Kept) -> Result<u64, Error> {
    let mut removed = 0;
    loop {
        let rows = sqlx::query(
            "DELETE FROM fnhost.dead WHERE id IN (
                 SELECT id FROM (
                     SELECT d.id, d.died_at, t.dead_kept_days, row_number() OVER (ORDER BY d.id DESC) AS newer
                       FROM fnhost.dead d JOIN fnhost.trigger t USING (trigger) WHERE t.deployment = $1) AS ranked
                  WHERE newer > $2
                     OR died_at < clock_timestamp() - COALESCE(dead_kept_days * interval '1 day', $3 * interval '1 millisecond')
                  ORDER BY id LIMIT $4)",
        )
        .bind(deployment)
        .bind(kept.dead_max)
        .bind(millis(kept.dead))
        .bind(ROWS_MAX)
        .execute(pool.pool())
        .await?
        .rows_affected();
        removed += rows;
        if rows < ROWS_MAX.unsigned_abs() {
            return Ok(removed);
        }
    }
}

/// Notes which watermarks have risen since the last time. Those that a store is just raising are noted the next time.
async fn note_watermarks(pool: &OwnerPool, deployment: &str) -> Result<(), Error> {
    loop {
        let noted = sqlx::query(
            "UPDATE fnhost.watermark w SET noted_seq = w.seq, noted_at = clock_timestamp()
               FROM (SELECT trigger, topic, partition, stream
                       FROM fnhost.watermark JOIN fnhost.trigger t USING (trigger)
                      WHERE t.deployment = $1 AND noted_seq IS DISTINCT FROM seq
                      LIMIT $2 FOR UPDATE OF watermark SKIP LOCKED) AS risen
              WHERE (w.trigger, w.topic, w.partition, w.stream)
                  = (risen.trigger, risen.topic, risen.partition, risen.stream)",
        )
        .bind(deployment)
        .bind(ROWS_MAX)
        .execute(pool.pool())
        .await?;
        if noted.rows_affected() < ROWS_MAX.unsigned_abs() {
            return Ok(());
        }
    }
}

async fn remove_watermarks(pool: &OwnerPool, deployment: &str, after: Duration) -> Result<u64, Error> {
    let removed = sqlx::query(
        "DELETE FROM fnhost.watermark w USING fnhost.trigger t
          WHERE t.deployment = $1 AND w.trigger = t.trigger AND w.noted_seq = w.seq
            AND w.noted_at < clock_timestamp() - $2 * interval '1 millisecond'",
    )
    .bind(deployment)
    .bind(millis(after))
    .execute(pool.pool())
    .await?;
    Ok(removed.rows_affected())
}

async fn remove_hosts(pool: &OwnerPool, deployment: &str, after: Duration) -> Result<u64, Error> {
    let removed = sqlx::query(
        "DELETE FROM fnhost.host
          WHERE deployment = $1 AND lease_until < clock_timestamp() - $2 * interval '1 millisecond'",
    )
    .bind(deployment)
    .bind(millis(after))
    .execute(pool.pool())
    .await?;
    Ok(removed.rows_affected())
}

async fn remove_audit(pool: &OwnerPool, deployment: &str, kept: &Kept) -> Result<u64, Error> {
    let mut removed = 0;
    loop {
        let rows = sqlx::query(
            "DELETE FROM fnhost.audit WHERE id IN (
                 SELECT id FROM (SELECT id, asked_at, row_number() OVER (ORDER BY id DESC) AS newer
                                   FROM fnhost.audit WHERE deployment = $1) AS ranked
                  WHERE newer > $2 OR asked_at < clock_timestamp() - $3 * interval '1 millisecond'
                  ORDER BY id LIMIT $4)",
        )
        .bind(deployment)
        .bind(kept.audit_max)
        .bind(millis(kept.audit))
        .bind(ROWS_MAX)
        .execute(pool.pool())
        .await?
        .rows_affected();
        removed += rows;
        if rows < ROWS_MAX.unsigned_abs() {
            return Ok(removed);
        }
    }
}

async fn prune_versions(pool: &OwnerPool, deployment: &str) -> Result<(), Error> {
    let components: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT component FROM fnhost.version WHERE deployment = $1")
            .bind(deployment)
            .fetch_all(pool.pool())
            .await?;
    for component in components {
        let mut tx = pool.begin().await?;
        prune(&mut tx, deployment, &component).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Forgets versions of a component that are neither recent nor run, and that parked records were not charged by; and code that no
/// version has.
pub(super) async fn prune(
    connection: &mut Bounded,
    deployment: &str,
    component: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM fnhost.version v
          WHERE v.deployment = $1 AND v.component = $2
            AND NOT EXISTS (SELECT FROM fnhost.running r WHERE v.version IN (r.current, r.fallback, r.candidate))
            AND NOT EXISTS (SELECT FROM fnhost.parked k WHERE v.version = ANY (k.charged_by))
            AND v.version < (SELECT min(version) FROM (SELECT version FROM fnhost.version
                              WHERE deployment = $1 AND component = $2 ORDER BY version DESC LIMIT $3) AS recent)",
    )
    .bind(deployment)
    .bind(component)
    .bind(VERSIONS_KEPT)
    .execute(&mut *connection)
    .await?;
    // Fresh code may belong to a version of another deployment that is just being made.
    sqlx::query(
        "DELETE FROM fnhost.code c WHERE c.stored_at < clock_timestamp() - interval '1 hour'
            AND NOT EXISTS (SELECT FROM fnhost.version v WHERE v.digest = c.digest)",
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
