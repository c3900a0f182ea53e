//! Counts and writes down every record that it is given, without any protection of its own: what is dispatched twice is counted
//! twice, and what is lost is missing.
//!
//! For each record it sends a message with a random number under a random key, and writes down the messages that it reads itself. A
//! message that was sent although its transaction was rolled back is told from the one that was committed in its place.

use fnhost_sdk::kafka::{Batch, Failure, Message, Payload, Reply};
use fnhost_sdk::{Sql, Uuid, unnest};

/// The topic of the messages about entries.
const TOPIC: &str = "ledger-events";
/// Begins the value of such a message; the entry's nonce follows.
const RECEIPT: &str = "receipt ";
/// The value of a record that ends the session of whoever handles it.
const POISON: &[u8] = b"poison";
/// The header by which the suite knows its own records.
const MARK: &str = "odd";

/// A record, whatever it is.
pub enum Entry {
    /// Of another function, or a stranger's.
    Record {
        /// The stream that it claims to be of.
        stream: Option<String>,
        /// The number on it that it claims to have.
        seq: Option<i64>,
        /// What the suite has marked it with.
        mark: Option<String>,
        /// Its key.
        key: Option<String>,
        /// Whether it ends the session of whoever handles it.
        poison: bool,
    },
    /// A message about an entry.
    Receipt(Uuid),
}

impl Payload for Entry {
    fn read(message: &Message) -> Result<Self, String> {
        let value = message.value.as_deref().unwrap_or_default();
        let receipt = std::str::from_utf8(value).ok().and_then(|value| value.strip_prefix(RECEIPT));
        if let Some(nonce) = receipt {
            return nonce.parse().map(Entry::Receipt).map_err(|_| "no receipt".to_owned());
        }
        let header = |name| message.headers.iter().find(|header| header.name == name);
        let text = |name| header(name).map(|header| storable(&header.value));
        Ok(Entry::Record {
            stream: text("fnhost-stream"),
            seq: text("fnhost-seq").and_then(|seq| seq.parse().ok()),
            mark: text(MARK),
            key: message.key.as_deref().map(storable),
            poison: value == POISON,
        })
    }
}

/// Text columns hold no NUL, and text alone.
fn storable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}")
}

const DIE: &str = "SELECT pg_terminate_backend(pg_backend_pid())";
const ENTER: &str = "
    INSERT INTO entry (stream, seq, mark, key)
    SELECT stream, seq, mark, key FROM unnest($1::text[], $2::int8[], $3::text[], $4::text[])
           WITH ORDINALITY AS record (stream, seq, mark, key, place) ORDER BY place
    RETURNING nonce";
const RECEIVE: &str = "INSERT INTO receipt (nonce) SELECT * FROM unnest($1::text[]::uuid[])";
const COUNT: &str = "UPDATE counter SET n = n + $1, receipts = receipts + $2";

/// Handles a batch.
///
/// # Errors
/// What the database refused; nothing of the batch is kept then.
pub async fn handle<S: Sql>(db: &S, batch: Batch<Entry>) -> Result<Reply, Failure> {
    let Batch { records, mut reply, .. } = batch;
    let (mut causes, mut entries, mut receipts) = (Vec::new(), Vec::new(), Vec::new());
    for record in &records {
        match &record.event {
            Entry::Record { poison: true, .. } => {
                db.query(DIE, Vec::new()).await?;
            }
            Entry::Record { stream, seq, mark, key, .. } => {
                causes.push(record);
                entries.push((stream.clone(), *seq, mark.clone(), key.clone()));
            }
            Entry::Receipt(nonce) => receipts.push((*nonce,)),
        }
    }
    let counts = [entries.len(), receipts.len()].map(|count| i64::try_from(count).unwrap_or(i64::MAX).into());
    let rows = db.query(ENTER, unnest(entries)).await?;
    for (cause, row) in causes.into_iter().zip(rows) {
        let nonce = row.uuid(0)?;
        reply.send(cause, TOPIC, nonce.to_string(), format!("{RECEIPT}{nonce}"));
    }
    if !receipts.is_empty() {
        db.execute(RECEIVE, unnest(receipts)).await?;
    }
    db.execute(COUNT, counts.to_vec()).await?;
    Ok(reply)
}

fnhost_sdk::export_kafka!(crate::handle);
