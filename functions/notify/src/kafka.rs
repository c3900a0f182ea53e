//! Sends what `notification.requested` asks for: e-mail and SMS are stored, and a line of the log stands for each.

use crate::domain;
use crate::sql::{self, Entry};
use contract::event::Event;
use contract::event::{Batch, Record};
use fnhost_sdk::Sql;
use fnhost_sdk::event::CloudEvent as _;
use fnhost_sdk::kafka::{Failure, Reply};
use std::io::Write;

/// Handles a batch of `notification-events`, in one statement however many records it has, and writes its lines to the
/// standard output.
///
/// The lines are written before the host commits: if that fails, the batch comes again and so do they. What was sent,
/// and that it was sent once, is what the table says.
///
/// # Errors
/// What the database refused; nothing of the batch is kept then.
pub async fn handle<S: Sql>(db: &S, batch: Batch) -> Result<Reply, Failure> {
    handle_to(db, batch, &mut std::io::stdout()).await
}

/// As [`handle`], with the lines written to `log`.
///
/// # Errors
/// What the database refused; nothing of the batch is kept then.
pub async fn handle_to<S: Sql>(db: &S, batch: Batch, log: &mut impl Write) -> Result<Reply, Failure> {
    let Batch { records, mut reply, .. } = batch;
    let mut entries = Vec::with_capacity(records.len());
    for record in &records {
        match entry(record) {
            Ok(entry) => entries.push(entry),
            Err(reason) => reply.reject(record, reason),
        }
    }
    let mut lines = String::new();
    // Only what is new in the database is sent: the second copy of an event finds the first one's row.
    for index in sql::store(db, &entries).await? {
        if let Some(entry) = entries.get(index) {
            lines += &domain::line(entry.user_id, entry.notification.subject);
            lines.push('\n');
        }
    }
    // The rows are what was sent; a log that cannot be written is no reason to send again.
    let _ = log.write_all(lines.as_bytes());
    Ok(reply)
}

/// What a record asks for; the error is the dead letter's reason.
fn entry(record: &Record) -> Result<Entry<'_>, String> {
    let Event::NotificationRequested(requested) = &record.event else {
        return Err(format!("notify does not handle {}", record.event.event_type()));
    };
    let event_id = record.event_id.as_deref().unwrap_or_default();
    if event_id.is_empty() {
        return Err("the header ce_id is missing: without it a second copy could not be told".to_owned());
    }
    let notification = domain::render(requested.status, requested.order_id, requested.reason.as_deref());
    Ok(Entry {
        event_id,
        order_id: requested.order_id,
        user_id: requested.user_id,
        status: requested.status,
        notification,
    })
}
