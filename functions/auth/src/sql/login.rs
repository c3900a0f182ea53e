//! Logins: how one begins, goes on by exchanges of its refresh token, and ends.

use super::role;
use crate::http::Origin;
use crate::session::{LOGIN_SECONDS_MAX, Owner, REFRESH_SECONDS, Refresh};
use contract::token::Role;
use fnhost_sdk::{Sql, SqlError};
use uuid::Uuid;

/// $1 login, $2 account, $3 name of the network, $4 hash of the refresh token, $5 its seconds to live, $6 subjects whose
/// attempt is given back, $7 the one of them that is forgotten, $8 the password hash that was checked, $9 one to replace it or
/// null, $10 what the client calls itself, $11 the attempt in the account's activity. Writes no row where the password was
/// changed meanwhile: whoever changes it waits for the lock, and then ends this login too.
///
/// Clears what has expired on the way.
pub const BEGIN: &str = "
WITH checked AS (
    SELECT id FROM account WHERE id = $2::text::uuid AND password_hash = $8::text FOR SHARE
), expired_token AS (
    DELETE FROM refresh_token WHERE account_id = $2::text::uuid AND expires_at < now()
), expired_login AS (
    DELETE FROM login WHERE account_id = $2::text::uuid AND expires_at < now()
), rehashed AS (
    UPDATE account SET password_hash = $9::text FROM checked WHERE account.id = checked.id AND $9::text IS NOT NULL
), held AS (
    SELECT subject FROM throttle WHERE subject = ANY ($6::text[]) ORDER BY subject FOR UPDATE
), given_back AS (
    UPDATE throttle SET failures = greatest(failures - 1, 0), locked_until = now()
    FROM held WHERE throttle.subject = held.subject AND held.subject <> $7::text
), forgotten AS (
    DELETE FROM throttle USING held WHERE throttle.subject = held.subject AND held.subject = $7::text
), noted AS (
    UPDATE activity SET what = 'SIGNED_IN' FROM checked
    WHERE activity.id = $11::int8 AND activity.account_id = checked.id
), begun AS (
    INSERT INTO login (id, account_id, network, expires_at, device)
    SELECT $1::text::uuid, id, $3::text, now() + $5::int8 * interval '1 second', $10::text FROM checked
)
INSERT INTO refresh_token (hash, account_id, family, expires_at)
SELECT $4::bytea, id, $1::text::uuid, now() + $5::int8 * interval '1 second' FROM checked";

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
    /// The password hash that was checked.
    pub checked: String,
    /// What replaces it, where its parameters are old.
    pub rehashed: Option<String>,
    /// What the client calls itself.
    pub device: &'a str,
    /// Where the attempt stands in the account's activity.
    pub attempt: Option<i64>,
}

/// Keeps a login and its first refresh token; none where the password was changed meanwhile.
///
/// # Errors
/// What the database refused.
pub async fn begin<S: Sql>(db: &S, begin: Begin<'_>) -> Result<Option<Owner>, SqlError> {
    let Begin { account_id, network, refresh, counted, forgotten, checked, rehashed, device, attempt } =
        begin;
    let login = fnhost_sdk::time::Ids::new().next();
    let params = vec![
        login.to_string().into(),
        account_id.to_string().into(),
        network.into(),
        refresh.hash.clone().into(),
        REFRESH_SECONDS.into(),
        counted.into_iter().collect(),
        forgotten.into(),
        checked.into(),
        rehashed.into(),
        device.into(),
        attempt.into(),
    ];
    let rows = db.execute(BEGIN, params).await?;
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
