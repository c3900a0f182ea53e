//! Sends numbered streams to Kafka, each in order and without a gap.
//!
//! All streams of a host share one idempotent producer. Order is part of the proof that nothing is doubled: a consumer keeps
//! only the highest number it accepted per stream. So a message that the producer gives up is the end of that
//! producer (`enable.gapless.guarantee`): every stream that used it is taken over anew and continues from its outbox.
//!
//! A stream whose message Kafka refused is opened apart, on a producer of its own, until all that it had to send is acknowledged. Where
//! Kafka goes on refusing, that one ends again, and no other stream notices.

use super::Error;
use super::access::Access;
use super::cluster::Cluster;
use super::sender::BatchAck;
pub use super::sender::StreamSender;
use fnhost_metrics::KafkaClient;
use fnhost_types::outbox::Unreadable;
use fnhost_types::record::{SEQ_HEADER, StreamSource};
use futures::future::BoxFuture;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer as _, ProducerContext};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Messages of one stream that may wait for their acknowledgement before the stream's dispatches wait too.
pub const UNACKNOWLEDGED_MAX: usize = 20_000;
/// Longest wait at shutdown for the acknowledgement of what was sent.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest message that the producer takes, bytes: the most that librdkafka allows. What a topic takes is for its limit to say, which
/// may be raised while we run.
const MESSAGE_BYTES_MAX: usize = 1_000_000_000;
/// How often it is looked whether a producer is still used. What is acknowledged is heard of at once; but a poll of rdkafka's spins through
/// the last millisecond of its time, so that a tenth of a second, which its own thread takes, costs a hundredth of a core.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);
/// Most bytes of a request's messages for one partition: librdkafka's default.
const BATCH_BYTES_MAX: usize = 1_000_000;
/// Bytes of them that Kafka counts beside the messages, at most.
const BATCH_FRAMING_BYTES: usize = 512;

/// The host's producer: the current one, replaced when it failed.
pub struct Producer {
    access: Access,
    cluster: Arc<Cluster>,
    current: Mutex<Arc<Generation>>,
    /// Those of streams that are opened apart.
    apart: Mutex<Vec<Weak<Generation>>>,
}

/// One librdkafka producer, until its first failed delivery.
pub(super) struct Generation {
    /// Polled by a thread until nobody else has it.
    pub client: Arc<BaseProducer<Deliveries>>,
    pub failure: watch::Receiver<Option<Failure>>,
}

#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub reason: String,
    /// The message that Kafka refused, and its stream; none where the producer failed as such.
    pub refused: Option<(StreamSource, Refusal)>,
}

/// A message that Kafka refused.
#[derive(Clone, Debug, thiserror::Error)]
#[error("Kafka refuses message {seq} of the stream for {topic}/{partition}: {reason}")]
pub struct Refusal {
    /// Its number on the stream.
    pub seq: i64,
    /// Target topic.
    pub topic: String,
    /// Target partition.
    pub partition: i32,
    /// What librdkafka or the broker said.
    pub reason: String,
}

/// Why a stream cannot go on with its producer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failed {
    /// The producer was given up, perhaps because of another stream: open the stream anew and send what is in its outbox.
    #[error("the Kafka producer failed: {0}")]
    Closed(String),
    /// Kafka refuses a message of this stream, and nothing behind it may be sent.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

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
    pub fn new(access: &Access, cluster: Arc<Cluster>) -> Result<Self, Error> {
        let current = Mutex::new(Arc::new(Generation::new(access, Some(&cluster))?));
        Ok(Self { access: access.clone(), cluster, current, apart: Mutex::default() })
    }

    /// A sender of the stream of `source`, numbered in an incarnation of the database, on a producer that has not failed: the one
    /// of all streams, or, `apart`, one of its own, so that what Kafka refuses of it ends no other stream's.
    ///
    /// # Errors
    /// A new producer was needed and librdkafka refused to make it.
    pub fn open(&self, source: &StreamSource, incarnation: &str, apart: bool) -> Result<StreamSender, Error> {
        let generation = if apart { self.of_its_own()? } else { self.shared()? };
        Ok(StreamSender::new(source, incarnation, self.access.keys().clone(), generation))
    }

    fn of_its_own(&self) -> Result<Arc<Generation>, Error> {
        let generation = Arc::new(Generation::new(&self.access, None)?);
        let mut apart = lock(&self.apart);
        apart.retain(|other| other.strong_count() > 0);
        apart.push(Arc::downgrade(&generation));
        Ok(generation)
    }

    /// Gives every producer up when a topic is made anew, see [`MadeAnew`], until `stop`.
    pub fn keep_fresh(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        // Boxed, so that it is compiled here and not in the crate that awaits it.
        Box::pin(async move {
            let mut anew = self.cluster.made_anew();
            loop {
                tokio::select! {
                    true = anew.changed() => {}
                    () = stop.cancelled() => return,
                }
                let Some(topic) = anew.topic() else { continue };
                let apart: Vec<_> = lock(&self.apart).iter().filter_map(Weak::upgrade).collect();
                let current = lock(&self.current).clone();
                for generation in apart.into_iter().chain([current]) {
                    generation
                        .client
                        .context()
                        .fail(format!("topic {topic} was deleted and made anew"), None);
                }
            }
        })
    }

    fn shared(&self) -> Result<Arc<Generation>, Error> {
        let mut current = lock(&self.current);
        if current.failure.borrow().is_some() {
            *current = Arc::new(Generation::new(&self.access, Some(&self.cluster))?);
        }
        Ok(current.clone())
    }

    /// Has the topics' limits read again: Kafka refuses what they allow, or takes what it refused before.
    pub fn doubt_limits(&self) {
        self.cluster.doubt_limits();
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
    /// The producer of all streams, whose batches fit every topic of `cluster`; without one that of a stream alone, which sends
    /// messages one by one, so that only what is refused by itself is refused.
    fn new(access: &Access, cluster: Option<&Cluster>) -> Result<Self, Error> {
        let (failed, failure) = watch::channel(None);
        let mut config = access.base_config();
        config
            .set("enable.idempotence", "true")
            .set("enable.gapless.guarantee", "true")
            .set("acks", "all")
            .set("message.timeout.ms", "0")
            .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string())
            .set("linger.ms", "0")
            .set("compression.type", "none")
            .set("queue.buffering.max.messages", "500000");
        match cluster {
            Some(cluster) => {
                let limit = cluster.smallest_limit().saturating_sub(BATCH_FRAMING_BYTES).max(1);
                config.set("batch.size", limit.min(BATCH_BYTES_MAX).to_string())
            }
            None => config.set("batch.num.messages", "1"),
        };
        let client: BaseProducer<_> = access
            .over(&mut config)
            .create_with_context(Deliveries { failed })
            .map_err(Error::new("cannot make a Kafka producer"))?;
        let client = Arc::new(client);
        let polled = client.clone();
        std::thread::Builder::new()
            .name("producer".to_owned())
            // Without it nothing would count as acknowledged.
            .spawn(move || while !fnhost_metrics::survives("producer", "kafka", || poll(&polled)) {})
            .map_err(|error| {
                Error::Client(format!("cannot start the thread of a Kafka producer: {error}"))
            })?;
        Ok(Self { client, failure })
    }
}

/// Has what becomes of messages told, until nobody else has the producer. What it has not sent then is dropped with it: whoever opens the
/// stream anew sends that from the outbox.
fn poll(client: &Arc<BaseProducer<Deliveries>>) {
    while Arc::strong_count(client) > 1 {
        client.poll(POLL_TIMEOUT);
    }
}

pub(super) struct Deliveries {
    failed: watch::Sender<Option<Failure>>,
}

impl Deliveries {
    pub fn fail(&self, reason: String, refused: Option<(StreamSource, Refusal)>) {
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            if first {
                tracing::error!(reason, "closing the producer and taking its streams over again");
                *failed = Some(Failure { reason, refused });
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
            self.fail(reason.to_string(), None);
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
                let reason = error.to_string();
                let said = format!("topic {}: {reason}", message.topic());
                let source = batch.acks.upgrade().map(|acks| acks.source.clone());
                let refused = source.zip(seq_of(message)).filter(|_| is_refusal(error));
                self.fail(
                    said,
                    refused.map(|(source, seq)| {
                        let (topic, partition) = (message.topic().to_owned(), message.partition());
                        (source, Refusal { seq, topic, partition, reason })
                    }),
                );
            }
        }
    }
}

/// Whether an error says something of the message, rather than of the producer: what was queued behind a refused one fails with that one.
pub(super) fn is_refusal(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{Fatal, GaplessGuarantee, PurgeInflight, PurgeQueue};
    !matches!(error.rdkafka_error_code(), None | Some(Fatal | GaplessGuarantee | PurgeInflight | PurgeQueue))
}

/// The number of a message that did not arrive.
fn seq_of(message: &impl rdkafka::Message) -> Option<i64> {
    use rdkafka::message::Headers as _;
    // The host sets these headers itself, so their names are text.
    let header = message.headers()?.iter().filter(|header| header.key == SEQ_HEADER).last()?;
    std::str::from_utf8(header.value?).ok()?.parse().ok()
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
