//! Sends what `notification.requested` and `mail.requested` ask for: e-mail and SMS are stored, and a line of the log stands for
//! each.

use crate::domain;
use crate::sql::{self, Entry, MailEntry};
use contract::event::{Batch, Event, Record};
use fnhost_sdk::Host;
use fnhost_sdk::event::CloudEvent as _;
use fnhost_sdk::kafka::{Failure, Reply};
use std::io::Write;

/// Where the pages are, for links in mails.
const SHOP_URL_VARIABLE: &str = "shop_url";

/// Handles a batch of `notification-events`, in a statement for each kind however many records it has, and writes its lines to
/// the standard output.
///
/// The lines are written before the host commits: if that fails, the batch comes again and so do they. What was sent,
/// and that it was sent once, is what the tables say.
///
/// # Errors
/// What the database refused, or a variable that is missing; nothing of the batch is kept then.
pub async fn handle<H: Host>(host: &H, batch: Batch) -> Result<Reply, Failure> {
    handle_to(host, batch, &mut std::io::stdout()).await
}

/// As [`handle`], with the lines written to `log`.
///
/// # Errors
/// As [`handle`].
pub async fn handle_to<H: Host>(host: &H, batch: Batch, log: &mut impl Write) -> Result<Reply, Failure> {
    let Batch { records, mut reply, .. } = batch;
    let shop = host.variable(SHOP_URL_VARIABLE).await?;
    let mut entries = Vec::with_capacity(records.len());
    let mut mails = Vec::new();
    for record in &records {
        match task(record, &shop) {
            Ok(Task::Notification(entry)) => entries.push(entry),
            Ok(Task::Mail(entry)) => mails.push(entry),
            Err(reason) => reply.reject(record, reason),
        }
    }
    let mut lines = String::new();
    // Only what is new in the database is sent: the second copy of an event finds the first one's row.
    for index in sql::store(host, &entries).await? {
        if let Some(entry) = entries.get(index) {
            lines += &domain::line(entry.user_id, entry.notification.subject);
            lines.push('\n');
        }
    }
    for index in sql::store_mails(host, &mails).await? {
        if let Some(entry) = mails.get(index) {
            lines += &domain::line(entry.requested.user_id, entry.mail.subject);
            lines.push('\n');
        }
    }
    // The rows are what was sent; a log that cannot be written is no reason to send again.
    let _ = log.write_all(lines.as_bytes());
    Ok(reply)
}

/// What a record asks for.
enum Task<'a> {
    Notification(Entry<'a>),
    Mail(MailEntry<'a>),
}

/// What a record asks for; the error is the dead letter's reason.
fn task<'a>(record: &'a Record, shop: &str) -> Result<Task<'a>, String> {
    let event_id = || {
        let id = record.event_id.as_deref().filter(|id| !id.is_empty());
        id.ok_or("the header ce_id is missing: without it a second copy could not be told")
    };
    match &record.event {
        Event::NotificationRequested(requested) => Ok(Task::Notification(Entry {
            event_id: event_id()?,
            order_id: requested.order_id,
            user_id: requested.user_id,
            status: requested.status,
            notification: domain::render(requested.status, requested.order_id, requested.reason.as_deref()),
        })),
        Event::MailRequested(requested) => Ok(Task::Mail(MailEntry {
            event_id: event_id()?,
            requested,
            mail: domain::render_mail(requested.mail, shop, requested.token.as_deref()),
        })),
        other => Err(format!("notify does not handle {}", other.event_type())),
    }
}
