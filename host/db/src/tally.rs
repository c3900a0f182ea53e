//! The SQL of what calls of a version came to.

use super::{Error, OwnerPool};
use crate::deployment::tally::{Counted, Kind, Outcome};
use sqlx::Row as _;

/// Adds what calls came to. Versions that are forgotten meanwhile are left out.
///
/// # Errors
/// The database did not answer.
pub async fn add(pool: &OwnerPool, counted: &[Counted]) -> Result<(), Error> {
    let column = |of: fn(&Outcome) -> u64| counted.iter().map(|c| of(&c.outcome) as i64).collect::<Vec<_>>();
    sqlx::query(
        "INSERT INTO fnhost.tally AS t (version, revision, kind, calls, failed_calls, handled, errors, busy_us)
         SELECT c.* FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
                AS c(version, revision, kind, calls, failed_calls, handled, errors, busy_us)
           JOIN fnhost.version USING (version) ORDER BY c.version, c.revision, c.kind
         ON CONFLICT (version, revision, kind) DO UPDATE
            SET calls = t.calls + EXCLUDED.calls, failed_calls = t.failed_calls + EXCLUDED.failed_calls,
                handled = t.handled + EXCLUDED.handled, errors = t.errors + EXCLUDED.errors, busy_us = t.busy_us + EXCLUDED.busy_us",
    )
    .bind(counted.iter().map(|c| c.version).collect::<Vec<_>>())
    .bind(counted.iter().map(|c| c.revision).collect::<Vec<_>>())
    .bind(counted.iter().map(|c| c.kind.name()).collect::<Vec<_>>())
    .bind(column(|o| o.calls))
    .bind(column(|o| o.failed_calls))
    .bind(column(|o| o.handled))
    .bind(column(|o| o.errors))
    .bind(column(|o| o.busy_us))
    .execute(pool.pool())
    .await?;
    Ok(())
}

/// What calls of a version came to, by kind: at one revision, or over all.
///
/// # Errors
/// The database did not answer.
pub async fn total(pool: &OwnerPool, version: i64, revision: Option<i64>) -> Result<[Outcome; 2], Error> {
    let rows = sqlx::query(
        "SELECT kind, sum(calls)::bigint, sum(failed_calls)::bigint, sum(handled)::bigint, sum(errors)::bigint, sum(busy_us)::bigint
           FROM fnhost.tally WHERE version = $1 AND ($2::bigint IS NULL OR revision = $2) GROUP BY kind",
    )
    .bind(version)
    .bind(revision)
    .fetch_all(pool.pool())
    .await?;
    let mut kinds = [Outcome::default(); 2];
    for row in &rows {
        let kind: &str = row.try_get(0)?;
        let count = |index: usize| row.try_get::<i64, _>(index).map(i64::unsigned_abs);
        let outcome = Outcome {
            calls: count(1)?,
            failed_calls: count(2)?,
            handled: count(3)?,
            errors: count(4)?,
            busy_us: count(5)?,
        };
        if let Some(of) = Kind::ALL.into_iter().find(|k| k.name() == kind) {
            kinds[of as usize] = outcome;
        }
    }
    Ok(kinds)
}
