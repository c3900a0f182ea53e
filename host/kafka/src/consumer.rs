//! A trigger's membership in its consumer group, and the partitions it is handed.
//!
//! One thread per trigger polls the consumer for what concerns the group; each assigned partition has a queue of its own,
//! which its worker polls, so that a partition that waits never holds up another and librdkafka's fetch limits are the
//! back-pressure. Offsets in Postgres are the truth: partitions are assigned at the stored position, never at the group's.

use super::access::Access;
use super::assigned::Assigned;
use super::learned::{self, Learned, Shown};
use super::{Error, reports};
use fnhost_metrics::KafkaClient;
use fnhost_types::record::TopicPartition;
use fnhost_types::stream_keys::StreamKeys;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long the broker waits for a silent member before it hands its partitions to others, milliseconds.
pub const SESSION_TIMEOUT_MS: u32 = 6_000;
/// Interval of the group's offset commits: for lag tools, and as a proof of membership.
pub const GROUP_COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// A member that is fenced a second time in so long has a rival of its name. Once, it may have been fenced by itself: a commit that
/// was on its way when it was away for longer than [`SESSION_TIMEOUT_MS`] and joined anew.
const FENCED_AGAIN: Duration = Duration::from_secs(60);
/// Bytes that one trigger's consumer may hold fetched and not yet processed, KiB.
const QUEUED_MAX_KIB: u32 = 8_192;
/// Interval of librdkafka's reports of the logs' ends.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);
/// Longest time the group thread sleeps in one poll, and so until it notices that it has to stop.
const POLL_TIMEOUT: Duration = Duration::from_millis(250);
/// How long a broker lets one fetch wait for records.
const FETCH_WAIT_MAX: Duration = Duration::from_millis(500);
/// As long at most, where batches have a window: a partition that is newly assigned is fetched after that.
const WINDOW_WAIT_MAX: Duration = Duration::from_secs(1);
/// Bytes that a broker then collects before it answers sooner.
const WINDOW_FETCH_BYTES: usize = 64 << 10;

/// What a trigger does with its partitions. All calls come from the group's thread, outside of any async runtime,
/// and may block; the membership is kept up meanwhile.
pub trait Assignments: Send + Sync + 'static {
    /// The stored positions of these partitions, in their order.
    ///
    /// # Errors
    /// They could not be read; the consumer is closed and started again.
    fn positions(&self, partitions: &[TopicPartition]) -> anyhow::Result<Vec<i64>>;
    /// A partition is ours: begin.
    fn assigned(&self, partition: Assigned);
    /// These partitions go: finish the batch in hand and stop; `lost` where they are already somebody else's.
    fn revoked(&self, partitions: &[TopicPartition], lost: bool);
    /// The membership has settled: every assigned partition was announced.
    fn joined(&self);
    /// Another process has the member's name, and takes its partitions: this membership is over for good.
    fn fenced(&self);
    /// Positions to commit to the group, for lag tools.
    fn positions_to_commit(&self) -> Vec<(TopicPartition, i64)>;
    /// The ends of logs, as librdkafka knows them; also of partitions that are not assigned.
    fn log_ends(&self, ends: &[(TopicPartition, i64)]);
}

/// Names of a membership.
pub struct Membership {
    /// Addresses and properties of the cluster.
    pub access: Access,
    /// Consumer group.
    pub group: String,
    /// Static member name: the same after a restart, so that the broker gives back the same partitions at once.
    pub instance: String,
    /// Subscribed topics.
    pub topics: Vec<String>,
    /// How long records may be collected before they are needed; zero where each is wanted as soon as it is there.
    pub window: Duration,
}

/// A running membership.
pub struct GroupConsumer {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

pub(super) type Inner = BaseConsumer<Context>;

pub(super) struct Context {
    assignments: Arc<dyn Assignments>,
    keys: StreamKeys,
    consumer: OnceLock<Weak<Inner>>,
    learned: OnceLock<Learned>,
    broken: AtomicBool,
    /// What the group has given to this member. Held while the assignment changes.
    ours: Mutex<HashSet<TopicPartition>>,
}

impl ClientContext for Context {
    fn stats_raw(&self, statistics: &[u8]) {
        self.assignments.log_ends(&reports::log_ends(statistics));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        fnhost_metrics::kafka_error(KafkaClient::Consumer);
        tracing::warn!(%error, reason, "Kafka consumer");
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<TopicPartition> =
            list.elements().iter().map(|e| TopicPartition::new(e.topic(), e.partition())).collect();
        let result = if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assign(consumer, &partitions)
        } else {
            self.assignments.revoked(&partitions, consumer.assignment_lost());
            let mut ours = self.ours();
            ours.retain(|tp| !partitions.contains(tp));
            consumer.incremental_unassign(list).map_err(anyhow::Error::from)
        };
        if let Err(error) = result {
            tracing::error!(error = format!("{error:#}"), "a rebalance failed; restarting the consumer");
            self.broken.store(true, Ordering::Release);
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result
            && error.rdkafka_error_code() != Some(RDKafkaErrorCode::NoOffset)
        {
            tracing::debug!(%error, "cannot commit group offsets; the positions are safe in Postgres");
        }
    }
}

impl Context {
    fn assign(&self, consumer: &Inner, partitions: &[TopicPartition]) -> anyhow::Result<()> {
        let positions = self.assignments.positions(partitions)?;
        let me = self
            .consumer
            .get()
            .and_then(Weak::upgrade)
            .ok_or_else(|| anyhow::anyhow!("the consumer is closing"))?;
        let mut list = TopicPartitionList::new();
        let mut assigned = Vec::with_capacity(partitions.len());
        for (tp, position) in partitions.iter().zip(positions) {
            list.add_partition_offset(&tp.topic, tp.partition, Offset::Offset(position))?;
            // Split off before the assignment: what is fetched can never reach the group's own queue.
            assigned.push(Assigned::new(&me, tp.clone(), position, self.keys.clone())?);
        }
        {
            let mut ours = self.ours();
            consumer.incremental_assign(&list)?;
            ours.extend(partitions.iter().cloned());
        }
        assigned.into_iter().for_each(|a| self.assignments.assigned(a));
        self.assignments.joined();
        Ok(())
    }

    /// Takes a partition out of the assignment, does what is to be done `between`, and puts it back at `position`.
    pub(super) fn reassign(
        &self,
        consumer: &Inner,
        tp: &TopicPartition,
        position: i64,
        between: impl FnOnce(),
    ) -> Result<(), Error> {
        let failed = || Error::new(format!("cannot fetch {tp} from offset {position}"));
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&tp.topic, tp.partition, Offset::Offset(position)).map_err(failed())?;
        let ours = self.ours();
        if !ours.contains(tp) {
            return Err(Error::Client(format!("{tp} is not assigned to this host any more")));
        }
        if let Err(error) = consumer.incremental_unassign(&list) {
            // Where an earlier try came to this point and no further, it is out of the assignment already.
            tracing::debug!(%error, %tp, "cannot take a partition out of the assignment");
        }
        between();
        consumer.incremental_assign(&list).map_err(failed())
    }

    /// The id of a topic by which those of its records were fetched that have been polled by now.
    pub(super) fn fetched_by(&self, topic: &str) -> Option<Uuid> {
        self.learned.get()?.id(topic, self)
    }

    /// Takes in what librdkafka has logged; true where a topic was made anew.
    fn take_in_log(&self) -> bool {
        self.learned.get().is_some_and(|learned| learned.take_in(self))
    }

    fn ours(&self) -> MutexGuard<'_, HashSet<TopicPartition>> {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GroupConsumer {
    /// Joins the group on a thread of its own. A consumer that breaks is made anew, 200 ms later at first, 10 s at most.
    ///
    /// # Errors
    /// The configuration was refused, or no thread could be started.
    pub fn join(membership: Membership, assignments: Arc<dyn Assignments>) -> Result<Self, Error> {
        let first = connect(&membership, assignments.clone())?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let thread = std::thread::Builder::new()
            .name(format!("group-{}", membership.group))
            .spawn(move || {
                let mut consumer = Some(first);
                let mut fenced = None;
                let mut pause = Duration::from_millis(200);
                while !stopping.load(Ordering::Acquire) {
                    match consumer.take().map_or_else(|| connect(&membership, assignments.clone()), Ok) {
                        Ok(consumer) => {
                            let began = Instant::now();
                            let mut end = End::Over;
                            let (group, polling) = (&membership.group, &consumer);
                            fnhost_metrics::survives("group", group, || {
                                end = poll_until_broken(polling, &*assignments, &stopping);
                            });
                            if end == End::Fenced {
                                if fenced.is_some_and(|at: Instant| at.elapsed() < FENCED_AGAIN) {
                                    // Going on, both would fence each other for ever.
                                    assignments.fenced();
                                    return;
                                }
                                fenced = Some(Instant::now());
                                tracing::warn!(
                                    group = membership.group,
                                    "the group gave this member's name to another process, perhaps to this one after a restart; joining again"
                                );
                            }
                            if began.elapsed() > Duration::from_secs(60) {
                                pause = Duration::from_millis(200);
                            }
                        }
                        Err(error) => tracing::error!(error = format!("{error:#}"), "cannot make a consumer"),
                    }
                    if !stopping.load(Ordering::Acquire) {
                        std::thread::sleep(pause);
                        pause = (pause * 2).min(Duration::from_secs(10));
                    }
                }
            })
            .map_err(|e| Error::Client(format!("cannot start a thread for a consumer group: {e}")))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Revokes what is assigned (workers finish their batch), leaves and waits for the thread. Blocks.
    pub fn leave(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a consumer group's thread panicked");
        }
    }
}

fn connect(membership: &Membership, assignments: Arc<dyn Assignments>) -> Result<Arc<Inner>, Error> {
    // Where nobody waits for each record, each is not worth an answer of its own.
    let (wait, least) = match membership.window {
        Duration::ZERO => (FETCH_WAIT_MAX, 1),
        window => (window.min(WINDOW_WAIT_MAX), WINDOW_FETCH_BYTES),
    };
    let mut config = membership.access.base_config();
    config
        .set("group.id", &membership.group)
        .set("group.instance.id", &membership.instance)
        .set("session.timeout.ms", SESSION_TIMEOUT_MS.to_string())
        .set("heartbeat.interval.ms", "1000")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        // Says where a log ends that has no record before its end: markers of transactions, and what was aborted.
        .set("enable.partition.eof", "true")
        .set("queued.max.messages.kbytes", QUEUED_MAX_KIB.to_string())
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.error.backoff.ms", "100")
        .set("fetch.wait.max.ms", wait.as_millis().to_string())
        .set("fetch.min.bytes", least.to_string())
        .set("topic.metadata.refresh.interval.ms", "30000")
        .set("isolation.level", "read_committed")
        .set("statistics.interval.ms", REPORT_INTERVAL.as_millis().to_string());
    let mut config = membership.access.over(&mut config).clone();
    let context = Context {
        assignments,
        keys: membership.access.keys().clone(),
        consumer: OnceLock::new(),
        learned: OnceLock::new(),
        broken: AtomicBool::new(false),
        ours: Mutex::default(),
    };
    let shown = learned::ask(&mut config);
    let consumer: Inner = config
        .create_with_context(context)
        .map_err(Error::new(format!("cannot make a consumer of group {}", membership.group)))?;
    let consumer = Arc::new(consumer);
    // The rebalance callback needs the shared consumer to split partition queues off it.
    let learned = learned(&consumer, shown);
    if consumer.context().consumer.set(Arc::downgrade(&consumer)).is_err()
        || consumer.context().learned.set(learned).is_err()
    {
        return Err(Error::Client("a consumer was set up twice".into()));
    }
    fnhost_metrics::expect_forged_numbers(&membership.topics);
    let topics: Vec<&str> = membership.topics.iter().map(String::as_str).collect();
    consumer
        .subscribe(&topics)
        .map_err(Error::new(format!("cannot subscribe to {}", membership.topics.join(", "))))?;
    Ok(consumer)
}

#[allow(unsafe_code, reason = "the client is handed to librdkafka as it is")]
fn learned(consumer: &Inner, shown: Shown) -> Learned {
    // SAFETY: only the client's own context has it, which is used no more once the client is gone.
    unsafe { Learned::by(consumer.client().native_ptr(), shown) }
}

/// Why a consumer is not polled any more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It was told to stop, or is to be made anew.
    Over,
    /// Another member of its name has its place.
    Fenced,
}

fn poll_until_broken(consumer: &Arc<Inner>, assignments: &dyn Assignments, stop: &AtomicBool) -> End {
    let mut committed = Instant::now();
    let mut lost = false;
    let mut end = End::Over;
    while !stop.load(Ordering::Acquire) && !consumer.context().broken.load(Ordering::Acquire) {
        match consumer.poll(POLL_TIMEOUT) {
            None => {}
            Some(Err(error)) => {
                fnhost_metrics::kafka_error(KafkaClient::Consumer);
                let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
                tracing::warn!(%error, fatal, "Kafka consumer");
                if fatal {
                    // Another member has this one's place: finishing the batch in hand would only hold that one up.
                    lost = true;
                    let cause = consumer.client().fatal_error().map(|(code, _)| code);
                    if cause == Some(RDKafkaErrorCode::FencedInstanceId) {
                        end = End::Fenced;
                    }
                    break;
                }
            }
            Some(Ok(stray)) => {
                // Cannot happen while every queue is split off before its assignment; losing it silently would
                // be worse than starting over.
                tracing::error!(
                    topic = stray.topic(),
                    partition = stray.partition(),
                    "a record arrived outside its partition's queue"
                );
                break;
            }
        }
        if consumer.context().take_in_log() {
            tracing::warn!("a topic was deleted and made anew; restarting the consumer");
            break;
        }
        if committed.elapsed() >= GROUP_COMMIT_INTERVAL {
            committed = Instant::now();
            commit_group(consumer, &assignments.positions_to_commit());
        }
    }
    let ours: Vec<TopicPartition> = consumer
        .assignment()
        .map(|l| l.elements().iter().map(|e| TopicPartition::new(e.topic(), e.partition())).collect())
        .unwrap_or_default();
    assignments.revoked(&ours, lost);
    commit_group(consumer, &assignments.positions_to_commit());
    end
}

fn commit_group(consumer: &Inner, positions: &[(TopicPartition, i64)]) {
    let mut list = TopicPartitionList::new();
    for (tp, position) in positions {
        if let Err(error) = list.add_partition_offset(&tp.topic, tp.partition, Offset::Offset(*position)) {
            tracing::warn!(%error, topic = tp.topic, partition = tp.partition, "cannot name a group offset");
        }
    }
    if list.count() > 0
        && let Err(error) = consumer.commit(&list, CommitMode::Async)
    {
        tracing::debug!(%error, "cannot commit group offsets");
    }
}
