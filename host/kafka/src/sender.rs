//! The sender of one stream.

use super::producer::{
    Failed, Failure, Generation, NotResent, Refusal, UNACKNOWLEDGED_MAX, is_refusal, lock,
};
use fnhost_metrics::Timer;
use fnhost_types::guard;
use fnhost_types::outbox::{self, Numbered, Unsent};
use fnhost_types::record::{MAC_HEADER, SEQ_HEADER, STREAM_HEADER, StreamSource, VERSION_HEADER};
use fnhost_types::stream_keys::{Claim, StreamKeys};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// Pause before a message is offered again to a producer whose queue is full.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(5);

/// The acknowledgements a batch still waits for.
pub struct BatchAck {
    last_seq: i64,
    pub(super) sent: Timer,
    pub(super) outstanding: AtomicU32,
    pub(super) acks: std::sync::Weak<Acks>,
}

pub(super) struct Acks {
    pub source: StreamSource,
    batches: Mutex<VecDeque<Arc<BatchAck>>>,
    pub changed: Notify,
}

/// Sends one stream. Dropped and opened anew after a failure or a take-over.
pub struct StreamSender {
    source: StreamSource,
    /// Of the stream in the present incarnation.
    name: String,
    keys: StreamKeys,
    generation: Arc<Generation>,
    acks: Arc<Acks>,
}

impl StreamSender {
    pub(super) fn new(
        source: &StreamSource,
        incarnation: &str,
        keys: StreamKeys,
        generation: Arc<Generation>,
    ) -> Self {
        let acks = Acks { source: source.clone(), batches: Mutex::default(), changed: Notify::new() };
        Self {
            source: source.clone(),
            name: source.name(Some(incarnation)),
            keys,
            generation,
            acks: Arc::new(acks),
        }
    }

    /// Puts a committed batch into the producer's queue, in order; waits while that is full, or while
    /// [`UNACKNOWLEDGED_MAX`] messages of this stream have no acknowledgement.
    ///
    /// # Errors
    /// The producer failed: the stream must be taken over and sent from its outbox.
    pub async fn send(&self, batch: &Numbered<'_>) -> Result<(), Failed> {
        self.send_as(&self.name, batch).await
    }

    async fn send_as(&self, stream: &str, batch: &Numbered<'_>) -> Result<(), Failed> {
        if batch.messages.is_empty() {
            return Ok(());
        }
        while self.unacknowledged() > UNACKNOWLEDGED_MAX {
            self.progress().await?;
        }
        let ack = Arc::new(BatchAck {
            last_seq: batch.last_seq(),
            sent: Timer::start(),
            outstanding: AtomicU32::new(batch.messages.len() as u32),
            acks: Arc::downgrade(&self.acks),
        });
        lock(&self.acks.batches).push_back(ack.clone());
        for (i, message) in batch.messages.iter().enumerate() {
            let number = batch.first_seq + i as i64;
            let seq = number.to_string();
            let claim = Claim { stream, seq: number, topic: message.topic, partition: message.partition };
            let mac = self.keys.sign(claim);
            let mut headers = OwnedHeaders::new_with_capacity(message.headers.len() + 4);
            for header in &message.headers {
                headers = headers.insert(Header { key: header.name, value: Some(header.value) });
            }
            headers = headers
                .insert(Header { key: STREAM_HEADER, value: Some(stream) })
                .insert(Header { key: SEQ_HEADER, value: Some(seq.as_str()) });
            if let Some(mac) = &mac {
                headers = headers.insert(Header { key: MAC_HEADER, value: Some(mac.as_str()) });
            }
            if !batch.version.is_empty() {
                headers = headers.insert(Header { key: VERSION_HEADER, value: Some(batch.version) });
            }
            let mut record = BaseRecord::with_opaque_to(message.topic, ack.clone())
                .partition(message.partition)
                .headers(headers);
            record.key = message.key;
            record.payload = message.value;
            self.enqueue(record, number).await?;
        }
        Ok(())
    }

    /// Sends what an earlier owner committed and perhaps did not send, in order: each row under the incarnation in which it was
    /// committed, because Kafka may have it under that name already.
    ///
    /// # Errors
    /// As [`StreamSender::send`], or a row cannot be read.
    pub async fn resend(&self, rows: &[Unsent]) -> Result<(), NotResent> {
        for row in rows {
            let stream = self.source.name(row.incarnation.as_deref());
            self.send_as(&stream, &outbox::decode(row.first_seq, &row.messages)?).await?;
        }
        Ok(())
    }

    async fn enqueue(
        &self,
        mut record: BaseRecord<'_, [u8], [u8], Arc<BatchAck>>,
        seq: i64,
    ) -> Result<(), Failed> {
        loop {
            if let Some(failed) = self.has_failed() {
                return Err(failed);
            }
            match self.generation.client.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    tokio::time::sleep(QUEUE_FULL_PAUSE).await;
                }
                // Nothing of it is in the producer, which can go on for the others.
                Err((error, record)) if is_refusal(&error) => {
                    let (topic, partition) = (record.topic.to_owned(), record.partition.unwrap_or(-1));
                    return Err(Refusal { seq, topic, partition, reason: error.to_string() }.into());
                }
                Err((error, record)) => {
                    let reason = format!("topic {}: {error}", record.topic);
                    self.generation.client.context().fail(reason.clone(), None);
                    return Err(Failed::Closed(reason));
                }
            }
        }
    }

    fn has_failed(&self) -> Option<Failed> {
        self.generation.failure.borrow().clone().map(|failure| self.failed_by(failure))
    }

    fn failed_by(&self, Failure { reason, refused }: Failure) -> Failed {
        match refused {
            Some((source, refusal)) if source == self.source => Failed::Refused(refusal),
            _ => Failed::Closed(reason),
        }
    }

    /// The highest number up to which Kafka has acknowledged everything sent here; forgets those batches.
    pub fn take_acknowledged(&self) -> Option<i64> {
        let mut batches = lock(&self.acks.batches);
        let mut acknowledged = None;
        let is_done = |batch: &Arc<BatchAck>| {
            batch.outstanding.load(Ordering::Acquire) == 0 || !guard::on("acknowledged")
        };
        while batches.front().is_some_and(is_done) {
            acknowledged = batches.pop_front().map(|b| b.last_seq);
        }
        acknowledged
    }

    /// Messages sent here that have no acknowledgement yet.
    pub fn unacknowledged(&self) -> usize {
        lock(&self.acks.batches).iter().map(|b| b.outstanding.load(Ordering::Acquire) as usize).sum()
    }

    /// Waits until a batch was acknowledged.
    ///
    /// # Errors
    /// The producer failed.
    pub async fn progress(&self) -> Result<(), Failed> {
        tokio::select! {
            () = self.acks.changed.notified() => Ok(()),
            failed = self.failed() => Err(failed),
        }
    }

    /// Waits until everything sent here is acknowledged.
    ///
    /// # Errors
    /// The producer failed.
    pub async fn drained(&self) -> Result<(), Failed> {
        while self.unacknowledged() > 0 {
            self.progress().await?;
        }
        Ok(())
    }

    /// Waits until the producer fails.
    pub async fn failed(&self) -> Failed {
        let mut failure = self.generation.failure.clone();
        match failure.wait_for(Option::is_some).await {
            Ok(failure) => {
                failure.clone().map_or_else(|| Failed::Closed("closed".into()), |f| self.failed_by(f))
            }
            Err(_) => Failed::Closed("closed".into()),
        }
    }
}
