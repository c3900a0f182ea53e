//! The registry's SQL: a start's files, the hosts' leases, and what people see of versions and hosts.

use super::audit::{self, ByItself};
use super::deployment::{NewVersion, insert_version, notify, raise_revision};
use super::retention;
use super::session::Bounded;
use super::{Error, OwnerPool};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::types::Json;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// What became of a component's file in the manifest at a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enlisted {
    /// It is what was deployed from the manifest last, or what runs.
    Known,
    /// It is new, and runs from now on in place of what ran, if anything did.
    Deployed,
    /// Another version runs, of this digest, because other hosts run it and this file is an older one.
    Outvoted(String),
}

/// Brings the files of a manifest in at a start, by the rule of `docs/decisions/0007-what-runs-after-a-start.md`: what was
/// deployed last wins. `probation` is the trial of a new file where other hosts run, `machine` where this one does.
///
/// # Errors
/// The database did not answer.
pub async fn enlist(
    pool: &OwnerPool,
    deployment: &str,
    instance: &str,
    files: &[NewVersion<'_>],
    probation: Duration,
    machine: &str,
) -> Result<Vec<Enlisted>, Error> {
    let by = ByItself { machine, occasion: "start" };
    let mut tx = pool.begin().await?;
    let revision = raise_revision(&mut tx, deployment).await?;
    let alone: bool = sqlx::query_scalar(
        "SELECT NOT EXISTS (SELECT FROM fnhost.host
                             WHERE deployment = $1 AND instance <> $2 AND lease_until > clock_timestamp())",
    )
    .bind(deployment)
    .bind(instance)
    .fetch_one(&mut *tx)
    .await?;
    let mut enlisted = Vec::with_capacity(files.len());
    let (mut changed, mut noted) = (false, false);
    for file in files {
        let row: Option<(String, String, bool)> = sqlx::query_as(
            "SELECT r.manifest_digest, v.digest,
                    EXISTS (SELECT FROM fnhost.version s WHERE s.deployment = $1 AND s.component = $2 AND s.digest = $3)
               FROM fnhost.running r JOIN fnhost.version v ON v.version = r.current
              WHERE r.deployment = $1 AND r.component = $2",
        )
        .bind(deployment)
        .bind(file.component)
        .bind(file.digest)
        .fetch_optional(&mut *tx)
        .await?;
        let outcome = match row {
            Some((manifest, _, _)) if manifest == file.digest => Enlisted::Known,
            Some((_, running, _)) if running == file.digest => {
                note_file(&mut tx, deployment, file).await?;
                noted = true;
                Enlisted::Known
            }
            Some((_, running, true)) if !alone => Enlisted::Outvoted(running),
            _ => Enlisted::Deployed,
        };
        if outcome == Enlisted::Deployed {
            changed = true;
            let version = insert_version(&mut tx, deployment, file).await?;
            // Alone nothing ran beside it that its errors could be compared with.
            let trial_ms = (!alone).then_some(probation.as_millis() as i64);
            run_file(&mut tx, deployment, file, revision, version, trial_ms).await?;
            audit::note(&mut tx, deployment, by, ("deploy", file.component), file.details(version)).await?;
            retention::prune(&mut tx, deployment, file.component).await?;
        }
        enlisted.push(outcome);
    }
    if changed {
        notify(&mut tx, deployment).await?;
    }
    if changed || noted {
        tx.commit().await?;
    }
    Ok(enlisted)
}

/// Notes that the manifest's file is known with this digest.
pub(super) async fn note_file(
    connection: &mut Bounded,
    deployment: &str,
    file: &NewVersion<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE fnhost.running SET manifest_digest = $3 WHERE deployment = $1 AND component = $2")
        .bind(deployment)
        .bind(file.component)
        .bind(file.digest)
        .execute(connection)
        .await?;
    Ok(())
}

async fn run_file(
    connection: &mut Bounded,
    deployment: &str,
    file: &NewVersion<'_>,
    revision: i64,
    version: i64,
    trial_ms: Option<i64>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO fnhost.running AS r (deployment, component, revision, current, manifest_digest)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (deployment, component) DO UPDATE
            SET revision = EXCLUDED.revision, current = EXCLUDED.current, current_since = clock_timestamp(),
                fallback = CASE WHEN r.trial_ends_at IS NULL OR r.candidate IS NOT NULL THEN r.current ELSE r.fallback END,
                candidate = NULL, canary_percent = NULL, manifest_digest = EXCLUDED.manifest_digest,
                trial_ends_at = clock_timestamp() + $6 * interval '1 millisecond'",
    )
    .bind(deployment)
    .bind(file.component)
    .bind(revision)
    .bind(version)
    .bind(file.digest)
    .bind(trial_ms)
    .execute(connection)
    .await?;
    Ok(())
}

/// What a host says of itself.
#[derive(Clone, Debug)]
pub struct HostEntry {
    /// Deployment name.
    pub deployment: String,
    /// Identity of its data directory.
    pub instance: String,
    /// The process.
    pub host: Uuid,
    /// Name of its machine.
    pub name: String,
    /// Address for HTTP, where it serves any.
    pub http: Option<String>,
    /// Address for health and inspection.
    pub admin: String,
    /// Version of the fnhost program.
    pub fnhost: String,
}

/// Registers a host, or renews its lease, with the revision that it runs and its components' digests.
///
/// # Errors
/// The database did not answer.
pub async fn renew(
    pool: &OwnerPool,
    entry: &HostEntry,
    lease: Duration,
    revision: i64,
    components: &BTreeMap<String, String>,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO fnhost.host AS h (deployment, instance, host, name, http, admin, fnhost, lease_until, revision, components)
         VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp() + $8 * interval '1 millisecond', $9, $10)
         ON CONFLICT (deployment, instance) DO UPDATE
            SET host = EXCLUDED.host, name = EXCLUDED.name, http = EXCLUDED.http, admin = EXCLUDED.admin, fnhost = EXCLUDED.fnhost,
                started_at = CASE WHEN h.host = EXCLUDED.host THEN h.started_at ELSE clock_timestamp() END,
                lease_until = EXCLUDED.lease_until, revision = EXCLUDED.revision, components = EXCLUDED.components",
    )
    .bind(&entry.deployment)
    .bind(&entry.instance)
    .bind(entry.host)
    .bind(&entry.name)
    .bind(&entry.http)
    .bind(&entry.admin)
    .bind(&entry.fnhost)
    .bind(lease.as_millis() as i64)
    .bind(revision)
    .bind(Json(components))
    .execute(pool.pool())
    .await?;
    Ok(())
}

/// Takes a host off the registry after a clean end, and with it those that are gone for longer than `forget`.
///
/// # Errors
/// The database did not answer.
pub async fn leave(pool: &OwnerPool, entry: &HostEntry, forget: Duration) -> Result<(), Error> {
    sqlx::query(
        "DELETE FROM fnhost.host WHERE deployment = $1
            AND (host = $2 OR lease_until < clock_timestamp() - $3 * interval '1 millisecond')",
    )
    .bind(&entry.deployment)
    .bind(entry.host)
    .bind(forget.as_millis() as i64)
    .execute(pool.pool())
    .await?;
    Ok(())
}

/// The hosts of a deployment with the partitions that each owns, and the running set, as JSON for people.
///
/// # Errors
/// The database did not answer.
pub async fn deployment_view(pool: &OwnerPool, deployment: &str) -> Result<Value, Error> {
    let view: Json<Value> = sqlx::query_scalar(
        "SELECT jsonb_build_object(
            'deployment', $1,
            'revision', COALESCE((SELECT revision FROM fnhost.running_set WHERE deployment = $1), 0),
            'components', COALESCE((
                SELECT jsonb_object_agg(r.component, jsonb_build_object('version', v.version, 'digest', v.digest))
                  FROM fnhost.running r JOIN fnhost.version v ON v.version = r.current WHERE r.deployment = $1), '{}'),
            'hosts', COALESCE((
                SELECT jsonb_agg(jsonb_build_object(
                    'name', h.name, 'instance', h.instance, 'state', CASE WHEN h.lease_until > clock_timestamp() THEN 'up' ELSE 'gone' END,
                    'http', h.http, 'admin', h.admin, 'fnhost', h.fnhost, 'started_at', h.started_at, 'lease_until', h.lease_until,
                    'revision', h.revision, 'components', h.components, 'partitions', COALESCE((
                        SELECT jsonb_agg(jsonb_build_object('trigger', t.id, 'topic', p.topic, 'partition', p.partition)
                                         ORDER BY t.id, p.topic, p.partition)
                          FROM fnhost.partition p JOIN fnhost.trigger t USING (trigger)
                         WHERE t.deployment = $1 AND t.kind = 'kafka' AND p.owner = h.host), '[]'))
                    ORDER BY h.started_at, h.instance)
                  FROM fnhost.host h WHERE h.deployment = $1), '[]'))",
    )
    .bind(deployment)
    .fetch_one(pool.pool())
    .await?;
    Ok(view.0)
}

/// Live hosts of a deployment that do not run `revision` yet, by name and admin address.
///
/// # Errors
/// The database did not answer.
pub async fn behind(pool: &OwnerPool, deployment: &str, revision: i64) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar(
        "SELECT name || ' (' || admin || ')' FROM fnhost.host
          WHERE deployment = $1 AND revision < $2 AND lease_until > clock_timestamp() ORDER BY 1",
    )
    .bind(deployment)
    .bind(revision)
    .fetch_all(pool.pool())
    .await?)
}

/// A version, for people.
#[derive(Debug, Serialize, Deserialize)]
pub struct VersionView {
    /// Number of the version within its component, counted from 1.
    pub version: i64,
    /// SHA-256 of its code, hex.
    pub digest: String,
    /// `running`, `canary`, `fallback`, `rolled back`, or `former`.
    pub state: String,
    /// Whether it is on trial.
    pub on_trial: bool,
    /// Where it came from.
    pub origin: String,
    /// When it was made, RFC 3339.
    pub since: String,
    /// Calls so far.
    pub calls: i64,
    /// Those that it ended badly.
    pub failed_calls: i64,
    /// Records settled and requests answered.
    pub handled: i64,
    /// Records and requests that failed.
    pub errors: i64,
    /// SHA-256 over the names and values of its variables, hex; none where it has none of its own.
    pub variables_digest: Option<String>,
    /// Names of its variables that have a value of their own.
    pub variables: Vec<String>,
    /// Why it was rolled back.
    pub reason: Option<String>,
}

/// The versions of a component that are kept, newest first.
///
/// # Errors
/// The database did not answer.
pub async fn versions(
    pool: &OwnerPool,
    deployment: &str,
    component: &str,
) -> Result<Vec<VersionView>, Error> {
    let rows: Vec<Json<VersionView>> = sqlx::query_scalar(
        "SELECT to_jsonb(s) FROM (SELECT v.version, v.digest, v.origin,
                CASE WHEN v.version = r.current THEN 'running' WHEN v.version = r.candidate THEN 'canary'
                     WHEN v.withdrawn_at IS NOT NULL THEN 'rolled back' WHEN v.version = r.fallback THEN 'fallback'
                     ELSE 'former' END AS state,
                COALESCE(r.trial_ends_at IS NOT NULL AND v.version = COALESCE(r.candidate, r.current), false) AS on_trial,
                to_char(v.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS since,
                COALESCE(t.calls, 0) AS calls, COALESCE(t.failed_calls, 0) AS failed_calls,
                COALESCE(t.handled, 0) AS handled, COALESCE(t.errors, 0) AS errors,
                CASE WHEN v.variables <> '{}' THEN encode(sha256(convert_to(v.variables::text, 'UTF8')), 'hex') END AS variables_digest,
                ARRAY(SELECT jsonb_object_keys(v.variables) ORDER BY 1) AS variables, v.withdrawn_reason AS reason
           FROM fnhost.version v
           LEFT JOIN fnhost.running r ON r.deployment = v.deployment AND r.component = v.component
           LEFT JOIN (SELECT version, sum(calls)::bigint AS calls, sum(failed_calls)::bigint AS failed_calls,
                             sum(handled)::bigint AS handled, sum(errors)::bigint AS errors
                        FROM fnhost.tally GROUP BY version) t ON t.version = v.version
          WHERE v.deployment = $1 AND v.component = $2) AS s ORDER BY s.version DESC",
    )
    .bind(deployment)
    .bind(component)
    .fetch_all(pool.pool())
    .await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}
