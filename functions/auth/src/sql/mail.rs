//! What a mail is sent for: confirmed addresses, and passwords that are set anew.

use crate::http::Origin;
use crate::link::Link;
use crate::throttle::Subject;
use fnhost_sdk::outgoing::OutgoingEvents;
use fnhost_sdk::{Sql, SqlError};
use uuid::Uuid;

/// $1 account, $2 subject, $3 hash of the link or null, $4 its purpose, $5 when it expires in seconds since 1970, $6 to $9
/// events. Nothing is sent where there is no such account.
///
/// Clears the account's links that have expired on the way. It writes the row of the subject in any case, so that there is
/// something to commit whether the account exists or not.
pub const SEND: &str = "
WITH known AS (
    SELECT id FROM account WHERE id = $1::text::uuid
), touched AS (
    UPDATE throttle SET touched_at = now() WHERE subject = $2::text
), expired AS (
    DELETE FROM link WHERE account_id = $1::text::uuid AND expires_at < now()
), linked AS (
    INSERT INTO link (hash, account_id, purpose, expires_at)
    SELECT $3::bytea, id, $4::text, timestamptz 'epoch' + $5::int8 * interval '1 second'
    FROM known WHERE $3::bytea IS NOT NULL
)
INSERT INTO outgoing_event (topic, key, value, headers)
SELECT event.topic, convert_to(event.key, 'UTF8'), convert_to(event.value, 'UTF8'), event.headers::jsonb
FROM known CROSS JOIN unnest($6::text[], $7::text[], $8::text[], $9::text[]) AS event (topic, key, value, headers)";

/// $1 hash of a link that sets a password. The account where it can be followed.
pub const RESETTABLE: &str = "
SELECT account.id, account.email
FROM link JOIN account ON account.id = link.account_id
WHERE link.hash = $1::bytea AND link.purpose = 'reset-password' AND link.used_at IS NULL AND link.expires_at > now()";

/// $1 hash of the link, $2 password hash, $3 network, $4 client, $5 to $8 events. No row where the link is not good any more.
///
/// Of two that follow a link one waits, and finds it used. Every login of the account ends, and every other link that would
/// set its password; its passkeys go, since whoever made its owner come this way may have added one. The mail arrived, so the
/// address is confirmed.
pub const RESET: &str = "
WITH followed AS (
    UPDATE link SET used_at = now()
    WHERE hash = $1::bytea AND purpose = 'reset-password' AND used_at IS NULL AND expires_at > now()
    RETURNING account_id
), changed AS (
    UPDATE account SET password_hash = $2::text, verified_at = coalesce(verified_at, now())
    FROM followed WHERE account.id = followed.account_id
    RETURNING account.id
), held AS (
    SELECT login.id FROM login JOIN changed ON changed.id = login.account_id
    WHERE login.ended_at IS NULL ORDER BY login.id FOR UPDATE OF login
), ended AS (
    UPDATE login SET ended_at = now() FROM held WHERE login.id = held.id
), passkeys AS (
    DELETE FROM passkey USING changed WHERE passkey.account_id = changed.id
), others AS (
    DELETE FROM link USING changed
    WHERE link.account_id = changed.id AND link.purpose = 'reset-password' AND link.hash <> $1::bytea
), noted AS (
    INSERT INTO activity (account_id, what, network, device)
    SELECT id, 'PASSWORD_RESET', $3::text, $4::text FROM changed
), event AS (
    INSERT INTO outgoing_event (topic, key, value, headers)
    SELECT event.topic, convert_to(event.key, 'UTF8'), convert_to(event.value, 'UTF8'), event.headers::jsonb
    FROM changed CROSS JOIN unnest($5::text[], $6::text[], $7::text[], $8::text[])
        AS event (topic, key, value, headers)
)
SELECT id FROM changed";

/// $1 hash of the link, $2 network, $3 client. No row where the link is not good any more.
pub const CONFIRM: &str = "
WITH followed AS (
    UPDATE link SET used_at = now()
    WHERE hash = $1::bytea AND purpose = 'confirm-address' AND used_at IS NULL AND expires_at > now()
    RETURNING account_id
), confirmed AS (
    UPDATE account SET verified_at = coalesce(verified_at, now()) FROM followed
    WHERE account.id = followed.account_id
    RETURNING account.id
), noted AS (
    INSERT INTO activity (account_id, what, network, device)
    SELECT id, 'ADDRESS_CONFIRMED', $2::text, $3::text FROM confirmed
)
SELECT id FROM confirmed";

/// Sends a mail to an account, with a link where one is given; nothing where there is no such account.
///
/// # Errors
/// What the database refused.
pub async fn send<S: Sql>(
    db: &S,
    account_id: Uuid,
    subject: &Subject,
    link: Option<&Link>,
    events: OutgoingEvents,
) -> Result<(), SqlError> {
    let mut params = vec![
        account_id.to_string().into(),
        subject.name.as_str().into(),
        link.map(|link| link.hash.clone()).into(),
        link.map(|link| link.purpose.as_str()).into(),
        link.map(|link| link.expires_at).into(),
    ];
    params.extend(events.into_params());
    db.execute(SEND, params).await.map(|_| ())
}

/// Id and address of the account whose password a link can still set.
///
/// # Errors
/// What the database refused.
pub async fn resettable<S: Sql>(db: &S, link: &[u8]) -> Result<Option<(Uuid, String)>, SqlError> {
    let rows = db.query(RESETTABLE, vec![link.to_vec().into()]).await?;
    rows.first().map(|row| Ok((row.uuid(0)?, row.text(1)?.to_owned()))).transpose()
}

/// Sets a password by a link; false where it is not good any more.
///
/// # Errors
/// What the database refused.
pub async fn reset<S: Sql>(
    db: &S,
    link: Vec<u8>,
    password_hash: String,
    from: &Origin,
    events: OutgoingEvents,
) -> Result<bool, SqlError> {
    let Origin { network, device } = from;
    let mut params = vec![link.into(), password_hash.into(), network.as_str().into(), device.as_str().into()];
    params.extend(events.into_params());
    Ok(!db.query(RESET, params).await?.is_empty())
}

/// Confirms an address by a link; false where it is not good any more.
///
/// # Errors
/// What the database refused.
pub async fn confirm<S: Sql>(db: &S, link: Vec<u8>, from: &Origin) -> Result<bool, SqlError> {
    let params = vec![link.into(), from.network.as_str().into(), from.device.as_str().into()];
    Ok(!db.query(CONFIRM, params).await?.is_empty())
}
