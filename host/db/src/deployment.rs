//! The running set's SQL: code, versions, and what runs of each component.
//!
//! Every change of what runs is one transaction that first raises the deployment's revision: its row is the lock that brings
//! changes into one order, and hosts are notified with the commit.

use super::audit::{self, ByItself};
use super::hosts::note_file;
use super::retention;
use super::session::Bounded;
use super::{Error, OwnerPool};
use serde_json::{Value, json};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use std::collections::BTreeMap;
use std::time::Duration;

/// How a version is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// It gets a part of the calls, beside the other version: times can be compared.
    Canary,
    /// It gets all calls, after the other version had them.
    Probation,
}

/// Channel on which changes of running sets are notified; the payload is the deployment.
pub const CHANGE_CHANNEL: &str = "fnhost_running_set";

/// A version as hosts load it.
#[derive(Clone)]
pub struct StoredVersion {
    /// Number of the version within its component, counted from 1.
    pub number: i64,
    /// SHA-256 of its code, hex.
    pub digest: String,
    /// What its variables have in place of the manifest's values.
    pub variables: BTreeMap<String, String>,
    /// Where it came from.
    pub origin: String,
}

/// What runs of a component.
#[derive(Clone)]
pub struct StoredRunning {
    /// Component id.
    pub component: String,
    /// The running set's revision at the last change.
    pub revision: i64,
    /// The version that runs.
    pub current: StoredVersion,
    /// The version that is tried beside it, and its percentage.
    pub candidate: Option<(StoredVersion, u32)>,
    /// The version that a rollback goes to.
    pub fallback: Option<i64>,
    /// How the candidate or the current version is tried, where it is, and whether its time is up.
    pub trial: Option<(Trial, bool)>,
    /// How often a version was rolled back.
    pub withdrawals: i64,
}

/// What runs of a deployment, and the revision of that.
///
/// # Errors
/// The database did not answer.
pub async fn running(pool: &OwnerPool, deployment: &str) -> Result<(i64, Vec<StoredRunning>), Error> {
    // Read first: what is read next is of this revision or a later one.
    let revision = sqlx::query_scalar("SELECT revision FROM fnhost.running_set WHERE deployment = $1")
        .bind(deployment)
        .fetch_optional(pool.pool())
        .await?;
    let rows = sqlx::query(
        "SELECT r.component, r.revision, r.fallback, r.canary_percent, r.withdrawals,
                r.trial_ends_at IS NOT NULL AS on_trial, r.trial_ends_at <= clock_timestamp() AS over,
                v.version, v.digest, v.variables, v.origin,
                c.version AS c_version, c.digest AS c_digest, c.variables AS c_variables, c.origin AS c_origin
           FROM fnhost.running r JOIN fnhost.version v ON v.version = r.current
           LEFT JOIN fnhost.version c ON c.version = r.candidate
          WHERE r.deployment = $1 ORDER BY r.component",
    )
    .bind(deployment)
    .fetch_all(pool.pool())
    .await?;
    let running = rows.iter().map(stored_running).collect::<Result<_, sqlx::Error>>()?;
    Ok((revision.unwrap_or(0), running))
}

fn stored_running(row: &PgRow) -> Result<StoredRunning, sqlx::Error> {
    let percent: Option<i32> = row.try_get("canary_percent")?;
    let candidate = match percent {
        Some(percent) => Some((stored_version(row, "c_")?, percent.unsigned_abs())),
        None => None,
    };
    let kind = if candidate.is_some() { Trial::Canary } else { Trial::Probation };
    let over: Option<bool> = row.try_get("over")?;
    Ok(StoredRunning {
        component: row.try_get("component")?,
        revision: row.try_get("revision")?,
        current: stored_version(row, "")?,
        candidate,
        fallback: row.try_get("fallback")?,
        trial: row.try_get::<bool, _>("on_trial")?.then(|| (kind, over.unwrap_or(false))),
        withdrawals: row.try_get("withdrawals")?,
    })
}

fn stored_version(row: &PgRow, prefix: &str) -> Result<StoredVersion, sqlx::Error> {
    let column = |name: &str| format!("{prefix}{name}");
    let variables: Json<BTreeMap<String, String>> = row.try_get(column("variables").as_str())?;
    Ok(StoredVersion {
        number: row.try_get(column("version").as_str())?,
        digest: row.try_get(column("digest").as_str())?,
        variables: variables.0,
        origin: row.try_get(column("origin").as_str())?,
    })
}

/// The code of this digest and its signature, where it has one; none where it is not kept.
///
/// # Errors
/// The database did not answer.
pub async fn code(pool: &OwnerPool, digest: &str) -> Result<Option<(Vec<u8>, Option<String>)>, Error> {
    let code = sqlx::query_as("SELECT wasm, signature FROM fnhost.code WHERE digest = $1");
    Ok(code.bind(digest).fetch_optional(pool.pool()).await?)
}

/// A version to be made.
pub struct NewVersion<'a> {
    /// Component id.
    pub component: &'a str,
    /// SHA-256 of its code, hex.
    pub digest: &'a str,
    /// Bytes of the component.
    pub wasm: &'a [u8],
    /// Their signature, in minisign's form.
    pub signature: Option<&'a str>,
    /// What its variables have in place of the manifest's values.
    pub variables: &'a BTreeMap<String, String>,
    /// Where it came from, for people.
    pub origin: &'a str,
    /// Whether the manifest's file has this code, so that a start with that file brings in nothing new.
    pub is_file: bool,
}

impl NewVersion<'_> {
    /// What the audit keeps of it, under its number.
    pub(super) fn details(&self, version: i64) -> Value {
        json!({ "version": version, "digest": self.digest, "origin": self.origin })
    }
}

/// How a version is brought in.
#[derive(Clone, Copy, Debug)]
pub enum Rollout {
    /// It runs at once, and is on trial for so long.
    Switch(Duration),
    /// It gets a percentage of the calls for so long, and runs after that.
    Canary(u32, Duration),
}

/// Makes a version and brings it in. Answers its number and the revision.
///
/// A trial that is under way ends: a candidate is dropped; a current version that is on trial is not what a rollback
/// goes to. `by` is the host, where nobody asked for it.
///
/// # Errors
/// The database did not answer, or the component does not run.
pub async fn deploy(
    pool: &OwnerPool,
    deployment: &str,
    new: &NewVersion<'_>,
    rollout: Rollout,
    by: Option<ByItself<'_>>,
) -> Result<(i64, i64), Error> {
    let mut tx = pool.begin().await?;
    let revision = raise_revision(&mut tx, deployment).await?;
    drop_candidate(&mut tx, deployment, new.component).await?;
    let version = insert_version(&mut tx, deployment, new).await?;
    match rollout {
        Rollout::Switch(probation) => {
            switch(&mut tx, deployment, new.component, revision, version, probation).await?;
        }
        Rollout::Canary(percent, duration) => {
            sqlx::query(
                "UPDATE fnhost.running SET revision = $3, candidate = $4, canary_percent = $5,
                        trial_ends_at = clock_timestamp() + $6 * interval '1 millisecond'
                  WHERE deployment = $1 AND component = $2",
            )
            .bind(deployment)
            .bind(new.component)
            .bind(revision)
            .bind(version)
            .bind(percent as i32)
            .bind(duration.as_millis() as i64)
            .execute(&mut *tx)
            .await?;
        }
    }
    if new.is_file {
        note_file(&mut tx, deployment, new).await?;
    }
    if let Some(by) = by {
        audit::note(&mut tx, deployment, by, ("deploy", new.component), new.details(version)).await?;
    }
    retention::prune(&mut tx, deployment, new.component).await?;
    notify(&mut tx, deployment).await?;
    tx.commit().await?;
    Ok((version, revision))
}

/// Withdraws a version that is being tried, in favour of one that is just brought in.
async fn drop_candidate(
    connection: &mut Bounded,
    deployment: &str,
    component: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH dropped AS (
             UPDATE fnhost.version v SET withdrawn_at = clock_timestamp(), withdrawn_reason = 'another version was brought in'
               FROM fnhost.running r WHERE r.deployment = $1 AND r.component = $2 AND v.version = r.candidate
             RETURNING v.version)
         UPDATE fnhost.running r SET withdrawals = r.withdrawals + 1
           FROM dropped WHERE r.deployment = $1 AND r.component = $2",
    )
    .bind(deployment)
    .bind(component)
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes a version the current one, on trial.
async fn switch(
    connection: &mut Bounded,
    deployment: &str,
    component: &str,
    revision: i64,
    version: i64,
    probation: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE fnhost.running
            SET revision = $3, current = $4, current_since = clock_timestamp(),
                -- Only a version that has passed its trial is one to go back to.
                fallback = CASE WHEN trial_ends_at IS NULL OR candidate IS NOT NULL THEN current ELSE fallback END,
                candidate = NULL, canary_percent = NULL,
                trial_ends_at = clock_timestamp() + $5 * interval '1 millisecond'
          WHERE deployment = $1 AND component = $2",
    )
    .bind(deployment)
    .bind(component)
    .bind(revision)
    .bind(version)
    .bind(probation.as_millis() as i64)
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends a trial well, if the component is still at `expected`: a candidate becomes the current version and is on trial as
/// such for `probation`; a current version stays.
///
/// # Errors
/// The database did not answer.
pub async fn accept(
    pool: &OwnerPool,
    deployment: &str,
    component: &str,
    expected: i64,
    probation: Duration,
    by: ByItself<'_>,
) -> Result<bool, Error> {
    let mut tx = pool.begin().await?;
    let revision = raise_revision(&mut tx, deployment).await?;
    let row: Option<(Option<i64>, Option<String>)> = sqlx::query_as(
        "SELECT r.candidate, v.digest FROM fnhost.running r LEFT JOIN fnhost.version v ON v.version = r.candidate
          WHERE r.deployment = $1 AND r.component = $2 AND r.revision = $3 AND r.trial_ends_at IS NOT NULL",
    )
    .bind(deployment)
    .bind(component)
    .bind(expected)
    .fetch_optional(&mut *tx)
    .await?;
    match row {
        None => return Ok(false),
        Some((Some(candidate), digest)) => {
            switch(&mut tx, deployment, component, revision, candidate, probation).await?;
            let details = json!({ "version": candidate, "digest": digest });
            audit::note(&mut tx, deployment, by, ("promote", component), details).await?;
        }
        Some((None, _)) => {
            sqlx::query(
                "UPDATE fnhost.running SET revision = $3, trial_ends_at = NULL WHERE deployment = $1 AND component = $2",
            )
            .bind(deployment)
            .bind(component)
            .bind(revision)
            .execute(&mut *tx)
            .await?;
        }
    }
    notify(&mut tx, deployment).await?;
    tx.commit().await?;
    Ok(true)
}

/// Drops the candidate, or goes back from the current version to the one before it that passed its trial. `expected` is the
/// component's revision that this was decided on. Answers the version that was withdrawn; none where there is nothing to
/// go back to or the component is not at `expected` any more. `by` is the host, where nobody asked for it.
///
/// # Errors
/// The database did not answer.
pub async fn withdraw(
    pool: &OwnerPool,
    deployment: &str,
    component: &str,
    expected: Option<i64>,
    reason: &str,
    by: Option<ByItself<'_>>,
) -> Result<Option<(i64, i64)>, Error> {
    let mut tx = pool.begin().await?;
    let revision = raise_revision(&mut tx, deployment).await?;
    let withdrawn: Option<(i64, String)> = sqlx::query_as(
        "WITH former AS (
             SELECT current, fallback, candidate FROM fnhost.running
              WHERE deployment = $1 AND component = $2 AND ($3::bigint IS NULL OR revision = $3)
                AND COALESCE(candidate, fallback) IS NOT NULL),
         changed AS (
             UPDATE fnhost.running r
                SET revision = $4, withdrawals = r.withdrawals + 1,
                    current = CASE WHEN f.candidate IS NULL THEN f.fallback ELSE f.current END,
                    current_since = CASE WHEN f.candidate IS NULL THEN clock_timestamp() ELSE r.current_since END,
                    fallback = CASE WHEN f.candidate IS NULL THEN NULL ELSE f.fallback END,
                    candidate = NULL, canary_percent = NULL, trial_ends_at = NULL
               FROM former f WHERE r.deployment = $1 AND r.component = $2
             RETURNING COALESCE(f.candidate, f.current) AS version)
         UPDATE fnhost.version v SET withdrawn_at = clock_timestamp(), withdrawn_reason = $5
           FROM changed WHERE v.version = changed.version RETURNING v.version, v.digest",
    )
    .bind(deployment)
    .bind(component)
    .bind(expected)
    .bind(revision)
    .bind(reason)
    .fetch_optional(&mut *tx)
    .await?;
    let Some((version, digest)) = withdrawn else { return Ok(None) };
    if let Some(by) = by {
        let details = json!({ "version": version, "digest": digest, "reason": reason });
        audit::note(&mut tx, deployment, by, ("roll back", component), details).await?;
    }
    notify(&mut tx, deployment).await?;
    tx.commit().await?;
    Ok(Some((version, revision)))
}

/// Locks the running set and raises its revision; undone with the transaction.
pub(super) async fn raise_revision(connection: &mut Bounded, deployment: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "INSERT INTO fnhost.running_set AS s (deployment, revision) VALUES ($1, 1)
         ON CONFLICT (deployment) DO UPDATE SET revision = s.revision + 1 RETURNING revision",
    )
    .bind(deployment)
    .fetch_one(connection)
    .await
}

pub(super) async fn notify(connection: &mut Bounded, deployment: &str) -> Result<(), sqlx::Error> {
    let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANGE_CHANNEL).bind(deployment);
    notify.execute(connection).await.map(drop)
}

pub(super) async fn insert_version(
    connection: &mut Bounded,
    deployment: &str,
    new: &NewVersion<'_>,
) -> Result<i64, sqlx::Error> {
    // The latest signature is the one that the host which brings it in has just checked.
    sqlx::query(
        "INSERT INTO fnhost.code AS c (digest, wasm, signature) VALUES ($1, $2, $3)
         ON CONFLICT (digest) DO UPDATE SET signature = EXCLUDED.signature
         WHERE EXCLUDED.signature IS NOT NULL AND c.signature IS DISTINCT FROM EXCLUDED.signature",
    )
    .bind(new.digest)
    .bind(new.wasm)
    .bind(new.signature)
    .execute(&mut *connection)
    .await?;
    sqlx::query_scalar(
        "INSERT INTO fnhost.version (deployment, component, digest, variables, origin) VALUES ($1, $2, $3, $4, $5)
         RETURNING version",
    )
    .bind(deployment)
    .bind(new.component)
    .bind(new.digest)
    .bind(Json(new.variables))
    .bind(new.origin)
    .fetch_one(connection)
    .await
}
