//! Every statement of the auth function.

use crate::session::{REFRESH_SECONDS, Refresh};
use kit::token::Role;
use kit::{Row, Sql, SqlError};
use uuid::Uuid;

/// $1 account, $2 e-mail, $3 name or null, $4 password hash. No row where the address is taken.
pub const REGISTER: &str = "
INSERT INTO account (id, email, name, password_hash)
VALUES ($1::text::uuid, $2::text, $3::text, $4::text)
ON CONFLICT (email) DO NOTHING
RETURNING id";

/// $1 e-mail.
pub const CREDENTIALS: &str = "SELECT id, role, password_hash FROM account WHERE email = $1::text";

/// $1 account.
pub const ACCOUNT: &str = "SELECT email, name, role FROM account WHERE id = $1::text::uuid";

/// $1 hash, $2 account, $3 family, $4 seconds to live. Clears what has expired on the way.
pub const BEGIN_SESSION: &str = "
WITH cleared AS (
    DELETE FROM refresh_token WHERE account_id = $2::text::uuid AND expires_at < now()
)
INSERT INTO refresh_token (hash, account_id, family, expires_at)
VALUES ($1::bytea, $2::text::uuid, $3::text::uuid, now() + $4::int8 * interval '1 second')";

/// $1 hash of the old token, $2 of the new one, $3 seconds to live. No row where the old one is no good.
///
/// Of two exchanges of the same token one waits, and then finds it used.
pub const EXCHANGE: &str = "
WITH used AS (
    UPDATE refresh_token SET used_at = now()
    WHERE hash = $1::bytea AND used_at IS NULL AND expires_at > now()
    RETURNING account_id, family
), fresh AS (
    INSERT INTO refresh_token (hash, account_id, family, expires_at)
    SELECT $2::bytea, account_id, family, now() + $3::int8 * interval '1 second' FROM used
)
SELECT account.id, account.role FROM used JOIN account ON account.id = used.account_id";

/// $1 hash of a token. Where it was used before, every token that descends from the same login ends.
pub const END_FAMILY: &str = "
DELETE FROM refresh_token
WHERE family IN (SELECT family FROM refresh_token WHERE hash = $1::bytea AND used_at IS NOT NULL)";

/// An account that logs in.
#[derive(Debug)]
pub struct Credentials {
    /// The account.
    pub account_id: Uuid,
    /// What it may do.
    pub role: Role,
    /// PHC form.
    pub password_hash: String,
}

/// An account as its owner sees it.
#[derive(Debug)]
#[allow(missing_docs, reason = "named by the columns")]
pub struct Account {
    pub email: String,
    pub name: Option<String>,
    pub role: Role,
}

/// Writes a new account; false where the address is taken.
///
/// # Errors
/// What the database refused.
pub async fn register<S: Sql>(
    db: &S,
    account_id: Uuid,
    email: &str,
    name: Option<&str>,
    password_hash: String,
) -> Result<bool, SqlError> {
    let params = vec![account_id.to_string().into(), email.into(), name.into(), password_hash.into()];
    Ok(!db.query(REGISTER, params).await?.is_empty())
}

/// What a login at this address is checked against.
///
/// # Errors
/// What the database refused.
pub async fn credentials<S: Sql>(db: &S, email: &str) -> Result<Option<Credentials>, SqlError> {
    let rows = db.query(CREDENTIALS, vec![email.into()]).await?;
    rows.first()
        .map(|row| {
            let password_hash = row.text(2)?.to_owned();
            Ok(Credentials { account_id: row.uuid(0)?, role: role(row, 1)?, password_hash })
        })
        .transpose()
}

/// The account.
///
/// # Errors
/// What the database refused.
pub async fn account<S: Sql>(db: &S, account_id: Uuid) -> Result<Option<Account>, SqlError> {
    let rows = db.query(ACCOUNT, vec![account_id.to_string().into()]).await?;
    rows.first()
        .map(|row| {
            let name = row.text_or_null(1)?.map(str::to_owned);
            Ok(Account { email: row.text(0)?.to_owned(), name, role: role(row, 2)? })
        })
        .transpose()
}

/// Keeps the refresh token of a login.
///
/// # Errors
/// What the database refused.
pub async fn begin_session<S: Sql>(db: &S, account_id: Uuid, refresh: &Refresh) -> Result<(), SqlError> {
    let family = kit::time::Ids::new().next();
    let params = vec![
        refresh.hash.clone().into(),
        account_id.to_string().into(),
        family.to_string().into(),
        REFRESH_SECONDS.into(),
    ];
    db.execute(BEGIN_SESSION, params).await.map(|_| ())
}

/// Exchanges a refresh token; whose it was, or `None` where it is no good.
///
/// # Errors
/// What the database refused.
pub async fn exchange<S: Sql>(
    db: &S,
    old: &Refresh,
    new: &Refresh,
) -> Result<Option<(Uuid, Role)>, SqlError> {
    let params = vec![old.hash.clone().into(), new.hash.clone().into(), REFRESH_SECONDS.into()];
    let rows = db.query(EXCHANGE, params).await?;
    rows.first().map(|row| Ok((row.uuid(0)?, role(row, 1)?))).transpose()
}

/// Ends all sessions that descend from the login of a token that was used before; how many tokens that were.
///
/// # Errors
/// What the database refused.
pub async fn end_family<S: Sql>(db: &S, reused: &Refresh) -> Result<u64, SqlError> {
    db.execute(END_FAMILY, vec![reused.hash.clone().into()]).await
}

fn role(row: &Row, index: usize) -> Result<Role, SqlError> {
    match row.text(index)? {
        "customer" => Ok(Role::Customer),
        "admin" => Ok(Role::Admin),
        other => Err(SqlError::new(None, format!("there is no role {other:?}"))),
    }
}
