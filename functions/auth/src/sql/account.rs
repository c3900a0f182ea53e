//! What an account's owner sees, changes and ends. Each statement finds out for itself whether the caller's login goes on: an
//! access token outlives it.

use crate::http::Origin;
use crate::session::Owner;
use fnhost_sdk::outgoing::OutgoingEvents;
use fnhost_sdk::{Row, Sql, SqlError};
use serde::Serialize;
use uuid::Uuid;

/// $1 account, $2 login of the caller, $3 how many. No row where the caller's login has ended: it is one of them.
pub const SESSIONS: &str = "
SELECT login.id, login.id = mine.id,
    to_char(login.begun_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
    to_char(login.used_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
    to_char(login.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), login.device, login.method
FROM login JOIN login AS mine ON mine.id = $2::text::uuid AND mine.account_id = login.account_id
WHERE login.account_id = $1::text::uuid AND login.ended_at IS NULL AND login.expires_at > now()
    AND mine.ended_at IS NULL AND mine.expires_at > now()
ORDER BY login.id = mine.id DESC, login.used_at DESC, login.id
LIMIT $3::int8";

/// $1 account, $2 login of the caller, $3 the login to end or null for all others, $4 network, $5 client. One row with how many
/// were ended; none where the caller's has ended. Logins are locked in the order of their ids, so that two callers wait for
/// each other in one direction.
pub const END: &str = "
WITH mine AS (
    SELECT id FROM login
    WHERE id = $2::text::uuid AND account_id = $1::text::uuid AND ended_at IS NULL AND expires_at > now()
), held AS (
    SELECT login.id FROM login, mine
    WHERE login.account_id = $1::text::uuid AND login.ended_at IS NULL AND login.expires_at > now()
        AND CASE WHEN $3::text IS NULL THEN login.id <> mine.id ELSE login.id = $3::text::uuid END
    ORDER BY login.id FOR UPDATE OF login
), ended AS (
    UPDATE login SET ended_at = now() FROM held WHERE login.id = held.id AND login.ended_at IS NULL
    RETURNING login.id
), noted AS (
    INSERT INTO activity (account_id, what, network, device)
    SELECT $1::text::uuid, 'SESSIONS_ENDED', $4::text, $5::text FROM mine WHERE EXISTS (SELECT FROM ended)
)
SELECT (SELECT count(*) FROM ended) FROM mine";

/// $1 account, $2 login of the caller, $3 password hash, $4 the new one, $5 subjects whose attempt is given back, $6 the one of
/// them that is forgotten, $7 the attempt in the account's activity, $8 to $11 events. No row where the caller's login has
/// ended, or the password is another one meanwhile.
///
/// Every other login of the account ends, and every link that would set its password.
pub const CHANGE_PASSWORD: &str = "
WITH changed AS (
    UPDATE account SET password_hash = $4::text FROM login AS mine
    WHERE account.id = $1::text::uuid AND account.password_hash = $3::text AND mine.id = $2::text::uuid
        AND mine.account_id = account.id AND mine.ended_at IS NULL AND mine.expires_at > now()
    RETURNING account.id
), held AS (
    SELECT login.id FROM login JOIN changed ON changed.id = login.account_id
    WHERE login.ended_at IS NULL AND login.id <> $2::text::uuid ORDER BY login.id FOR UPDATE OF login
), ended AS (
    UPDATE login SET ended_at = now() FROM held WHERE login.id = held.id
), unlinked AS (
    DELETE FROM link USING changed WHERE link.account_id = changed.id AND link.purpose = 'reset-password'
), counted AS (
    SELECT throttle.subject FROM throttle, changed
    WHERE throttle.subject = ANY ($5::text[]) ORDER BY throttle.subject FOR UPDATE OF throttle
), given_back AS (
    UPDATE throttle SET failures = greatest(failures - 1, 0), locked_until = now()
    FROM counted WHERE throttle.subject = counted.subject AND counted.subject <> $6::text
), forgotten AS (
    DELETE FROM throttle USING counted WHERE throttle.subject = counted.subject AND counted.subject = $6::text
), noted AS (
    UPDATE activity SET what = 'PASSWORD_CHANGED' FROM changed
    WHERE activity.id = $7::int8 AND activity.account_id = changed.id
), event AS (
    INSERT INTO outgoing_event (topic, key, value, headers)
    SELECT event.topic, convert_to(event.key, 'UTF8'), convert_to(event.value, 'UTF8'), event.headers::jsonb
    FROM changed CROSS JOIN unnest($8::text[], $9::text[], $10::text[], $11::text[])
        AS event (topic, key, value, headers)
)
SELECT id FROM changed";

/// $1 account, $2 the login that goes on or null. Those that began while a password was changed are not seen by the statement
/// that changes it, which waited for them.
pub const END_LATE: &str = "
UPDATE login SET ended_at = now()
WHERE account_id = $1::text::uuid AND ended_at IS NULL AND id IS DISTINCT FROM $2::text::uuid";

/// $1 account, $2 login of the caller, $3 the entry to begin before, $4 how many. The first row says only whether the caller's
/// login goes on.
pub const ACTIVITY: &str = "
WITH mine AS (
    SELECT id FROM login
    WHERE id = $2::text::uuid AND account_id = $1::text::uuid AND ended_at IS NULL AND expires_at > now()
)
SELECT NULL::int8 AS id, NULL::text, NULL::text, NULL::text, NULL::text FROM mine
UNION ALL (
    SELECT activity.id, activity.what,
        to_char(activity.at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), activity.network, activity.device
    FROM activity, mine
    WHERE activity.account_id = $1::text::uuid AND activity.id < $3::int8
    ORDER BY activity.id DESC LIMIT $4::int8
)
ORDER BY id DESC NULLS FIRST";

/// A login that goes on.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = LoginSession))]
#[allow(missing_docs, reason = "named by the columns; times are RFC 3339")]
pub struct Session {
    pub session_id: Uuid,
    /// The one that asks.
    pub current: bool,
    pub begun_at: String,
    /// When its tokens were exchanged last.
    pub used_at: String,
    pub expires_at: String,
    /// What the client called itself; empty where it said nothing.
    pub device: String,
    /// What it was begun with.
    pub method: String,
}

/// Something that happened to an account.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = ActivityEntry))]
#[allow(missing_docs, reason = "named by the columns; times are RFC 3339")]
pub struct Entry {
    pub id: i64,
    pub what: String,
    pub at: String,
    /// An IPv4 address or the first 64 bits of an IPv6 address; empty where it is not known.
    pub network: String,
    /// What the client called itself; empty where it said nothing.
    pub device: String,
}

/// A password that is to be replaced.
#[derive(Debug)]
#[allow(missing_docs, reason = "named by the statement")]
pub struct Change {
    pub old_hash: String,
    pub new_hash: String,
    /// Subjects whose attempt is given back.
    pub counted: Vec<String>,
    /// The one of them whose failures are forgotten.
    pub forgotten: String,
    /// Where the attempt stands in the account's activity.
    pub attempt: Option<i64>,
}

/// The owner's logins that go on, the caller's first, then by their last use; none where the caller's has ended.
///
/// # Errors
/// What the database refused.
pub async fn sessions<S: Sql>(db: &S, owner: Owner, limit: i64) -> Result<Vec<Session>, SqlError> {
    let mut params = caller(owner);
    params.push(limit.into());
    let read = |row: &Row| {
        Ok(Session {
            session_id: row.uuid(0)?,
            current: row.bool(1)?,
            begun_at: row.text(2)?.to_owned(),
            used_at: row.text(3)?.to_owned(),
            expires_at: row.text(4)?.to_owned(),
            device: row.text(5)?.to_owned(),
            method: row.text(6)?.to_owned(),
        })
    };
    db.query(SESSIONS, params).await?.iter().map(read).collect()
}

/// Ends one login of the owner, or all but the caller's: how many; none where the caller's has ended.
///
/// # Errors
/// What the database refused.
pub async fn end<S: Sql>(
    db: &S,
    owner: Owner,
    one: Option<Uuid>,
    from: &Origin,
) -> Result<Option<i64>, SqlError> {
    let mut params = caller(owner);
    params.extend([
        one.map(|id| id.to_string()).into(),
        from.network.as_str().into(),
        from.device.as_str().into(),
    ]);
    db.query(END, params).await?.first().map(|row| row.int64(0)).transpose()
}

/// Replaces a password; false where the caller's login has ended or the password is another one meanwhile.
///
/// # Errors
/// What the database refused.
pub async fn change_password<S: Sql>(
    db: &S,
    owner: Owner,
    change: Change,
    events: OutgoingEvents,
) -> Result<bool, SqlError> {
    let Change { old_hash, new_hash, counted, forgotten, attempt } = change;
    let mut params = caller(owner);
    params.extend([
        old_hash.into(),
        new_hash.into(),
        counted.into_iter().collect(),
        forgotten.into(),
        attempt.into(),
    ]);
    params.extend(events.into_params());
    Ok(!db.query(CHANGE_PASSWORD, params).await?.is_empty())
}

/// Ends the logins that began while the password was changed.
///
/// # Errors
/// What the database refused.
pub async fn end_late<S: Sql>(db: &S, account_id: Uuid, but: Option<Uuid>) -> Result<(), SqlError> {
    let params = vec![account_id.to_string().into(), but.map(|id| id.to_string()).into()];
    db.execute(END_LATE, params).await.map(|_| ())
}

/// Up to `limit` entries below `before`, newest first; none where the caller's login has ended.
///
/// # Errors
/// What the database refused.
pub async fn activity<S: Sql>(
    db: &S,
    owner: Owner,
    before: i64,
    limit: i64,
) -> Result<Option<Vec<Entry>>, SqlError> {
    let mut params = caller(owner);
    params.extend([before.into(), limit.into()]);
    let rows = db.query(ACTIVITY, params).await?;
    let read = |row: &Row| {
        Ok(Entry {
            id: row.int64(0)?,
            what: row.text(1)?.to_owned(),
            at: row.text(2)?.to_owned(),
            network: row.text(3)?.to_owned(),
            device: row.text(4)?.to_owned(),
        })
    };
    let Some((_, entries)) = rows.split_first() else { return Ok(None) };
    entries.iter().map(read).collect::<Result<_, _>>().map(Some)
}

/// The first two parameters of each statement here.
pub(super) fn caller(owner: Owner) -> Vec<fnhost_sdk::Value> {
    vec![owner.account_id.to_string().into(), owner.login_id.to_string().into()]
}
