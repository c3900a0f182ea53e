//! Passkeys: their list, how one is added and removed, and what one that signs in is checked against. How it signs in is a way
//! to begin a [`login`](super::login).

use super::account::caller;
use super::login::spend;
use super::role;
use crate::http::Origin;
use crate::passkey::{Known, New};
use crate::session::Owner;
use crate::throttle::CLEARED_ROWS_MAX;
use contract::token::Role;
use fnhost_sdk::{Row, Sql, SqlError};
use serde::Serialize;
use uuid::Uuid;

/// Passkeys of an account at most.
pub const PASSKEYS_MAX: i64 = 20;

/// $1 account, $2 login of the caller, $3 how many. One row at least, unless the caller's login has ended.
pub const LIST: &str = "
SELECT passkey.id, passkey.name,
    to_char(passkey.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
    to_char(passkey.used_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), passkey.credential_id
FROM login LEFT JOIN passkey ON passkey.account_id = login.account_id
WHERE login.id = $2::text::uuid AND login.account_id = $1::text::uuid
    AND login.ended_at IS NULL AND login.expires_at > now()
ORDER BY passkey.created_at, passkey.id
LIMIT $3::int8";

/// $1 account, $2 login of the caller, $3 passkey, $4 id of the credential, $5 public key, $6 counter, $7 whether it may be copied,
/// $8 name, $9 hash of the challenge, $10 until when that is kept in seconds since 1970, $11 network, $12 client, $13 how many there
/// may be, $14 rows of used challenges to clear at most. One row: whether the challenge was good still, and whether there was
/// room; and how many were added, which is none where the credential is known. No row where the caller's login has ended.
///
/// Of two that add at a time one waits for the account; the number it compares may then be one too small.
pub const ADD: &str = concat!(
    "
WITH mine AS (
    SELECT account.id FROM account JOIN login ON login.account_id = account.id
    WHERE account.id = $1::text::uuid AND login.id = $2::text::uuid
        AND login.ended_at IS NULL AND login.expires_at > now()
    FOR NO KEY UPDATE OF account
), ",
    spend!("$9", "$10", "$14", "mine"),
    ", room AS (
    SELECT count(*) < $13::int8 AS left_over FROM passkey WHERE account_id = $1::text::uuid
), added AS (
    INSERT INTO passkey (id, account_id, credential_id, public_key, sign_count, backup_eligible, name)
    SELECT $3::text::uuid, mine.id, $4::bytea, $5::bytea, $6::int8, $7::bool, $8::text
    FROM mine, spent, room WHERE room.left_over
    ON CONFLICT (credential_id) DO NOTHING
    RETURNING id
), noted AS (
    INSERT INTO activity (account_id, what, network, device)
    SELECT mine.id, 'PASSKEY_ADDED', $11::text, $12::text FROM mine, added
)
SELECT EXISTS (SELECT FROM spent), room.left_over, EXISTS (SELECT FROM added) FROM mine, room"
);

/// $1 account, $2 login of the caller, $3 passkey, $4 network, $5 client. One row with how many were removed; none where the
/// caller's login has ended.
pub const REMOVE: &str = "
WITH mine AS (
    SELECT account_id FROM login
    WHERE id = $2::text::uuid AND account_id = $1::text::uuid AND ended_at IS NULL AND expires_at > now()
), removed AS (
    DELETE FROM passkey USING mine
    WHERE passkey.id = $3::text::uuid AND passkey.account_id = mine.account_id
    RETURNING passkey.id
), noted AS (
    INSERT INTO activity (account_id, what, network, device)
    SELECT $1::text::uuid, 'PASSKEY_REMOVED', $4::text, $5::text FROM removed
)
SELECT (SELECT count(*) FROM removed) FROM mine";

/// $1 id of a credential.
pub const FIND: &str = "
SELECT account.id, account.email, account.role, account.verified_at IS NOT NULL,
    passkey.public_key, passkey.sign_count, passkey.backup_eligible
FROM passkey JOIN account ON account.id = passkey.account_id
WHERE passkey.credential_id = $1::bytea";

/// $1 subjects whose attempt is given back, $2 the one of them that is forgotten, $3 the attempt in the account's activity, which
/// was none that failed.
pub const GIVE_BACK: &str = "
WITH held AS (
    SELECT subject FROM throttle WHERE subject = ANY ($1::text[]) ORDER BY subject FOR UPDATE
), given_back AS (
    UPDATE throttle SET failures = greatest(failures - 1, 0), locked_until = now()
    FROM held WHERE throttle.subject = held.subject AND held.subject <> $2::text
), forgotten AS (
    DELETE FROM throttle USING held WHERE throttle.subject = held.subject AND held.subject = $2::text
)
DELETE FROM activity WHERE id = $3::int8";

/// A passkey as its owner sees it.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(missing_docs, reason = "named by the columns; times are RFC 3339")]
pub struct Passkey {
    pub passkey_id: Uuid,
    /// As its owner called it.
    pub name: String,
    pub created_at: String,
    /// When it signed in last; null until it does.
    pub used_at: Option<String>,
    /// What its authenticator calls it.
    #[serde(skip)]
    pub credential_id: Vec<u8>,
}

/// A passkey that signs in, and its account.
#[derive(Debug)]
pub struct Found {
    /// What it is checked against.
    pub known: Known,
    /// The account's address.
    pub email: String,
    /// What the account may do.
    pub role: Role,
    /// The address was confirmed.
    pub verified: bool,
}

/// What became of a passkey that was to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addition {
    /// It is added.
    Done,
    /// The caller's login has ended.
    Ended,
    /// The challenge was used before.
    Used,
    /// The account has as many as it may have.
    TooMany,
    /// The credential is somebody's already.
    Known,
}

/// The owner's passkeys, the oldest first; none where the caller's login has ended.
///
/// # Errors
/// What the database refused.
pub async fn list<S: Sql>(db: &S, owner: Owner) -> Result<Option<Vec<Passkey>>, SqlError> {
    let mut params = caller(owner);
    params.push(PASSKEYS_MAX.into());
    let rows = db.query(LIST, params).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let read = |row: &Row| match row.text_or_null(0)? {
        None => Ok(None),
        Some(_) => Ok(Some(Passkey {
            passkey_id: row.uuid(0)?,
            name: row.text(1)?.to_owned(),
            created_at: row.text(2)?.to_owned(),
            used_at: row.text_or_null(3)?.map(str::to_owned),
            credential_id: row.bytes(4)?.to_vec(),
        })),
    };
    rows.iter().filter_map(|row| read(row).transpose()).collect::<Result<_, _>>().map(Some)
}

/// Adds a passkey that was checked.
///
/// # Errors
/// What the database refused.
pub async fn add<S: Sql>(
    db: &S,
    owner: Owner,
    (passkey_id, name): (Uuid, &str),
    new: New,
    from: &Origin,
) -> Result<Addition, SqlError> {
    let New { credential_id, public_key, sign_count, backup_eligible, challenge } = new;
    let mut params = caller(owner);
    params.extend([
        passkey_id.to_string().into(),
        credential_id.into(),
        public_key.into(),
        sign_count.into(),
        backup_eligible.into(),
        name.into(),
        challenge.hash.into(),
        challenge.kept_until.into(),
        from.network.as_str().into(),
        from.device.as_str().into(),
        PASSKEYS_MAX.into(),
        CLEARED_ROWS_MAX.into(),
    ]);
    let rows = db.query(ADD, params).await?;
    let Some(row) = rows.first() else { return Ok(Addition::Ended) };
    Ok(match (row.bool(0)?, row.bool(1)?, row.bool(2)?) {
        (false, _, _) => Addition::Used,
        (true, false, _) => Addition::TooMany,
        (true, true, false) => Addition::Known,
        (true, true, true) => Addition::Done,
    })
}

/// Removes a passkey of the owner: how many; none where the caller's login has ended.
///
/// # Errors
/// What the database refused.
pub async fn remove<S: Sql>(
    db: &S,
    owner: Owner,
    passkey_id: Uuid,
    from: &Origin,
) -> Result<Option<i64>, SqlError> {
    let mut params = caller(owner);
    params.extend([passkey_id.to_string().into(), from.network.as_str().into(), from.device.as_str().into()]);
    db.query(REMOVE, params).await?.first().map(|row| row.int64(0)).transpose()
}

/// The passkey with a credential of this id.
///
/// # Errors
/// What the database refused.
pub async fn find<S: Sql>(db: &S, credential_id: &[u8]) -> Result<Option<Found>, SqlError> {
    let rows = db.query(FIND, vec![credential_id.to_vec().into()]).await?;
    let read = |row: &Row| {
        Ok(Found {
            known: Known {
                account_id: row.uuid(0)?,
                public_key: row.bytes(4)?.to_vec(),
                sign_count: row.int64(5)?,
                backup_eligible: row.bool(6)?,
            },
            email: row.text(1)?.to_owned(),
            role: role(row, 2)?,
            verified: row.bool(3)?,
        })
    };
    rows.first().map(read).transpose()
}

/// Gives back an attempt that was right where no login begins.
///
/// # Errors
/// What the database refused.
pub async fn give_back<S: Sql>(
    db: &S,
    counted: Vec<String>,
    forgotten: String,
    attempt: Option<i64>,
) -> Result<(), SqlError> {
    let params = vec![counted.into_iter().collect(), forgotten.into(), attempt.into()];
    db.execute(GIVE_BACK, params).await.map(|_| ())
}
