//! Every statement of the function.

use crate::domain::{Mail, Notification};
use contract::event::{MailRequested, Notice};
use fnhost_sdk::{Row, Sql, SqlError, unnest};
use uuid::Uuid;

// In key order, so that two batches with the same events wait for each other in one direction only. A copy of an event
// that is in the table, or twice in the batch, is left out and not returned.
const STORE: &str = "
    WITH asked AS (
        SELECT * FROM unnest($1::text[], $2::text[]::uuid[], $3::text[]::uuid[], $4::text[], $5::text[], $6::text[],
                             $7::text[])
        WITH ORDINALITY AS asked (event_id, order_id, user_id, status, subject, email_text, sms_text, position)
    ), stored AS (
        INSERT INTO notification (event_id, order_id, user_id, status, subject, email_text, sms_text)
        SELECT event_id, order_id, user_id, status, subject, email_text, sms_text FROM asked ORDER BY event_id
        ON CONFLICT (event_id) DO NOTHING
        RETURNING event_id
    )
    SELECT min(asked.position)::int8 FROM stored JOIN asked USING (event_id) GROUP BY event_id ORDER BY 1";

// As above. Links that have expired are forgotten on the way, no more of them than a batch can have written.
const STORE_MAILS: &str = "
    WITH asked AS (
        SELECT * FROM unnest($1::text[], $2::text[]::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                             $8::int8[])
        WITH ORDINALITY AS asked (event_id, user_id, email, mail, subject, text, link, expires_at, position)
    ), forgotten AS (
        UPDATE mail SET link = NULL FROM (
            SELECT id FROM mail WHERE link IS NOT NULL AND link_expires_at < now()
            ORDER BY link_expires_at LIMIT 1000 FOR UPDATE SKIP LOCKED
        ) AS expired
        WHERE mail.id = expired.id
    ), stored AS (
        INSERT INTO mail (event_id, user_id, email, mail, subject, text, link, link_expires_at)
        SELECT event_id, user_id, email, mail, subject, text, link,
            timestamptz 'epoch' + expires_at * interval '1 second'
        FROM asked ORDER BY event_id
        ON CONFLICT (event_id) DO NOTHING
        RETURNING event_id
    )
    SELECT min(asked.position)::int8 FROM stored JOIN asked USING (event_id) GROUP BY event_id ORDER BY 1";

const LIST: &str = "
    SELECT id, order_id, status, subject, email_text, sms_text,
           to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')
    FROM notification
    WHERE user_id = $1::text::uuid AND id < $2::int8
    ORDER BY id DESC
    LIMIT $3::int8";

/// A notification to send.
#[derive(Debug)]
pub struct Entry<'a> {
    /// `ce_id` of the event.
    pub event_id: &'a str,
    /// The order it is about.
    pub order_id: Uuid,
    /// To whom it is sent.
    pub user_id: Uuid,
    /// Status of the order that the customer is told about.
    pub status: Notice,
    /// How it tells it.
    pub notification: Notification,
}

/// Stores those whose event is new, and answers their places in `entries`, ascending.
///
/// # Errors
/// What the database refused.
pub async fn store(db: &impl Sql, entries: &[Entry<'_>]) -> Result<Vec<usize>, SqlError> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let rows = entries.iter().map(|entry| {
        let Entry { event_id, order_id, user_id, status, notification } = entry;
        let Notification { subject, email_text, sms_text } = notification;
        (*event_id, *order_id, *user_id, status.as_str(), *subject, email_text, sms_text)
    });
    db.query(STORE, unnest(rows)).await?.iter().map(place).collect()
}

/// A mail to send.
#[derive(Debug)]
pub struct MailEntry<'a> {
    /// `ce_id` of the event.
    pub event_id: &'a str,
    /// What the event asks for.
    pub requested: &'a MailRequested,
    /// How it is told.
    pub mail: Mail,
}

/// Stores the mails whose event is new, and answers their places in `entries`, ascending.
///
/// # Errors
/// What the database refused.
pub async fn store_mails(db: &impl Sql, entries: &[MailEntry<'_>]) -> Result<Vec<usize>, SqlError> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let rows = entries.iter().map(|entry| {
        let MailEntry { event_id, requested, mail: Mail { subject, text, link } } = entry;
        let MailRequested { user_id, email, mail, expires_at, .. } = requested;
        (*event_id, *user_id, email, mail.as_str(), *subject, *text, link.clone(), *expires_at)
    });
    db.query(STORE_MAILS, unnest(rows)).await?.iter().map(place).collect()
}

/// SQL counts from 1.
fn place(row: &Row) -> Result<usize, SqlError> {
    let position = row.int64(0)?;
    usize::try_from(position - 1).map_err(|_| SqlError::new(None, format!("no position: {position}")))
}

/// Up to `limit` notifications of a user with an id below `before`, newest first: id, order id, status, subject, e-mail,
/// SMS, time as RFC 3339.
///
/// # Errors
/// What the database refused.
pub async fn list(db: &impl Sql, user_id: Uuid, before: i64, limit: i64) -> Result<Vec<Row>, SqlError> {
    db.query(LIST, vec![user_id.to_string().into(), before.into(), limit.into()]).await
}
