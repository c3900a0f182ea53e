//! Logins: how one begins, goes on by exchanges of its refresh token, and ends.

use super::role;
use crate::http::Origin;
use crate::passkey::Accepted;
use crate::session::{LOGIN_SECONDS_MAX, Owner, REFRESH_SECONDS, Refresh};
use crate::throttle::CLEARED_ROWS_MAX;
use contract::token::Role;
use fnhost_sdk::{Sql, SqlError};
use uuid::Uuid;

/// Clears used challenges whose time is over, and uses this one; no row of `spent` where it was used before, or `$of` has none.
/// Parameters: hash of the challenge, until when that is kept in seconds since 1970, rows to clear at most.
macro_rules! spend {
    ($hash:literal, $kept_until:literal, $cleared_max:literal, $of:literal) => {
        concat!(
            "cleared AS (
    DELETE FROM used_challenge USING (
        SELECT hash FROM used_challenge WHERE kept_until < now() AND hash <> ",
            $hash,
            "::bytea
        ORDER BY kept_until LIMIT ",
            $cleared_max,
            "::int8 FOR UPDATE SKIP LOCKED
    ) AS past
    WHERE used_challenge.hash = past.hash
), spent AS (
    INSERT INTO used_challenge (hash, kept_until)
    SELECT ",
            $hash,
            "::bytea, timestamptz 'epoch' + ",
            $kept_until,
            "::int8 * interval '1 second' FROM ",
            $of,
            "
    ON CONFLICT (hash) DO NOTHING
    RETURNING hash
)"
        )
    };
}
pub(super) use spend;

/// The statement by which a login begins: what it checks, and what it is called in the account's activity and in the list of
/// logins. Writes no row where nothing is `checked`.
///
/// $1 login, $2 account, $3 name of the network, $4 hash of the refresh token, $5 its seconds to live, $6 subjects whose
/// attempt is given back, $7 the one of them that is forgotten, $8 what the client calls itself, $9 the attempt in the account's
/// activity; further ones are those of the check. Clears what has expired on the way.
macro_rules! begin {
    ($checked:expr, $activity:literal, $method:literal) => {
        concat!(
            "
WITH ",
            $checked,
            ", expired_token AS (
    DELETE FROM refresh_token WHERE account_id = $2::text::uuid AND expires_at < now()
), expired_login AS (
    DELETE FROM login WHERE account_id = $2::text::uuid AND expires_at < now()
), held AS (
    SELECT subject FROM throttle WHERE subject = ANY ($6::text[]) ORDER BY subject FOR UPDATE
), given_back AS (
    UPDATE throttle SET failures = greatest(failures - 1, 0), locked_until = now()
    FROM held, checked WHERE throttle.subject = held.subject AND held.subject <> $7::text
), forgotten AS (
    DELETE FROM throttle USING held, checked WHERE throttle.subject = held.subject AND held.subject = $7::text
), noted AS (
    UPDATE activity SET what = '",
            $activity,
            "' FROM checked
    WHERE activity.id = $9::int8 AND activity.account_id = checked.id
), begun AS (
    INSERT INTO login (id, account_id, network, expires_at, device, method)
    SELECT $1::text::uuid, id, $3::text, now() + $5::int8 * interval '1 second', $8::text, '",
            $method,
            "' FROM checked
)
INSERT INTO refresh_token (hash, account_id, family, expires_at)
SELECT $4::bytea, id, $1::text::uuid, now() + $5::int8 * interval '1 second' FROM checked"
        )
    };
}

/// $10 the password hash that was checked, $11 one to replace it or null. Nothing where the password was changed meanwhile:
/// whoever changes it waits for the lock, and then ends this login too.
pub const BEGIN_BY_PASSWORD: &str = begin!(
    "checked AS (
    SELECT id FROM account WHERE id = $2::text::uuid AND password_hash = $10::text FOR SHARE
), rehashed AS (
    UPDATE account SET password_hash = $11::text FROM checked WHERE account.id = checked.id AND $11::text IS NOT NULL
)",
    "SIGNED_IN",
    "password"
);

/// $10 id of the passkey, $11 its counter, $12 hash of the challenge, $13 until when that is kept in seconds since 1970, $14 rows of
/// used challenges to clear at most. Nothing where the challenge was used before, the counter does not rise, or the passkey was
/// removed meanwhile: whoever sets the password by a mail takes the locks in this order too.
pub const BEGIN_BY_PASSKEY: &str = begin!(
    concat!(
        "owner AS (
    SELECT id FROM account WHERE id = $2::text::uuid FOR SHARE
), ",
        spend!("$12", "$13", "$14", "owner"),
        ", checked AS (
    UPDATE passkey SET sign_count = $11::int8, used_at = now() FROM owner, spent
    WHERE passkey.credential_id = $10::bytea AND passkey.account_id = owner.id
        AND ($11::int8 > passkey.sign_count OR ($11::int8 = 0 AND passkey.sign_count = 0))
    RETURNING owner.id
)"
    ),
    "SIGNED_IN_WITH_PASSKEY",
    "passkey"
);

/// $1 hash of the old token, $2 of the new one, $3 seconds to live, $4 seconds that a login lives, $5 network and $6 client.
/// One row: whether the token had been used before and its login was ended for that, and account and login where the
/// exchange was made.
///
/// Of two exchanges of the same token one waits, finds it used, and ends the login. An exchange writes the row of its
/// login, so one that runs while the login is ended waits and then makes nothing.
pub const EXCHANGE: &str = "
WITH token AS (
    SELECT hash, family, used_at IS NOT NULL AS used, expires_at > now() AS good
    FROM refresh_token WHERE hash = $1::bytea FOR UPDATE
), ended AS (
    UPDATE login SET ended_at = now() FROM token
    WHERE login.id = token.family AND token.used AND login.ended_at IS NULL
    RETURNING login.id, login.account_id
), noted AS (
    INSERT INTO activity (account_id, what, network, device)
    SELECT account_id, 'TOKEN_REUSED', $5::text, $6::text FROM ended
), kept AS (
    UPDATE login SET used_at = now(), expires_at = least(
        now() + $3::int8 * interval '1 second', login.begun_at + $4::int8 * interval '1 second')
    FROM token
    WHERE login.id = token.family AND token.good AND NOT token.used AND login.ended_at IS NULL
        AND login.begun_at + $4::int8 * interval '1 second' > now()
    RETURNING login.id, login.account_id, login.expires_at
), used AS (
    UPDATE refresh_token SET used_at = now() FROM kept WHERE refresh_token.hash = $1::bytea
), fresh AS (
    INSERT INTO refresh_token (hash, account_id, family, expires_at)
    SELECT $2::bytea, account_id, id, expires_at FROM kept
)
SELECT EXISTS (SELECT FROM ended), account.id, account.role, kept.id
FROM (SELECT) AS one LEFT JOIN kept ON true LEFT JOIN account ON account.id = kept.account_id";

/// $1 hash of a token, used or not. Ends its login.
pub const END: &str = "
UPDATE login SET ended_at = now()
WHERE ended_at IS NULL AND id = (SELECT family FROM refresh_token WHERE hash = $1::bytea)";

/// What becomes of an exchange.
#[derive(Debug)]
pub enum Exchange {
    /// The login that goes on.
    Done(Owner, Role),
    /// The token had been used before: its login has ended with this.
    Reused,
    /// The token is unknown, expired, or its login had ended.
    Refused,
}

/// What somebody logged in with.
#[derive(Debug)]
pub enum Proof {
    /// A password.
    Password {
        /// The password hash that was checked.
        checked: String,
        /// What replaces it, where its parameters are old.
        rehashed: Option<String>,
    },
    /// A passkey.
    Passkey {
        /// Its id.
        credential_id: Vec<u8>,
        /// Its counter and what it answered.
        accepted: Accepted,
    },
}

/// What is written when somebody has logged in.
#[derive(Debug)]
pub struct Begin<'a> {
    /// Id of the account.
    pub account_id: Uuid,
    /// The name of the network that it logs in from.
    pub network: String,
    /// The first token.
    pub refresh: &'a Refresh,
    /// Subjects whose attempt is given back.
    pub counted: Vec<String>,
    /// The one of them whose failures are forgotten.
    pub forgotten: String,
    /// What was checked, and is checked once more.
    pub proof: Proof,
    /// What the client calls itself.
    pub device: &'a str,
    /// Where the attempt stands in the account's activity.
    pub attempt: Option<i64>,
}

/// Keeps a login and its first refresh token; none where what was checked does not hold any more.
///
/// # Errors
/// What the database refused.
pub async fn begin<S: Sql>(db: &S, begin: Begin<'_>) -> Result<Option<Owner>, SqlError> {
    let Begin { account_id, network, refresh, counted, forgotten, proof, device, attempt } = begin;
    let login = fnhost_sdk::time::Ids::new().next();
    let mut params = vec![
        login.to_string().into(),
        account_id.to_string().into(),
        network.into(),
        refresh.hash.clone().into(),
        REFRESH_SECONDS.into(),
        counted.into_iter().collect(),
        forgotten.into(),
        device.into(),
        attempt.into(),
    ];
    let statement = match proof {
        Proof::Password { checked, rehashed } => {
            params.extend([checked.into(), rehashed.into()]);
            BEGIN_BY_PASSWORD
        }
        Proof::Passkey { credential_id, accepted: Accepted { sign_count, challenge } } => {
            params.extend([credential_id.into(), sign_count.into(), challenge.hash.into()]);
            params.extend([challenge.kept_until.into(), CLEARED_ROWS_MAX.into()]);
            BEGIN_BY_PASSKEY
        }
    };
    let rows = db.execute(statement, params).await?;
    Ok((rows > 0).then_some(Owner { account_id, login_id: login }))
}

/// Exchanges a refresh token.
///
/// # Errors
/// What the database refused.
pub async fn exchange<S: Sql>(
    db: &S,
    old: &Refresh,
    new: &Refresh,
    from: &Origin,
) -> Result<Exchange, SqlError> {
    let params = vec![
        old.hash.clone().into(),
        new.hash.clone().into(),
        REFRESH_SECONDS.into(),
        LOGIN_SECONDS_MAX.into(),
        from.network.as_str().into(),
        from.device.as_str().into(),
    ];
    let rows = db.query(EXCHANGE, params).await?;
    let row = rows.first().ok_or_else(|| SqlError::new(None, "no answer to an exchange"))?;
    Ok(match (row.bool(0)?, row.text_or_null(1)?) {
        (true, _) => Exchange::Reused,
        (false, None) => Exchange::Refused,
        (false, Some(_)) => {
            Exchange::Done(Owner { account_id: row.uuid(1)?, login_id: row.uuid(3)? }, role(row, 2)?)
        }
    })
}

/// Ends the login that a token descends from, where it has not ended.
///
/// # Errors
/// What the database refused.
pub async fn end<S: Sql>(db: &S, refresh: &Refresh) -> Result<(), SqlError> {
    db.execute(END, vec![refresh.hash.clone().into()]).await.map(|_| ())
}
