//! The keys that sign and check an application's tokens, from its first `fnhost keys rotate` on. A new key is good at once and signs
//! when every host knows it; the one before it is good until the last token that it signed has expired.

use super::{Error, OwnerPool};
use serde_json::Value;

/// How often hosts read the keys anew, seconds.
pub const RELOAD_INTERVAL_S: u64 = 5;
/// Age at which a key signs, seconds: by then every host has read it, see [`RELOAD_INTERVAL_S`].
pub const SETTLED_AFTER_S: i64 = 30;
/// How long a key is good after it has ceased to sign, seconds: longer than a token is. One token that is good for longer ends earlier.
pub const GOOD_FOR_S: i64 = 60 * 60;
/// Keys that are kept at a time: rotating more often than this within [`GOOD_FOR_S`] is refused.
pub const KEYS_MAX: usize = 10;

/// A key as it is stored.
#[derive(Clone)]
pub struct TokenKey {
    /// Number of the key; later ones have higher ones.
    pub id: i64,
    /// When it was made; RFC 3339.
    pub made_at: String,
    /// Seconds since then, by the database's clock.
    pub age_s: i64,
    /// PKCS#8 PEM.
    pub private_key: String,
    /// A JSON Web Key.
    pub public_key: Value,
    /// Whether those before it count no more.
    pub alone: bool,
}

impl std::fmt::Debug for TokenKey {
    /// Without the private part.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey").field("id", &self.id).field("age_s", &self.age_s).finish_non_exhaustive()
    }
}

/// Which of the keys do what.
#[derive(Debug, Default, PartialEq)]
pub struct InUse<'k> {
    /// The one that signs; none where that is still the one that the application was started with.
    pub signs: Option<&'k TokenKey>,
    /// Those that are good, newest first.
    pub good: Vec<&'k TokenKey>,
    /// Whether the keys that the application was started with are good too.
    pub given: bool,
}

impl PartialEq for TokenKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// What follows from the keys, oldest first, and their ages.
#[must_use]
pub fn in_use(keys: &[TokenKey]) -> InUse<'_> {
    let first = keys.iter().rposition(|key| key.alone);
    let counted = &keys[first.unwrap_or_default()..];
    let signs_since = |key: &TokenKey| if key.alone { key.age_s } else { key.age_s - SETTLED_AFTER_S };
    // A key ceases to sign when the next one begins to.
    let is_good = |next: Option<&TokenKey>| next.is_none_or(|next| signs_since(next) < GOOD_FOR_S);
    let good = counted.iter().enumerate().filter(|(n, _)| is_good(counted.get(n + 1)));
    InUse {
        signs: counted.iter().rfind(|key| signs_since(key) >= 0),
        good: good.map(|(_, key)| key).rev().collect(),
        given: first.is_none() && is_good(counted.first()),
    }
}

/// The keys, oldest first; none where the application still has those that it was started with.
///
/// # Errors
/// The database did not answer.
pub async fn load(pool: &OwnerPool, deployment: &str) -> Result<Vec<TokenKey>, Error> {
    type Row = (i64, String, i64, String, Value, bool);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, to_char(made_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
                floor(extract(epoch FROM clock_timestamp() - made_at))::bigint, private_key, public_key, alone
           FROM fnhost.token_key WHERE deployment = $1 ORDER BY id",
    )
    .bind(deployment)
    .fetch_all(pool.pool())
    .await?;
    let key = |(id, made_at, age_s, private_key, public_key, alone)| TokenKey {
        id,
        made_at,
        age_s,
        private_key,
        public_key,
        alone,
    };
    Ok(rows.into_iter().map(key).collect())
}

/// Keeps a new key and forgets those that are good no more; answers its number, or none where there are [`KEYS_MAX`] already.
///
/// # Errors
/// The database did not answer.
pub async fn add(
    pool: &OwnerPool,
    deployment: &str,
    private_key: &str,
    public_key: &Value,
    alone: bool,
) -> Result<Option<i64>, Error> {
    let keys = load(pool, deployment).await?;
    let used = in_use(&keys);
    let gone: Vec<i64> =
        keys.iter().filter(|key| alone || !used.good.contains(key)).map(|key| key.id).collect();
    if keys.len() - gone.len() >= KEYS_MAX {
        return Ok(None);
    }
    let mut tx = pool.begin().await?;
    sqlx::query("DELETE FROM fnhost.token_key WHERE deployment = $1 AND id = ANY ($2)")
        .bind(deployment)
        .bind(&gone)
        .execute(&mut *tx)
        .await?;
    let id = sqlx::query_scalar(
        "INSERT INTO fnhost.token_key (deployment, private_key, public_key, alone) VALUES ($1, $2, $3, $4) RETURNING id",
    )
    .bind(deployment)
    .bind(private_key)
    .bind(public_key)
    .bind(alone)
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(ages: &[(i64, bool)]) -> Vec<TokenKey> {
        let key = |(n, (age_s, alone)): (usize, &(i64, bool))| TokenKey {
            id: n as i64,
            made_at: String::new(),
            age_s: *age_s,
            private_key: String::new(),
            public_key: Value::Null,
            alone: *alone,
        };
        ages.iter().enumerate().map(key).collect()
    }

    #[test]
    fn a_key_is_good_before_it_signs_and_until_its_last_token_has_expired() {
        const LAST: i64 = SETTLED_AFTER_S + GOOD_FOR_S;
        // Ages, oldest first; which signs; which are good; whether the given ones are.
        for (ages, signs, good, given) in [
            (&[][..], None, &[][..], true),
            (&[(0, false)], None, &[0], true),
            (&[(SETTLED_AFTER_S - 1, false)], None, &[0], true),
            (&[(SETTLED_AFTER_S, false)], Some(0), &[0], true),
            (&[(LAST - 1, false)], Some(0), &[0], true),
            (&[(LAST, false)], Some(0), &[0], false),
            (&[(LAST, false), (0, false)], Some(0), &[1, 0], false),
            (&[(LAST * 2, false), (LAST - 1, false)], Some(1), &[1, 0], false),
            (&[(LAST * 2, false), (LAST, false)], Some(1), &[1], false),
            (&[(0, true)], Some(0), &[0], false),
            (&[(100, false), (50, false), (0, true)], Some(2), &[2], false),
            (&[(100, true), (0, false)], Some(0), &[1, 0], false),
        ] {
            let keys = keys(ages);
            let used = in_use(&keys);
            let ids: Vec<i64> = used.good.iter().map(|key| key.id).collect();
            assert_eq!(
                (used.signs.map(|key| key.id), &ids[..], used.given),
                (signs, good, given),
                "{ages:?}"
            );
        }
    }
}
