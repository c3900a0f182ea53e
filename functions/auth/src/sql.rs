//! Every statement of the auth function: here those of accounts and attempts, [`login`] for
//! what a login gives, [`mail`] for what a mail is sent for, [`account`] for what an account's owner sees and ends, and
//! [`passkey`] for passkeys.

pub mod account;
pub mod login;
pub mod mail;
pub mod passkey;

use crate::domain::{ACTIVITY_ROWS_MAX, ACTIVITY_SECONDS};
use crate::http::Origin;
use crate::link::Link;
use crate::throttle::{CLEARED_ROWS_MAX, MEMORY_SECONDS, Subject};
use contract::token::Role;
use fnhost_sdk::outgoing::OutgoingEvents;
use fnhost_sdk::{Row, Sql, SqlError, unnest};
use uuid::Uuid;

/// $1 e-mail or null, $2 name of the network, $3 names of the subjects, $4 their free failures, $5 their longest waits
/// in seconds, $6 1 where known networks are spared, $7 seconds of memory, $8 rows of others to clear at most, $9 network and
/// $10 client for the account's activity or null, $11 seconds and $12 rows of activity that are kept.
///
/// Counts an attempt for every subject, where none of them has to wait. Each row is judged again while it is written, so
/// of many attempts at a time no more are let in than of many after each other; rows are written in the order of their
/// names, so that attempts wait for each other in one direction.
///
/// An attempt stands in the account's activity as one that failed until it turns out to be right. It is written with what
/// is written for accounts that do not exist too, so that the time of the answer does not tell.
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
), noted AS (
    INSERT INTO activity (account_id, what, network, device)
    SELECT account.id, 'SIGN_IN_FAILED', $9::text, $10::text FROM account, locked
    WHERE account.email = $1::text AND $9::text IS NOT NULL AND locked.until IS NULL
    RETURNING id
), past AS (
    DELETE FROM activity USING (
        SELECT activity.id FROM account JOIN activity ON activity.account_id = account.id
        WHERE account.email = $1::text AND $9::text IS NOT NULL AND (
            activity.at < now() - $11::int8 * interval '1 second' OR activity.id <= (
                SELECT newer.id FROM activity AS newer WHERE newer.account_id = account.id
                ORDER BY newer.id DESC OFFSET $12::int8 LIMIT 1
            ))
        FOR UPDATE OF activity SKIP LOCKED
    ) AS old
    WHERE activity.id = old.id
)
SELECT ceil(extract(epoch FROM locked.until - now()))::int8,
       (SELECT count(*) FROM counted) = (SELECT count(*) FROM subject),
       known.here, account.id, account.role, account.password_hash, account.verified_at IS NOT NULL,
       (SELECT id FROM noted)
FROM locked CROSS JOIN known LEFT JOIN account ON account.email = $1::text";

/// $1 account, $2 e-mail, $3 name or null, $4 password hash, $5 subject whose attempt is given back, $6 hash of the link, $7
/// its purpose, $8 when it expires in seconds since 1970, $9 to $12 events. No row where the address is taken.
pub const REGISTER: &str = "
WITH made AS (
    INSERT INTO account (id, email, name, password_hash)
    VALUES ($1::text::uuid, $2::text, $3::text, $4::text)
    ON CONFLICT (email) DO NOTHING
    RETURNING id
), given_back AS (
    UPDATE throttle SET failures = greatest(failures - 1, 0), locked_until = now()
    FROM made WHERE throttle.subject = $5::text
), linked AS (
    INSERT INTO link (hash, account_id, purpose, expires_at)
    SELECT $6::bytea, id, $7::text, timestamptz 'epoch' + $8::int8 * interval '1 second' FROM made
), event AS (
    INSERT INTO outgoing_event (topic, key, value, headers)
    SELECT event.topic, convert_to(event.key, 'UTF8'), convert_to(event.value, 'UTF8'), event.headers::jsonb
    FROM made CROSS JOIN unnest($9::text[], $10::text[], $11::text[], $12::text[])
        AS event (topic, key, value, headers)
)
SELECT id FROM made";

/// $1 account.
pub const ACCOUNT: &str =
    "SELECT email, name, role, verified_at IS NOT NULL FROM account WHERE id = $1::text::uuid";

/// An account that logs in.
#[derive(Debug)]
pub struct Credentials {
    /// Id of the account.
    pub account_id: Uuid,
    /// What it may do.
    pub role: Role,
    /// PHC form.
    pub password_hash: String,
    /// The address was confirmed.
    pub verified: bool,
    /// Where the attempt stands in the account's activity.
    pub attempt: Option<i64>,
}

/// An attempt that is to be counted.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// Of the account that it is made at.
    pub email: &'a str,
    /// The name of the network that is spared where the account knows it.
    pub network: &'a str,
    /// What it is counted for.
    pub subjects: &'a [Subject],
    /// Where it comes from, if it is to stand in the account's activity.
    pub noted: Option<&'a Origin>,
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

/// An account that is to be made.
#[derive(Debug)]
#[allow(missing_docs, reason = "named by the columns")]
pub struct NewAccount<'a> {
    pub account_id: Uuid,
    pub email: &'a str,
    pub name: Option<&'a str>,
    pub password_hash: String,
    /// The subject whose attempt is given back.
    pub subject: &'a Subject,
    /// What confirms the address.
    pub link: &'a Link,
}

/// An account as its owner sees it.
#[derive(Debug)]
#[allow(missing_docs, reason = "named by the columns")]
pub struct Account {
    pub email: String,
    pub name: Option<String>,
    pub role: Role,
    /// The address was confirmed.
    pub verified: bool,
}

/// Counts an attempt for its subjects.
///
/// # Errors
/// What the database refused.
pub async fn admit<S: Sql>(db: &S, attempt: Attempt<'_>) -> Result<Admission, SqlError> {
    /// Of an attempt that lost a race to others.
    const RACE_WAIT_SECONDS: i64 = 1;
    let Attempt { email, network, subjects, noted } = attempt;
    let mut params = vec![email.into(), network.into()];
    params.extend(unnest(subjects.iter().map(|Subject { name, limit, spares_known }| {
        (name, limit.free, limit.wait_max, i32::from(*spares_known))
    })));
    params.extend([MEMORY_SECONDS.into(), CLEARED_ROWS_MAX.into()]);
    let (from, device) = noted.map(|Origin { network, device }| (network.as_str(), device.as_str())).unzip();
    params.extend([from.into(), device.into(), ACTIVITY_SECONDS.into(), ACTIVITY_ROWS_MAX.into()]);
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
            verified: row.bool(6)?,
            attempt: row.int64_or_null(7)?,
        }),
    };
    Ok(Admission::Attempt { credentials, counted: counted.map(|subject| subject.name.clone()).collect() })
}

/// Writes a new account with its link and the event that sends it; false where the address is taken.
///
/// # Errors
/// What the database refused.
pub async fn register<S: Sql>(
    db: &S,
    account: NewAccount<'_>,
    events: OutgoingEvents,
) -> Result<bool, SqlError> {
    let NewAccount { account_id, email, name, password_hash, subject, link } = account;
    let mut params = vec![
        account_id.to_string().into(),
        email.into(),
        name.into(),
        password_hash.into(),
        subject.name.as_str().into(),
        link.hash.clone().into(),
        link.purpose.as_str().into(),
        link.expires_at.into(),
    ];
    params.extend(events.into_params());
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
            Ok(Account { email: row.text(0)?.to_owned(), name, role: role(row, 2)?, verified: row.bool(3)? })
        })
        .transpose()
}

fn role(row: &Row, index: usize) -> Result<Role, SqlError> {
    match row.text(index)? {
        "customer" => Ok(Role::Customer),
        "admin" => Ok(Role::Admin),
        other => Err(SqlError::new(None, format!("there is no role {other:?}"))),
    }
}
