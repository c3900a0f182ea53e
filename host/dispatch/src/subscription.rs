//! A trigger's membership in its group, and the workers of the partitions it is given.

use super::status::{PartitionStatus, TriggerStatus};
use super::{Handlers, stream, worker};
use fnhost_db::OwnerPool;
use fnhost_db::ownership::Ownership;
use fnhost_db::session::{RolePool, Transaction};
use fnhost_kafka::access::Access;
use fnhost_kafka::assigned::Assigned;
use fnhost_kafka::cluster::Cluster;
use fnhost_kafka::consumer::{Assignments, GroupConsumer, Membership};
use fnhost_kafka::producer::{Producer, Refusal};
use fnhost_manifest::{Filter, Start, TriggerConfig};
use fnhost_types::causes::chain;
use fnhost_types::clock::now_ms;
use fnhost_types::record::{StreamSource, TopicPartition, dead_letter_topic};
use futures::future::BoxFuture;
use sqlx::Connection as _;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long workers may take to finish the batch in hand when their partitions go. The fence makes it safe to stop them earlier; waiting
/// saves the next owner the work.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a member without partitions asks whether the others have them all.
const NONE_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Longest wait for the answer whether the database serves the function's role.
const SERVES_TIMEOUT: Duration = Duration::from_secs(2);

/// What a trigger needs to run.
pub struct Subscription {
    /// Trigger id, unique in the deployment.
    pub id: String,
    /// Deployment name: the application's.
    pub deployment: String,
    /// Consumer group.
    pub group: String,
    /// Row of `fnhost.trigger`.
    pub trigger: i64,
    /// Topics consumed.
    pub topics: Vec<String>,
    /// Topics that the function may emit to.
    pub emits: HashSet<String>,
    /// Where a trigger without stored positions starts.
    pub start: Start,
    /// How it takes records and tries them again.
    pub config: TriggerConfig,
    /// Which records it wants.
    pub filter: Filter,
    /// Topic that gets copies of its dead letters, where it is not the one of each topic.
    pub dead_letter_topic: Option<String>,
    /// As many permits as batches that this host may handle at a time.
    pub in_flight: Arc<Semaphore>,
    /// Id of this process, which becomes the owner of partitions.
    pub host: Uuid,
    /// Name of the member in its group, the same after a restart.
    pub instance: String,
    /// Connections as the owner role.
    pub owner: OwnerPool,
    /// Connections as the function's role.
    pub role: RolePool,
    /// Topics.
    pub cluster: Arc<Cluster>,
    /// The host's producer.
    pub producer: Arc<Producer>,
    /// The function, whatever version of it runs.
    pub handlers: Arc<dyn Handlers>,
    /// What is known of its partitions.
    pub status: Arc<TriggerStatus>,
}

impl Subscription {
    /// What numbers the messages that a partition's dispatches emit.
    pub fn source(&self, tp: &TopicPartition) -> StreamSource {
        StreamSource::new(&self.deployment, &self.id, Some(tp))
    }

    /// The topic that gets copies of the dead letters of `topic`.
    pub fn dead_letters(&self, topic: &str) -> String {
        self.dead_letter_topic.clone().unwrap_or_else(|| dead_letter_topic(topic))
    }

    /// Notes that Kafka refuses a message of a partition's stream.
    pub(crate) async fn note_refused(&self, ownership: &Ownership, refusal: &Refusal) {
        stream::note_refused(&self.owner, &self.producer, ownership, refusal).await;
    }

    /// Whether the database lets the function's role in at the moment and answers it.
    pub async fn database_serves(&self) -> bool {
        let answered = async { self.role.acquire_new().await.ok()?.connection().ping().await.ok() };
        tokio::time::timeout(SERVES_TIMEOUT, answered).await.ok().flatten().is_some()
    }

    /// Largest message that the function may emit to `topic`, bytes; none where it may not.
    pub fn emit_limit(&self, topic: &str) -> Option<usize> {
        self.emits.contains(topic).then(|| self.cluster.topic(topic).map(|t| t.max_message_bytes)).flatten()
    }

    /// A transaction of the function's role that opens at its first use.
    pub fn transaction(&self) -> Transaction {
        Transaction::new(self.role.clone())
    }

    /// Stores a start position for every partition that has none, so that it is fixed before the first record is handed out.
    async fn fix_positions(&self) -> anyhow::Result<()> {
        let known: HashMap<_, _> =
            fnhost_db::schema::positions(&self.owner, self.trigger).await?.into_iter().collect();
        let mut starts = Vec::new();
        for topic in &self.topics {
            let start = self.start_of(topic, &known);
            for partition in 0..self.cluster.partitions(topic).await? {
                let tp = TopicPartition::new(topic, partition);
                if !known.contains_key(&tp) {
                    let position = self.cluster.resolve_start(&tp, start).await?;
                    starts.push((tp, position));
                }
            }
        }
        // In one step: a topic some of whose partitions are known takes the others for ones that were added.
        Ok(fnhost_db::schema::store_starts(&self.owner, self.trigger, &starts).await?)
    }

    /// Begins a new incarnation of the database where the group remembers positions that it has lost. Before anything is numbered: the
    /// numbers since then are on messages that Kafka has.
    ///
    /// # Errors
    /// The database or the cluster did not answer.
    pub async fn notice_lost_commits(&self, access: &Access) -> anyhow::Result<()> {
        let known = fnhost_db::schema::unchosen_positions(&self.owner, self.trigger).await?;
        let partitions: Vec<TopicPartition> = known.into_iter().map(|(tp, _)| tp).collect();
        let group = fnhost_kafka::offsets::group_positions(access, &self.group, &partitions).await?;
        // Read after the group's offsets: other hosts go on, and commit to the group what they have stored before.
        let stored = fnhost_db::schema::unchosen_positions(&self.owner, self.trigger).await?;
        for (tp, position) in stored {
            if let Some(group) = group.get(&tp).filter(|group| **group > position) {
                tracing::error!(
                    trigger = self.id,
                    topic = tp.topic,
                    partition = tp.partition,
                    position,
                    group,
                    "the database lost commits, as after a restore; messages are numbered on new streams from here on"
                );
                return Ok(fnhost_db::stopped::begin_incarnation(&self.owner).await?);
            }
        }
        Ok(())
    }

    async fn fix_position(&self, tp: &TopicPartition, start: Start) -> anyhow::Result<i64> {
        let position = self.cluster.resolve_start(tp, start).await?;
        Ok(fnhost_db::schema::store_start(&self.owner, self.trigger, tp, position).await?.position)
    }

    /// A partition that is found later holds records that this trigger was meant to see: it starts at the earliest.
    fn start_of(&self, topic: &str, known: &HashMap<TopicPartition, i64>) -> Start {
        if known.keys().any(|tp| tp.topic == topic) { Start::Earliest } else { self.start }
    }

    async fn positions_of(&self, partitions: &[TopicPartition]) -> anyhow::Result<Vec<i64>> {
        let known: HashMap<_, _> =
            fnhost_db::schema::positions(&self.owner, self.trigger).await?.into_iter().collect();
        let mut positions = Vec::with_capacity(partitions.len());
        for tp in partitions {
            positions.push(match known.get(tp) {
                Some(position) => *position,
                None => self.fix_position(tp, self.start_of(&tp.topic, &known)).await?,
            });
        }
        Ok(positions)
    }
}

/// A running subscription.
pub struct Running {
    subscription: Arc<Subscription>,
    consumer: Mutex<GroupConsumer>,
    fenced: CancellationToken,
    /// Ends with this value.
    _rest: JoinSet<()>,
}

impl Running {
    /// Fixes start positions and joins the group; workers start as partitions are assigned.
    ///
    /// # Errors
    /// Positions could not be stored, or the consumer could not be made.
    pub fn start(subscription: Arc<Subscription>, access: &Access) -> BoxFuture<'_, anyhow::Result<Self>> {
        // Boxed, so that it is compiled here and not in the crate that awaits it.
        Box::pin(async move {
            subscription.fix_positions().await?;
            let membership = Membership {
                access: access.clone(),
                group: subscription.group.clone(),
                instance: subscription.instance.clone(),
                topics: subscription.topics.clone(),
                window: Duration::from_millis(subscription.config.batch_window_ms.into()),
            };
            let mut rest = JoinSet::new();
            let watched = subscription.clone();
            rest.spawn(async move {
                fnhost_metrics::supervise("membership", &watched.id, || watch_rest(watched.clone())).await;
            });
            let fenced = CancellationToken::new();
            let workers = Workers {
                subscription: subscription.clone(),
                runtime: Handle::current(),
                running: Mutex::default(),
                fenced: fenced.clone(),
            };
            let consumer = GroupConsumer::join(membership, Arc::new(workers))?;
            Ok(Self { subscription, consumer: Mutex::new(consumer), fenced, _rest: rest })
        })
    }

    /// Waits until another process that runs under the name of this one has taken its place in the group, which is final.
    pub async fn fenced(&self) -> fnhost_kafka::Error {
        self.fenced.cancelled().await;
        let (group, instance) = (self.subscription.group.clone(), self.subscription.instance.clone());
        fnhost_kafka::Error::Fenced { group, instance }
    }

    /// Finishes the batches in hand and leaves the group. Blocks.
    pub fn stop(&self) {
        self.consumer.lock().unwrap_or_else(PoisonError::into_inner).leave();
    }
}

/// Whenever this host has none of a trigger's partitions, finds out whether others have them all, or whether the group is still on
/// its way: a member that joins is given none at first, and so is the first one where topics have just been made.
async fn watch_rest(subscription: Arc<Subscription>) {
    let status = &subscription.status;
    let mut changed = status.changes();
    loop {
        while status.is_left_out() {
            match subscription.cluster.group_has_all(&subscription.group, &subscription.topics).await {
                Ok(all) => status.set_others_have_all(all),
                Err(error) => tracing::debug!(
                    trigger = subscription.id,
                    error = chain(&error),
                    "cannot read the group's members"
                ),
            }
            tokio::time::sleep(NONE_CHECK_INTERVAL).await;
        }
        if changed.changed().await.is_err() {
            return;
        }
    }
}

struct Workers {
    subscription: Arc<Subscription>,
    runtime: Handle,
    running: Mutex<HashMap<TopicPartition, Worker>>,
    fenced: CancellationToken,
}

struct Worker {
    stop: CancellationToken,
    task: JoinHandle<()>,
    status: Arc<PartitionStatus>,
}

impl Workers {
    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<TopicPartition, Worker>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops these workers; those that do not end in time are cut off, which the fence makes safe.
    fn stop(&self, workers: Vec<(TopicPartition, Worker)>, timeout: Duration) {
        workers.iter().for_each(|(_, worker)| worker.stop.cancel());
        self.runtime.block_on(async {
            let deadline = tokio::time::Instant::now() + timeout;
            for (tp, mut worker) in workers {
                if tokio::time::timeout_at(deadline, &mut worker.task).await.is_err() {
                    tracing::warn!(
                        topic = tp.topic,
                        partition = tp.partition,
                        "the running batch did not finish in time; the next owner runs it again"
                    );
                    worker.task.abort();
                    let _ = worker.task.await;
                }
                self.subscription.status.remove(&tp);
            }
        });
    }
}

async fn supervised(
    subscription: Arc<Subscription>,
    assigned: Arc<Assigned>,
    status: Arc<PartitionStatus>,
    stop: CancellationToken,
) {
    let name = format!("{} {}", subscription.id, assigned.tp);
    let mut again = false;
    fnhost_metrics::supervise("worker", &name, || {
        let again = std::mem::replace(&mut again, true);
        worker::run(subscription.clone(), assigned.clone(), status.clone(), stop.clone(), again)
    })
    .await;
}

impl Assignments for Workers {
    fn positions(&self, partitions: &[TopicPartition]) -> anyhow::Result<Vec<i64>> {
        self.runtime.block_on(self.subscription.positions_of(partitions))
    }

    fn assigned(&self, partition: Assigned) {
        let tp = partition.tp.clone();
        if let Some(old) = self.running().remove(&tp) {
            self.stop(vec![(tp.clone(), old)], DRAIN_TIMEOUT);
        }
        let of = self.subscription.cluster.topic(&tp.topic).map_or(1, |topic| topic.partitions);
        let status = self.subscription.status.add(&tp, usize::try_from(of).unwrap_or(1));
        let stop = CancellationToken::new();
        let task = self.runtime.spawn(supervised(
            self.subscription.clone(),
            Arc::new(partition),
            status.clone(),
            stop.clone(),
        ));
        self.running().insert(tp, Worker { stop, task, status });
    }

    fn revoked(&self, partitions: &[TopicPartition], lost: bool) {
        let workers: Vec<_> = partitions
            .iter()
            .filter_map(|tp| self.running().remove(tp).map(|worker| (tp.clone(), worker)))
            .collect();
        if workers.is_empty() {
            return;
        }
        let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
        tracing::info!(
            trigger = self.subscription.id,
            partitions = names.join(" "),
            lost,
            "partitions revoked"
        );
        self.stop(workers, if lost { Duration::ZERO } else { DRAIN_TIMEOUT });
    }

    fn joined(&self) {
        self.subscription.status.set_joined();
    }

    fn fenced(&self) {
        self.fenced.cancel();
    }

    fn positions_to_commit(&self) -> Vec<(TopicPartition, i64)> {
        self.running()
            .iter()
            .map(|(tp, worker)| (tp.clone(), worker.status.position.load(Ordering::Relaxed)))
            .filter(|(_, position)| *position >= 0)
            .collect()
    }

    fn log_ends(&self, ends: &[(TopicPartition, i64)]) {
        let (running, now) = (self.running(), now_ms());
        for (tp, end) in ends {
            if let Some(Worker { status, .. }) = running.get(tp) {
                status.backlog.log_end(*end, status.position.load(Ordering::Relaxed), now);
            }
        }
    }
}
