//! What each test has: its topics on the broker, its database, and the hosts that it starts.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fnhost_db::positions;
use fnhost_db::schema::{self, FunctionSchema};
use fnhost_db::session::{RolePool, SessionLimits};
use fnhost_db::stream_keys;
use fnhost_db::{OWNER_CONNECTIONS, OwnerPool};
use fnhost_deployment::Slot;
use fnhost_dispatch::changes;
use fnhost_dispatch::relay::{self, Relay};
use fnhost_dispatch::schedule::{self, Schedule};
use fnhost_dispatch::status::Registry;
use fnhost_dispatch::subscription::{Running, Subscription};
use fnhost_dispatch::wasm::WasmHandlers;
use fnhost_dispatch::{Fixed, Handler, Handlers};
use fnhost_kafka::access::Access;
use fnhost_kafka::cluster::Cluster;
use fnhost_kafka::producer::Producer;
use fnhost_manifest::{Filter, Start, TriggerConfig};
use fnhost_test_postgres::TestPostgres;
use fnhost_types::record::TopicPartition;
use fnhost_types::record::dead_letter_topic;
use fnhost_types::stream_keys::StreamKeys;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};
use uuid::Uuid;

use super::broker::Kafka;
use super::log;
use super::names::{config, group, out};
use crate::support::{engine, holds};

/// Bound of everything that is awaited here.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The deadline of the guest's calls: short, because some run into it.
pub const DEADLINE: Duration = Duration::from_millis(1500);

/// What one test works on: topics with one partition each, and a database with the table `effect`.
pub struct World {
    /// The superuser's sessions, which never wait for a standby.
    pub database: PgPool,
    /// The function's login role.
    pub role: String,
    /// How often a host looks for changes that were not announced: never, but where a test wants it.
    pub poll: Duration,
    /// The way of the hosts to the database, where it is not the direct one: a port.
    pub way: Option<u16>,
    /// Where the trigger begins in a topic that it does not know.
    pub start: Start,
    /// Whether the hosts read the topics' ids every second.
    pub watchful: bool,
    /// How the hosts take records and try them again; their attempts are given with each host.
    pub config: TriggerConfig,
    /// Which records the hosts want.
    pub filter: Filter,
    /// The topic for copies of dead letters, where it is not each topic's own.
    pub dead_letter_topic: Option<String>,
    /// Longest run of the hosts' own statements.
    pub statements: Duration,
    /// The topics' unique names.
    pub topics: Vec<String>,
    kafka: Arc<Kafka>,
    /// The Postgres server that all worlds share.
    pub postgres: Arc<TestPostgres>,
    cluster: Arc<Cluster>,
    /// Sends records.
    pub producer: FutureProducer,
    /// The keys under which the hosts number messages.
    pub keys: StreamKeys,
    trigger: i64,
}

/// A host's side of the group.
pub struct Host {
    running: Arc<Running>,
    /// What it says of its partitions.
    pub registry: Registry,
    _watching: DropGuard,
}

impl World {
    /// A world whose topics have these names, made unique; record `n` of each topic has the offset `n`.
    pub async fn new(topics: &[&str]) -> Self {
        Self::on(TestPostgres::shared(), topics).await
    }

    /// As [`World::new`], on a server that the test may set up as it likes.
    pub async fn on(postgres: Arc<TestPostgres>, topics: &[&str]) -> Self {
        // Shown with RUST_LOG, and for a test that fails; what guests print is kept as well.
        let shown = fmt::layer().with_test_writer().with_filter(EnvFilter::from_default_env());
        let kept = fmt::layer()
            .with_ansi(false)
            .with_writer(|| log::Kept)
            .with_filter(filter_fn(|of| of.target() == "fnhost::guest"));
        let _ = tracing_subscriber::registry().with(shown).with(kept).try_init();
        let kafka = Kafka::shared().await;
        let unique = Uuid::new_v4().simple().to_string();
        let topics: Vec<String> = topics.iter().map(|topic| format!("{topic}.{}", &unique[..8])).collect();
        let cluster = Cluster::connect(&kafka.access()).await.expect("a broker");
        let made: BTreeMap<String, i32> = topics
            .iter()
            .flat_map(|topic| [topic.clone(), out(topic), dead_letter_topic(topic)])
            .map(|t| (t, 1))
            .collect();
        cluster.prepare_topics(&made, &made.keys().cloned().collect::<Vec<_>>()).await.expect("topics");
        let (role, _) = postgres.new_database().await;
        let login = postgres.login("postgres", &role);
        let owner = OwnerPool::connect(login.clone()).await.expect("the owner's login");
        let function =
            FunctionSchema { schema: "own", role: &role, password: "", migrations: None, events: None };
        schema::migrate(&owner, &[function], &schema::Passwords { secret: "unused", rotate: false })
            .await
            .expect("the host's migrations");
        let keys = StreamKeys::default();
        keys.replace(stream_keys::load(&owner).await.expect("a key"));
        let trigger =
            schema::register_trigger(&owner, "test", "trigger", "kafka", &group(&role, &unique), &role).await;
        owner.close().await;
        let local = [("synchronous_commit", "local")];
        let database = PgPoolOptions::new().connect_with(login.options(local)).await.expect("a login");
        let world = Self {
            database,
            role,
            poll: Duration::MAX,
            way: None,
            start: Start::Earliest,
            watchful: true,
            config: config(),
            filter: Filter::default(),
            dead_letter_topic: None,
            statements: fnhost_db::OWNER_STATEMENT_TIMEOUT,
            topics,
            producer: kafka.client().create().expect("a producer"),
            keys,
            trigger: trigger.expect("a trigger"),
            kafka,
            postgres,
            cluster,
        };
        world.run("CREATE TABLE own.effect (topic text NOT NULL, record bigint NOT NULL)").await;
        // The owner's own statements never wait for a standby either, where a test names one that does not exist.
        world
            .run(&format!("ALTER ROLE postgres IN DATABASE {} SET synchronous_commit = local", world.role))
            .await;
        world
    }

    /// Appends records to a topic: key and behaviour.
    pub async fn send(&self, index: usize, records: &[(&str, &str)]) {
        for (key, behaviour) in records {
            let record = FutureRecord::to(&self.topics[index]).key(*key).payload(*behaviour);
            self.producer.send(record, PATIENCE).await.expect("sent");
        }
    }

    /// Starts a host; one with the name of an earlier one takes its place in the group, as after a restart.
    pub async fn host(&self, name: &str, max_attempts: u32) -> Host {
        let guest = engine().load(&self.spec()).expect("the guest loads");
        self.host_of(Slot::of(guest), name, max_attempts).await
    }

    /// As [`World::host`], with what runs in a place that may change.
    pub async fn host_of(&self, slot: Arc<Slot>, name: &str, max_attempts: u32) -> Host {
        self.host_with(|pool| Arc::new(WasmHandlers::new(slot, pool)), name, max_attempts).await
    }

    /// As [`World::host`], with handlers that get the function's connections.
    pub async fn host_with(
        &self,
        handlers: impl FnOnce(RolePool) -> Arc<dyn Handlers>,
        name: &str,
        max_attempts: u32,
    ) -> Host {
        let registry = Registry::default();
        let login = self.login(&self.role);
        let limits = SessionLimits { max_connections: 14, deadline: DEADLINE };
        let pool = RolePool::new("guest", login, limits);
        let group = self.value::<String>("SELECT group_id FROM fnhost.trigger").await;
        let subscription = Subscription {
            id: "trigger".to_owned(),
            deployment: "test".to_owned(),
            group: group.clone(),
            trigger: self.trigger,
            topics: self.topics.clone(),
            emits: self.topics.iter().map(|topic| out(topic)).collect::<HashSet<_>>(),
            start: self.start,
            config: TriggerConfig { max_attempts, ..self.config.clone() },
            filter: self.filter.clone(),
            dead_letter_topic: self.dead_letter_topic.clone(),
            in_flight: Arc::new(Semaphore::new(self.config.max_in_flight)),
            host: Uuid::new_v4(),
            instance: format!("{group}-{name}"),
            owner: self.owner().await,
            role: pool.clone(),
            cluster: self.cluster.clone(),
            producer: self.sender(),
            handlers: handlers(pool),
            status: registry.trigger("trigger", "guest", &group),
        };
        let watching = CancellationToken::new();
        let owner = subscription.owner.clone();
        tokio::spawn(changes::watch(owner, subscription.host, registry.clone(), self.poll, watching.clone()));
        if self.watchful {
            tokio::spawn(self.cluster.clone().keep_fresh(watching.clone()));
        }
        let running = Running::start(Arc::new(subscription), &self.access()).await.expect("it joins");
        Host { running: Arc::new(running), registry, _watching: watching.drop_guard() }
    }

    /// Where the hosts find the database.
    pub fn port(&self) -> u16 {
        self.way.unwrap_or(self.postgres.port())
    }

    pub fn login(&self, user: &str) -> PgConnectOptions {
        self.postgres.login(user, &self.role).port(self.port())
    }

    /// A host's connections as the owner role.
    pub async fn owner(&self) -> OwnerPool {
        let pool = OwnerPool::connect_with(self.login("postgres"), OWNER_CONNECTIONS, self.statements).await;
        pool.expect("the owner's login")
    }

    /// The relay of a component whose events are in `own.outgoing_event`, on these connections.
    pub async fn relay(&self, component: &str, owner: OwnerPool) -> Relay {
        let (trigger, source) = relay::register(&owner, "test", component).await.expect("registered");
        Relay {
            trigger,
            schema: "own".to_owned(),
            table: "outgoing_event".to_owned(),
            source,
            topics: HashSet::from([out(&self.topics[0])]),
            host: Uuid::new_v4(),
            owner,
            cluster: self.cluster.clone(),
            producer: self.sender(),
        }
    }

    /// A schedule with this handler that emits to the first topic's output, as a host of this name would run it.
    pub async fn schedule(&self, every: Duration, handler: Arc<dyn Handler>) -> Schedule {
        let owner = self.owner().await;
        let (trigger, source) =
            schedule::register(&owner, "test", "own", "tick", &self.role).await.expect("registered");
        let limits = SessionLimits { max_connections: 14, deadline: DEADLINE };
        Schedule {
            id: "tick".to_owned(),
            trigger,
            source,
            every,
            emits: HashSet::from([out(&self.topics[0])]),
            host: Uuid::new_v4(),
            owner,
            role: RolePool::new("own", self.postgres.login(&self.role, &self.role), limits),
            cluster: self.cluster.clone(),
            producer: self.sender(),
            handlers: Arc::new(Fixed::from(handler)),
            status: Arc::default(),
        }
    }

    /// The topics as a host knows them.
    pub fn cluster(&self) -> Arc<Cluster> {
        self.cluster.clone()
    }

    /// How a host reaches the broker.
    pub fn access(&self) -> Access {
        self.kafka.access().with_keys(self.keys.clone())
    }

    /// A producer as a host has it.
    pub fn sender(&self) -> Arc<Producer> {
        Arc::new(Producer::new(&self.access(), self.cluster.clone()).expect("a producer"))
    }

    /// What clients of the broker begin with.
    pub fn client(&self) -> ClientConfig {
        self.kafka.client()
    }

    /// The topic that is emitted to for a topic's records.
    pub fn output(&self, index: usize) -> String {
        out(&self.topics[index])
    }

    /// Runs statements as the superuser.
    pub async fn run(&self, sql: &str) {
        let run = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&self.database).await;
        run.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Moves a topic's position, as `fnhost position` does.
    pub async fn move_position(&self, index: usize, position: i64) {
        let login = self.postgres.login("postgres", &self.role);
        let owner = OwnerPool::connect(login).await.expect("the owner's login");
        let tp = TopicPartition::new(&self.topics[index], 0);
        let topic_id = self.cluster.topic_id(&tp.topic).await.expect("an id");
        let moved = positions::set(&owner, "test", "trigger", &tp, position, topic_id).await;
        moved.expect("the database").expect("such a partition");
        owner.close().await;
    }

    /// One value, as the superuser.
    pub async fn value<T>(&self, sql: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        let value = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(&self.database).await;
        value.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Waits until a question has the answer true.
    pub async fn until(&self, question: &str) {
        let asked = holds(async || self.value::<bool>(question).await);
        if tokio::time::timeout(PATIENCE, asked).await.is_err() {
            let state = "SELECT coalesce(jsonb_agg(p), '[]')::text || coalesce((SELECT jsonb_agg(d) FROM fnhost.dead d), '[]')::text \
                         || coalesce((SELECT jsonb_agg(k) FROM fnhost.parked k), '[]')::text FROM fnhost.partition p";
            panic!("it does not come to: {question}\n{}", self.value::<String>(state).await);
        }
    }

    /// Waits until a topic's position is this.
    pub async fn until_position(&self, index: usize, position: i64) {
        let topic = &self.topics[index];
        self.until(&format!(
            "SELECT EXISTS (SELECT FROM fnhost.partition WHERE topic = '{topic}' AND position = {position}) \
             AND NOT EXISTS (SELECT FROM fnhost.parked WHERE topic = '{topic}')"
        ))
        .await;
    }

    /// The records of a topic that have had their effect, each as often as it had it.
    pub async fn effects(&self, index: usize) -> Vec<i64> {
        let topic = &self.topics[index];
        self.value(&format!(
            "SELECT coalesce(array_agg(record ORDER BY record), '{{}}') FROM own.effect WHERE topic = '{topic}'"
        ))
        .await
    }

    /// The dead records of a topic: offset, attempts and reason.
    pub async fn dead(&self, index: usize) -> Vec<(i64, i32, String)> {
        sqlx::query_as("SELECT \"offset\", attempts, reason FROM fnhost.dead WHERE topic = $1 ORDER BY id")
            .bind(&self.topics[index])
            .fetch_all(&self.database)
            .await
            .expect("the dead")
    }

    /// Waits until so many messages were emitted for a topic's records, and answers their numbers in the stream.
    pub async fn emitted(&self, index: usize, count: usize) -> Vec<i64> {
        let records = self.read(&out(&self.topics[index]), count).await;
        records.iter().map(|headers| headers["fnhost-seq"].parse().expect("a number")).collect()
    }

    /// Waits until so many messages were emitted for a topic's records, and answers their headers.
    pub async fn messages(&self, index: usize, count: usize) -> Vec<BTreeMap<String, String>> {
        self.read(&out(&self.topics[index]), count).await
    }

    /// Waits for so many dead letters of a topic, and answers their headers.
    pub async fn dead_letters(&self, index: usize, count: usize) -> Vec<BTreeMap<String, String>> {
        self.read(&dead_letter_topic(&self.topics[index]), count).await
    }
}

impl Host {
    /// Waits until every partition is owned.
    pub async fn ready(&self) {
        let ready = tokio::time::timeout(PATIENCE, self.registry.ready()).await;
        assert!(ready.is_ok(), "{:?}", self.registry.not_ready());
    }

    /// Finishes what is in hand and leaves the group.
    pub async fn stop(self) {
        let running = self.running.clone();
        tokio::task::spawn_blocking(move || running.stop()).await.expect("no panic");
    }
}
