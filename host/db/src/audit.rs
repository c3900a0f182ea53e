//! Who changed what. An entry is written before its change is made, so that no change goes unnoted, and completed after it. What a
//! host changes by itself is noted in the transaction that changes it.

use super::session::Bounded;
use super::{Error, OwnerPool};
use serde_json::Value;

/// Bytes of the details of an entry; larger ones are left out, so that no request makes the table large.
pub const DETAILS_BYTES_MAX: usize = 16 * 1024;
/// Characters of an outcome that are kept.
pub const OUTCOME_CHARS_MAX: usize = 500;
/// What stands for a change that succeeded.
pub const DONE: &str = "done";
/// Who makes a change that nobody asked for. With a space, which no token's name and no account's has.
pub const HOST: &str = "the host";

/// A change that somebody is about to make.
#[derive(Clone, Debug)]
pub struct Change {
    /// The name of a token, or an account.
    pub who: String,
    /// An address, or a machine.
    pub source: String,
    /// The request or the command.
    pub action: String,
    /// What is asked for, without code and without secrets.
    pub details: Value,
}

/// A host that changes what runs without being asked.
#[derive(Clone, Copy, Debug)]
pub struct ByItself<'a> {
    /// The machine that it runs on.
    pub machine: &'a str,
    /// What made it do so: `start`, `watch` or `trial`.
    pub occasion: &'static str,
}

/// An entry as people see it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Entry {
    /// Number of the entry; later ones have higher ones.
    pub id: i64,
    /// When the change was asked for; RFC 3339.
    pub at: String,
    /// The name of a token, or an account, or [`HOST`].
    pub who: String,
    /// An address, or a machine.
    pub source: String,
    /// The request or the command; of a host the occasion, and what it did to which component.
    pub action: String,
    /// What was asked for.
    pub details: Value,
    /// `done`, or why not; none while it runs, or where the host died meanwhile.
    pub outcome: Option<String>,
}

/// Which entries are asked for.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub struct AuditFilter {
    /// Made by this token or account.
    pub who: Option<String>,
    /// Whose action contains this.
    pub action: Option<String>,
    /// Not before this time, milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// With a lower number than this one.
    pub before: Option<i64>,
}

/// Notes a change before it is made; answers the entry's number.
///
/// # Errors
/// The database did not answer: the change must not be made.
pub async fn begin(pool: &OwnerPool, deployment: &str, change: &Change) -> Result<i64, Error> {
    let text = change.details.to_string();
    let details = if text.len() <= DETAILS_BYTES_MAX {
        &change.details
    } else {
        &serde_json::json!({ "bytes": text.len() })
    };
    let id = sqlx::query_scalar(
        "INSERT INTO fnhost.audit (deployment, who, source, action, details) VALUES ($1, $2, $3, $4, $5) RETURNING id",
    )
    .bind(deployment)
    .bind(plain(&change.who))
    .bind(plain(&change.source))
    .bind(plain(&change.action))
    // The server knows no NUL in a text, and JSON may have one escaped.
    .bind(sqlx::types::Json(without_nul(details)))
    .fetch_one(pool.pool())
    .await?;
    Ok(id)
}

/// Notes what a host does to a component by itself; the entry is there with the rest of the transaction, or not at all.
pub(super) async fn note(
    connection: &mut Bounded,
    deployment: &str,
    by: ByItself<'_>,
    (done, component): (&str, &str),
    details: Value,
) -> Result<(), sqlx::Error> {
    let action = format!("{}: {done} /components/{component}", by.occasion);
    sqlx::query(
        "INSERT INTO fnhost.audit (deployment, who, source, action, details, outcome, ended_at)
         VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp())",
    )
    .bind(deployment)
    .bind(HOST)
    .bind(plain(by.machine))
    .bind(plain(&action))
    .bind(sqlx::types::Json(without_nul(&details)))
    .bind(DONE)
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes what came of a change.
///
/// # Errors
/// The database did not answer; the entry stays without an outcome.
pub async fn end(pool: &OwnerPool, id: i64, outcome: &str) -> Result<(), Error> {
    let outcome: String = plain(outcome).chars().take(OUTCOME_CHARS_MAX).collect();
    sqlx::query("UPDATE fnhost.audit SET outcome = $2, ended_at = clock_timestamp() WHERE id = $1")
        .bind(id)
        .bind(outcome)
        .execute(pool.pool())
        .await?;
    Ok(())
}

/// Makes a change and notes it, whatever comes of it.
///
/// # Errors
/// It could not be noted and was not made; or the change's own.
pub async fn recorded<T, E: From<Error> + std::fmt::Display>(
    pool: &OwnerPool,
    deployment: &str,
    change: &Change,
    make: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let id = begin(pool, deployment, change).await?;
    let made = make.await;
    let outcome = match &made {
        Ok(_) => DONE.to_owned(),
        Err(error) => format!("failed: {error:#}"),
    };
    if let Err(error) = end(pool, id, &outcome).await {
        tracing::warn!(id, error = fnhost_types::causes::chain(&error), "cannot note what came of a change");
    }
    made
}

/// The entries, newest first.
///
/// # Errors
/// The database did not answer.
pub async fn list(
    pool: &OwnerPool,
    deployment: &str,
    filter: &AuditFilter,
    limit: i64,
) -> Result<Vec<Entry>, Error> {
    type Row = (i64, String, String, String, String, Value, Option<String>);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, to_char(asked_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS at, who, source, action, details, outcome
           FROM fnhost.audit
          WHERE deployment = $1 AND ($2::text IS NULL OR who = $2) AND ($3::text IS NULL OR strpos(action, $3) > 0)
            AND ($4::bigint IS NULL OR asked_at >= to_timestamp($4::bigint / 1000.0)) AND ($5::bigint IS NULL OR id < $5)
          ORDER BY id DESC LIMIT $6",
    )
    .bind(deployment)
    .bind(&filter.who)
    .bind(&filter.action)
    .bind(filter.since_ms)
    .bind(filter.before)
    .bind(limit)
    .fetch_all(pool.pool())
    .await?;
    let entry = |(id, at, who, source, action, details, outcome)| Entry {
        id,
        at,
        who,
        source,
        action,
        details,
        outcome,
    };
    Ok(rows.into_iter().map(entry).collect())
}

fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn without_nul(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(plain(text)),
        Value::Array(items) => items.iter().map(without_nul).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (plain(name), without_nul(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}
