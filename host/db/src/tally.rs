//! The SQL of what calls of a version came to.

use super::{Error, OwnerPool};
use sqlx::Row as _;
use std::time::Duration;

/// What a call is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request.
    Http,
    /// A batch of records.
    Kafka,
}

impl Kind {
    /// Both kinds, in the order of their names.
    pub const ALL: [Self; 2] = [Self::Http, Self::Kafka];

    /// As the database has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Kafka => "kafka",
        }
    }
}

/// Counts of one kind of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Requests or batches.
    pub calls: u64,
    /// Those that the function ended badly: trap, deadline, error, no response.
    pub failed_calls: u64,
    /// Requests answered, or records settled.
    pub handled: u64,
    /// Those that failed: an answer of 5xx or none, or an attempt that ended in retry or reject.
    pub errors: u64,
    /// Time in calls, microseconds.
    pub busy_us: u64,
}

impl Outcome {
    /// One call that took so long.
    pub fn call(failed: bool, took: Duration) -> Self {
        let busy_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        Self { calls: 1, failed_calls: failed.into(), busy_us, ..Self::default() }
    }

    /// So many settled records or requests, and how many of them failed.
    pub fn settled(handled: usize, errors: usize) -> Self {
        Self { handled: handled as u64, errors: errors as u64, ..Self::default() }
    }

    /// Sum of two counts.
    pub fn plus(self, other: Self) -> Self {
        Self {
            calls: self.calls + other.calls,
            failed_calls: self.failed_calls + other.failed_calls,
            handled: self.handled + other.handled,
            errors: self.errors + other.errors,
            busy_us: self.busy_us.saturating_add(other.busy_us),
        }
    }
}

/// Counts to be added to the database.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// Row of `fnhost.version`.
    pub version: i64,
    /// Revision at which the calls were made.
    pub revision: i64,
    /// What the calls were of.
    pub kind: Kind,
    /// The counts.
    pub outcome: Outcome,
}

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
