//! A stream as whoever numbers it goes on with it: a partition's owner, the leader of a relay or a schedule, or who sends what an
//! orphan left. And what follows where Kafka refuses a message of it.

use fnhost_db::ownership::{self, Ownership};
use fnhost_db::refused::{self, Refused};
use fnhost_db::{OwnerPool, unsent};
use fnhost_kafka::producer::{Failed, NotResent, Producer, Refusal, StreamSender};
use fnhost_types::causes::chain;
use fnhost_types::record::StreamSource;

/// What somebody can do about a message that Kafka refuses.
pub const REFUSED_CURE: &str = "it is tried again all the time; see `fnhost outbox list`, and `fnhost outbox to-dead STREAM` gives it up";

/// Why a stream cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    /// The database did not answer.
    #[error(transparent)]
    Database(#[from] fnhost_db::Error),
    /// No producer could be made.
    #[error(transparent)]
    Kafka(#[from] fnhost_kafka::Error),
    /// What is unsent was not sent.
    #[error(transparent)]
    NotResent(#[from] NotResent),
}

/// Opens the stream that `ownership` numbers and sends what an earlier owner left. One of which Kafka refused a message is opened apart, and
/// the acknowledgement of all of it is waited for: nothing new is handled while what it causes could not be sent.
///
/// # Errors
/// As [`NotOpened`] says.
pub async fn open(
    owner: &OwnerPool,
    producer: &Producer,
    source: &StreamSource,
    ownership: &Ownership,
) -> Result<StreamSender, NotOpened> {
    let apart = refused::waits(owner, ownership).await?;
    if apart {
        refused::bury_given_up(owner, ownership).await?;
    }
    let sender = producer.open(source, &ownership.incarnation, apart)?;
    resend(owner, &sender, ownership).await?;
    if apart {
        sender.drained().await.map_err(NotResent::from)?;
        refused::forget(owner, ownership).await?;
        producer.doubt_limits();
    }
    Ok(sender)
}

/// Sends the outbox page by page. Before a further page is read, Kafka has acknowledged the one before, since the producer keeps a
/// message until then; and it is cleared, so that whoever takes over in the middle goes on from there.
async fn resend(owner: &OwnerPool, sender: &StreamSender, ownership: &Ownership) -> Result<(), NotOpened> {
    let mut after = 0;
    loop {
        let page = unsent::page(owner, ownership, after).await?;
        sender.resend(&page.rows).await?;
        if !page.more {
            return Ok(());
        }
        after = page.last_seq;
        // The bytes are in the producer now.
        drop(page);
        sender.drained().await.map_err(NotResent::from)?;
        sender.take_acknowledged();
        ownership::clear(owner, ownership, after).await?;
    }
}

/// Notes that Kafka refuses a message of the stream that `ownership` numbers: for people, and so that it is opened apart.
pub async fn note_refused(owner: &OwnerPool, producer: &Producer, ownership: &Ownership, refusal: &Refusal) {
    let Refusal { seq, topic, partition, reason } = refusal;
    let refused = Refused { seq: *seq, topic, partition: *partition, reason };
    if let Err(error) = refused::note(owner, ownership, refused).await {
        tracing::warn!(error = chain(&error), "cannot note that Kafka refuses a message");
    }
    // Perhaps the topic's limit is another one by now.
    producer.doubt_limits();
}

/// The refused message because of which something failed, if that is why.
pub fn refusal(error: &anyhow::Error) -> Option<&Refusal> {
    let failed = error.downcast_ref::<Failed>().or_else(|| match error.downcast_ref::<NotOpened>() {
        Some(NotOpened::NotResent(NotResent::Failed(failed))) => Some(failed),
        _ => None,
    });
    match failed {
        Some(Failed::Refused(refusal)) => Some(refusal),
        _ => None,
    }
}
