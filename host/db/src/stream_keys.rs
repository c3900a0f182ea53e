//! The keys under which a deployment's messages are numbered.

use super::{Error, OwnerPool};
use fnhost_types::stream_keys::StreamKey;

/// Age at which a key signs: by then every host has read it, see [`RELOAD_INTERVAL_S`].
pub const SETTLED_AFTER_S: i32 = 60;
/// How often hosts read the keys anew, seconds.
pub const RELOAD_INTERVAL_S: u64 = 20;

/// Reads the keys.
///
/// # Errors
/// The database did not answer.
pub async fn load(pool: &OwnerPool) -> Result<Vec<StreamKey>, Error> {
    let rows: Vec<(i32, Vec<u8>, bool)> = sqlx::query_as(
        "SELECT id, secret, created_at < clock_timestamp() - $1 * interval '1 second' FROM fnhost.stream_key ORDER BY id",
    )
    .bind(SETTLED_AFTER_S)
    .fetch_all(pool.pool())
    .await?;
    Ok(rows.into_iter().map(|(id, secret, settled)| StreamKey { id, secret, settled }).collect())
}

/// A key as people see it: everything but the secret.
#[derive(Debug, serde::Serialize)]
pub struct KeyView {
    /// Its number.
    pub id: i32,
    /// When it was made; RFC 3339.
    pub created_at: String,
    /// Whether it is the one that signs.
    pub signs: bool,
}

/// The keys, oldest first.
///
/// # Errors
/// The database did not answer.
pub async fn list(pool: &OwnerPool) -> Result<Vec<KeyView>, Error> {
    let keys: Vec<(i32, String, bool)> = sqlx::query_as(
        "SELECT id, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS created_at,
                id = COALESCE(max(id) FILTER (WHERE created_at < clock_timestamp() - $1 * interval '1 second') OVER (),
                              min(id) OVER ()) AS signs
           FROM fnhost.stream_key ORDER BY id",
    )
    .bind(SETTLED_AFTER_S)
    .fetch_all(pool.pool())
    .await?;
    Ok(keys.into_iter().map(|(id, created_at, signs)| KeyView { id, created_at, signs }).collect())
}

/// Makes a key and answers its number.
///
/// # Errors
/// The database did not answer.
pub async fn add(pool: &OwnerPool) -> Result<i32, Error> {
    Ok(sqlx::query_scalar("INSERT INTO fnhost.stream_key DEFAULT VALUES RETURNING id")
        .fetch_one(pool.pool())
        .await?)
}

/// Takes a key away; false where there is none of that number, or it is the one that signs.
///
/// # Errors
/// The database did not answer.
pub async fn remove(pool: &OwnerPool, id: i32) -> Result<bool, Error> {
    let removed = sqlx::query(
        "DELETE FROM fnhost.stream_key WHERE id = $1 AND id <> COALESCE(
             (SELECT max(id) FROM fnhost.stream_key WHERE created_at < clock_timestamp() - $2 * interval '1 second'),
             (SELECT min(id) FROM fnhost.stream_key))",
    )
    .bind(id)
    .bind(SETTLED_AFTER_S)
    .execute(pool.pool())
    .await?;
    Ok(removed.rows_affected() == 1)
}
