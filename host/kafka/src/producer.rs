//! Sends numbered streams to Kafka, each in order and without a gap.
//!
//! All streams of a host share one idempotent producer. Order is part of the proof that nothing is doubled: a consumer keeps
//! only the highest number it accepted per stream. So a message that the producer gives up is the end of that
//! producer (`enable.gapless.guarantee`): every stream that used it is taken over anew and continues from its outbox.

use super::Error;
use super::access::Access;
use fnhost_metrics::{KafkaClient, Timer};
use fnhost_types::outbox::{self, Numbered, Unreadable};
use fnhost_types::record::{SEQ_HEADER, STREAM_HEADER, VERSION_HEADER};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Messages of one stream that may wait for their acknowledgement before the stream's dispatches wait too.
pub const UNACKNOWLEDGED_MAX: usize = 20_000;
/// Longest wait at shutdown for the acknowledgement of what was sent.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before a message is offered again to a producer whose queue is full.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(5);

/// The host's producer: the current one, replaced when it failed.
pub struct Producer {
    access: Access,
    current: Mutex<Arc<Generation>>,
}

/// One librdkafka producer, until its first failed delivery.
struct Generation {
    client: ThreadedProducer<Deliveries>,
    failure: watch::Receiver<Option<String>>,
}

/// Why a producer was given up.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the Kafka producer failed: {0}")]
pub struct Failed(pub String);

/// Why outbox rows were not sent again.
#[derive(Debug, thiserror::Error)]
pub enum NotResent {
    /// A row is of a newer format.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The producer failed while the rows were sent again.
    #[error(transparent)]
    Failed(#[from] Failed),
}

impl Producer {
    /// Makes the first producer; it connects by itself.
    ///
    /// # Errors
    /// librdkafka refused the configuration.
    pub fn new(access: &Access) -> Result<Self, Error> {
        let first = Generation::new(access)?;
        Ok(Self { access: access.clone(), current: Mutex::new(Arc::new(first)) })
    }

    /// A sender for `stream` on a producer that has not failed.
    ///
    /// # Errors
    /// A new producer was needed and librdkafka refused to make it.
    pub fn open(&self, stream: &str) -> Result<StreamSender, Error> {
        let mut current = lock(&self.current);
        if current.failure.borrow().is_some() {
            *current = Arc::new(Generation::new(&self.access)?);
        }
        Ok(StreamSender {
            stream: stream.to_string(),
            generation: current.clone(),
            acks: Arc::new(Acks { batches: Mutex::new(VecDeque::new()), changed: Notify::new() }),
        })
    }

    /// Waits for the acknowledgement of what was sent, at most [`FLUSH_TIMEOUT`].
    pub fn flush(&self) {
        let current = lock(&self.current).clone();
        if let Err(error) = current.client.flush(FLUSH_TIMEOUT) {
            tracing::warn!(%error, "Kafka did not acknowledge all messages in time; their outbox rows are sent again at the next start");
        }
    }
}

impl Generation {
    fn new(access: &Access) -> Result<Self, Error> {
        let (failed, failure) = watch::channel(None);
        let mut config = access.base_config();
        config
            .set("enable.idempotence", "true")
            .set("enable.gapless.guarantee", "true")
            .set("acks", "all")
            .set("message.timeout.ms", "0")
            .set("linger.ms", "0")
            .set("compression.type", "none")
            .set("queue.buffering.max.messages", "500000");
        let client = access
            .over(&mut config)
            .create_with_context(Deliveries { failed })
            .map_err(Error::new("cannot make a Kafka producer"))?;
        Ok(Self { client, failure })
    }
}

struct Deliveries {
    failed: watch::Sender<Option<String>>,
}

impl Deliveries {
    fn fail(&self, reason: String) {
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            if first {
                tracing::error!(
                    reason,
                    "Kafka refused a message; closing the producer and taking its streams over again"
                );
                *failed = Some(reason);
            }
            first
        });
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // librdkafka warns at every start that `enable.gapless.guarantee` is experimental. It is meant: order is part of the proof.
        if facility != "CONFWARN" {
            tracing::info!(?level, facility, "Kafka producer: {message}");
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        fnhost_metrics::kafka_error(KafkaClient::Producer);
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.fail(reason.to_string());
        } else {
            tracing::warn!(%error, reason, "Kafka producer");
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<BatchAck>;

    fn delivery(&self, result: &DeliveryResult<'_>, batch: Arc<BatchAck>) {
        match result {
            Ok(_) => {
                if batch.outstanding.fetch_sub(1, Ordering::AcqRel) == 1
                    && let Some(acks) = batch.acks.upgrade()
                {
                    fnhost_metrics::acknowledged(batch.sent);
                    acks.changed.notify_one();
                }
            }
            Err((error, message)) => {
                use rdkafka::Message;
                self.fail(format!("topic {}: {error}", message.topic()));
            }
        }
    }
}

/// The acknowledgements a batch still waits for.
pub struct BatchAck {
    last_seq: i64,
    sent: Timer,
    outstanding: AtomicU32,
    acks: std::sync::Weak<Acks>,
}

struct Acks {
    batches: Mutex<VecDeque<Arc<BatchAck>>>,
    changed: Notify,
}

/// Sends one stream. Dropped and opened anew after a failure or a take-over.
pub struct StreamSender {
    stream: String,
    generation: Arc<Generation>,
    acks: Arc<Acks>,
}

impl StreamSender {
    /// Puts a committed batch into the producer's queue, in order; waits while that is full, or while
    /// [`UNACKNOWLEDGED_MAX`] messages of this stream have no acknowledgement.
    ///
    /// # Errors
    /// The producer failed: the stream must be taken over and sent from its outbox.
    pub async fn send(&self, batch: &Numbered<'_>) -> Result<(), Failed> {
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
            let seq = (batch.first_seq + i as i64).to_string();
            let mut headers = OwnedHeaders::new_with_capacity(message.headers.len() + 3);
            for header in &message.headers {
                headers = headers.insert(Header { key: header.name, value: Some(header.value) });
            }
            headers = headers
                .insert(Header { key: STREAM_HEADER, value: Some(self.stream.as_str()) })
                .insert(Header { key: SEQ_HEADER, value: Some(seq.as_str()) });
            if !batch.version.is_empty() {
                headers = headers.insert(Header { key: VERSION_HEADER, value: Some(batch.version) });
            }
            let mut record = BaseRecord::with_opaque_to(message.topic, ack.clone())
                .partition(message.partition)
                .headers(headers);
            record.key = message.key;
            record.payload = message.value;
            self.enqueue(record).await?;
        }
        Ok(())
    }

    /// Sends what an earlier owner committed and perhaps did not send: rows of the outbox, each its first number and its encoded
    /// messages, in order.
    ///
    /// # Errors
    /// As [`StreamSender::send`], or a row cannot be read.
    pub async fn resend(&self, rows: &[(i64, Vec<u8>)]) -> Result<(), NotResent> {
        for (first_seq, bytes) in rows {
            self.send(&outbox::decode(*first_seq, bytes)?).await?;
        }
        Ok(())
    }

    async fn enqueue(&self, mut record: BaseRecord<'_, [u8], [u8], Arc<BatchAck>>) -> Result<(), Failed> {
        loop {
            if let Some(reason) = self.generation.failure.borrow().clone() {
                return Err(Failed(reason));
            }
            match self.generation.client.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    tokio::time::sleep(QUEUE_FULL_PAUSE).await;
                }
                Err((error, record)) => {
                    let reason = format!("topic {}: {error}", record.topic);
                    self.generation.client.context().fail(reason.clone());
                    return Err(Failed(reason));
                }
            }
        }
    }

    /// The highest number up to which Kafka has acknowledged everything sent here; forgets those batches.
    pub fn take_acknowledged(&self) -> Option<i64> {
        let mut batches = lock(&self.acks.batches);
        let mut acknowledged = None;
        while batches.front().is_some_and(|b| b.outstanding.load(Ordering::Acquire) == 0) {
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
            Ok(reason) => Failed(reason.clone().unwrap_or_default()),
            Err(_) => Failed("closed".into()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
