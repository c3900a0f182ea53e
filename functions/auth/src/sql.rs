//! Every statement of the auth function.

use crate::session::{REFRESH_SECONDS, Refresh};
use crate::throttle::{CLEARED_ROWS_MAX, MEMORY_SECONDS, Subject};
use contract::token::Role;
use fnhost_sdk::{Row, Sql, SqlError, unnest};
use uuid::Uuid;

/// $1 e-mail or null, $2 name of the network, $3 names of the subjects, $4 their free failures, $5 their longest waits
/// in seconds, $6 1 where known networks are spared, $7 seconds of memory, $8 rows of others to clear at most.
///
/// Counts an attempt for every subject, where none of them has to wait. Each row is judged again while it is written, so
/// of many attempts at a time no more are let in than of many after each other; rows are written in the order of their
/// names, so that attempts wait for each other in one direction.
pub const ADMIT: &str = "
WITH known AS (
    SELECT count(*) > 0 AS here
    FROM account JOIN login ON login.account_id = account.id
    WHERE account.email = $1::text AND login.network = $2::text AND login.expires_at > now()
), subject AS (
    SELECT given.name, given.free, given.wait_max
    FROM unnest($3::text[], $4::int4[], $5::int4[], $6::int4[]) AS given (name, free, wait_max, spares_known), known
    WHERE NOT (given.spares_known = 1 AND known.here)
), locked AS (
    SELECT max(throttle.locked_until) AS until
    FROM subject JOIN throttle ON throttle.subject = subject.name
    WHERE throttle.locked_until > clock_timestamp()
), cleared AS (
    DELETE FROM throttle USING (
        SELECT subject FROM throttle
        WHERE touched_at < now() - $7::int8 * interval '1 second' AND subject <> ALL ($3::text[])
        ORDER BY touched_at LIMIT $8::int8 FOR UPDATE SKIP LOCKED
    ) AS forgotten
    WHERE throttle.subject = forgotten.subject
), counted AS (
    INSERT INTO throttle AS t (subject, failures, locked_until, touched_at)
    SELECT subject.name, 1, now(), now() FROM subject, locked WHERE locked.until IS NULL ORDER BY subject.name
    ON CONFLICT (subject) DO UPDATE SET (failures, locked_until, touched_at) = (
        SELECT now_are.failures,
               now() + interval '1 second' * CASE WHEN now_are.failures < subject.free THEN 0
                   ELSE least(subject.wait_max, power(2, least(now_are.failures - subject.free, 30))) END,
               now()
        FROM subject, LATERAL (
            SELECT CASE WHEN t.touched_at < now() - $7::int8 * interval '1 second' THEN 1 ELSE t.failures + 1 END
        ) AS now_are (failures)
        WHERE subject.name = t.subject
    )
    WHERE t.locked_until <= clock_timestamp()
    RETURNING 1
)
SELECT ceil(extract(epoch FROM locked.until - now()))::int8,
       (SELECT count(*) FROM counted) = (SELECT count(*) FROM subject),
       known.here, account.id, account.role, account.password_hash
FROM locked CROSS JOIN known LEFT JOIN account ON account.email = $1::text";

/// $1 account, $2 e-mail, $3 name or null, $4 password hash, $5 subject whose attempt is given back. No row where the
/// address is taken.
pub const REGISTER: &str = "
WITH made AS (
    INSERT INTO account (id, email, name, password_hash)
    VALUES ($1::text::uuid, $2::text, $3::text, $4::text)
    ON CONFLICT (email) DO NOTHING
    RETURNING id
), given_back AS (
    UPDATE throttle SET failures = greatest(failures - 1, 0), locked_until = now()
    FROM made WHERE throttle.subject = $5::text
)
SELECT id FROM made";

/// $1 account.
pub const ACCOUNT: &str = "SELECT email, name, role FROM account WHERE id = $1::text::uuid";

/// $1 login, $2 account, $3 name of the network, $4 hash of the refresh token, $5 its seconds to live, $6 subjects whose
/// attempt is given back, $7 the one of them that is forgotten, $8 password hash to replace or null, $9 the new one.
///
/// Clears what has expired on the way. A password that was changed meanwhile is not overwritten.
pub const BEGIN_SESSION: &str = "
WITH expired_token AS (
    DELETE FROM refresh_token WHERE account_id = $2::text::uuid AND expires_at < now()
), expired_login AS (
    DELETE FROM login WHERE account_id = $2::text::uuid AND expires_at < now()
), rehashed AS (
    UPDATE account SET password_hash = $9::text WHERE id = $2::text::uuid AND password_hash = $8::text
), held AS (
    SELECT subject FROM throttle WHERE subject = ANY ($6::text[]) ORDER BY subject FOR UPDATE
), given_back AS (
    UPDATE throttle SET failures = greatest(failures - 1, 0), locked_until = now()
    FROM held WHERE throttle.subject = held.subject AND held.subject <> $7::text
), forgotten AS (
    DELETE FROM throttle USING held WHERE throttle.subject = held.subject AND held.subject = $7::text
), begun AS (
    INSERT INTO login (id, account_id, network, expires_at)
    VALUES ($1::text::uuid, $2::text::uuid, $3::text, now() + $5::int8 * interval '1 second')
)
INSERT INTO refresh_token (hash, account_id, family, expires_at)
VALUES ($4::bytea, $2::text::uuid, $1::text::uuid, now() + $5::int8 * interval '1 second')";

/// $1 hash of the old token, $2 of the new one, $3 seconds to live. One row: whether the token had been used before and
/// its login was ended for that, and the account where the exchange was made.
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
    RETURNING login.id
), kept AS (
    UPDATE login SET expires_at = now() + $3::int8 * interval '1 second' FROM token
    WHERE login.id = token.family AND token.good AND NOT token.used AND login.ended_at IS NULL
    RETURNING login.id, login.account_id, login.expires_at
), used AS (
    UPDATE refresh_token SET used_at = now() FROM kept WHERE refresh_token.hash = $1::bytea
), fresh AS (
    INSERT INTO refresh_token (hash, account_id, family, expires_at)
    SELECT $2::bytea, account_id, id, expires_at FROM kept
)
SELECT EXISTS (SELECT FROM ended), account.id, account.role
FROM (SELECT) AS one LEFT JOIN kept ON true LEFT JOIN account ON account.id = kept.account_id";

/// $1 hash of a token, used or not. Ends its login.
pub const END_SESSION: &str = "
UPDATE login SET ended_at = now()
WHERE ended_at IS NULL AND id = (SELECT family FROM refresh_token WHERE hash = $1::bytea)";

/// An account that logs in.
#[derive(Debug)]
pub struct Credentials {
    /// Id of the account.
    pub account_id: Uuid,
    /// What it may do.
    pub role: Role,
    /// PHC form.
    pub password_hash: String,
}

/// Whether an attempt may be made.
#[derive(Debug)]
pub enum Admission {
    /// It may not, for this many seconds.
    Wait(i64),
    /// It may, and is counted.
    Attempt {
        /// What the password is checked against; none where there is no such account.
        credentials: Option<Credentials>,
        /// The names of the subjects that it is counted for.
        counted: Vec<String>,
    },
}

/// What becomes of an exchange.
#[derive(Debug)]
pub enum Exchange {
    /// The account that goes on.
    Done(Uuid, Role),
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
    /// A password hash of old parameters and its replacement.
    pub rehashed: Option<(String, String)>,
}

/// An account as its owner sees it.
#[derive(Debug)]
#[allow(missing_docs, reason = "named by the columns")]
pub struct Account {
    pub email: String,
    pub name: Option<String>,
    pub role: Role,
}

/// Counts an attempt of these subjects, for a login at this address where one is given.
///
/// # Errors
/// What the database refused.
pub async fn admit<S: Sql>(
    db: &S,
    email: Option<&str>,
    network: &str,
    subjects: &[Subject],
) -> Result<Admission, SqlError> {
    /// Of an attempt that lost a race to others.
    const RACE_WAIT_SECONDS: i64 = 1;
    let mut params = vec![email.into(), network.into()];
    params.extend(unnest(subjects.iter().map(|Subject { name, limit, spares_known }| {
        (name, limit.free, limit.wait_max, i32::from(*spares_known))
    })));
    params.extend([MEMORY_SECONDS.into(), CLEARED_ROWS_MAX.into()]);
    let rows = db.query(ADMIT, params).await?;
    let row = rows.first().ok_or_else(|| SqlError::new(None, "no answer to an attempt"))?;
    if let Some(seconds) = row.int64_or_null(0)? {
        return Ok(Admission::Wait(seconds));
    }
    if !row.bool(1)? {
        return Ok(Admission::Wait(RACE_WAIT_SECONDS));
    }
    let known = row.bool(2)?;
    let counted = subjects.iter().filter(|subject| !(known && subject.spares_known));
    let credentials = match row.text_or_null(3)? {
        None => None,
        Some(_) => Some(Credentials {
            account_id: row.uuid(3)?,
            role: role(row, 4)?,
            password_hash: row.text(5)?.to_owned(),
        }),
    };
    Ok(Admission::Attempt { credentials, counted: counted.map(|subject| subject.name.clone()).collect() })
}

/// Writes a new account and gives back the attempt of `subject`; false where the address is taken.
///
/// # Errors
/// What the database refused.
pub async fn register<S: Sql>(
    db: &S,
    account_id: Uuid,
    email: &str,
    name: Option<&str>,
    password_hash: String,
    subject: &Subject,
) -> Result<bool, SqlError> {
    let id = account_id.to_string();
    let params =
        vec![id.into(), email.into(), name.into(), password_hash.into(), subject.name.as_str().into()];
    Ok(!db.query(REGISTER, params).await?.is_empty())
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

/// Keeps a login and its first refresh token.
///
/// # Errors
/// What the database refused.
pub async fn begin_session<S: Sql>(db: &S, begin: Begin<'_>) -> Result<(), SqlError> {
    let Begin { account_id, network, refresh, counted, forgotten, rehashed } = begin;
    let login = fnhost_sdk::time::Ids::new().next();
    let (old, new) = rehashed.unzip();
    let params = vec![
        login.to_string().into(),
        account_id.to_string().into(),
        network.into(),
        refresh.hash.clone().into(),
        REFRESH_SECONDS.into(),
        counted.into_iter().collect(),
        forgotten.into(),
        old.into(),
        new.into(),
    ];
    db.execute(BEGIN_SESSION, params).await.map(|_| ())
}

/// Exchanges a refresh token.
///
/// # Errors
/// What the database refused.
pub async fn exchange<S: Sql>(db: &S, old: &Refresh, new: &Refresh) -> Result<Exchange, SqlError> {
    let params = vec![old.hash.clone().into(), new.hash.clone().into(), REFRESH_SECONDS.into()];
    let rows = db.query(EXCHANGE, params).await?;
    let row = rows.first().ok_or_else(|| SqlError::new(None, "no answer to an exchange"))?;
    Ok(match (row.bool(0)?, row.text_or_null(1)?) {
        (true, _) => Exchange::Reused,
        (false, None) => Exchange::Refused,
        (false, Some(_)) => Exchange::Done(row.uuid(1)?, role(row, 2)?),
    })
}

/// Ends the login that a token descends from, where it has not ended.
///
/// # Errors
/// What the database refused.
pub async fn end_session<S: Sql>(db: &S, refresh: &Refresh) -> Result<(), SqlError> {
    db.execute(END_SESSION, vec![refresh.hash.clone().into()]).await.map(|_| ())
}

fn role(row: &Row, index: usize) -> Result<Role, SqlError> {
    match row.text(index)? {
        "customer" => Ok(Role::Customer),
        "admin" => Ok(Role::Admin),
        other => Err(SqlError::new(None, format!("there is no role {other:?}"))),
    }
}
