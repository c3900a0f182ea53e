//! The Kafka side of a running host: its subscriptions, relays and producer.

use super::setup::Setup;
use anyhow::Context as _;
use fnhost_db::{OwnerPool, retention, schema, stream_keys};
use fnhost_deployment::Slot;
use fnhost_dispatch::changes;
use fnhost_dispatch::operator::Operator;
use fnhost_dispatch::relay::orphans::Orphans;
use fnhost_dispatch::relay::{self, Relay};
use fnhost_dispatch::schedule::status::ScheduleStatus;
use fnhost_dispatch::schedule::{self, Schedule};
use fnhost_dispatch::status::Registry;
use fnhost_dispatch::subscription::{Running, Subscription};
use fnhost_dispatch::wasm::WasmHandlers;
use fnhost_http::Source;
use fnhost_http::hub::Hub;
use fnhost_kafka::access::Access;
use fnhost_kafka::cluster::Cluster;
use fnhost_kafka::producer::Producer;
use fnhost_kafka::tail;
use fnhost_manifest::{KafkaTrigger, Manifest};
use fnhost_types::causes::chain;
use fnhost_types::stream_keys::StreamKeys;
use futures::FutureExt as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Characters of a data directory's identity that a group member's name carries.
const INSTANCE_CHARS: usize = 16;

/// What triggers are started with.
pub struct Context<'a> {
    /// The prepared setup.
    pub setup: &'a Setup,
    /// How Kafka is reached.
    pub access: &'a Access,
    /// The places of the components by id.
    pub components: &'a BTreeMap<String, Arc<Slot>>,
    /// Where partitions report how they are.
    pub registry: &'a Registry,
    /// Identity of the data directory.
    pub instance: String,
}

/// The running Kafka side.
pub struct Triggers {
    host: Uuid,
    access: Access,
    keys: StreamKeys,
    cluster: Arc<Cluster>,
    producer: Arc<Producer>,
    subscriptions: Vec<Arc<Running>>,
    relays: JoinSet<()>,
    stop_relays: CancellationToken,
    /// Rows of `fnhost.trigger` that this host runs.
    known: Vec<i64>,
    push: Option<Arc<Hub>>,
}

impl Triggers {
    /// Prepares topics, then starts relays and subscriptions.
    ///
    /// # Errors
    /// The first thing that could not be started; nothing stays running.
    pub async fn start(context: &Context<'_>) -> anyhow::Result<Self> {
        let keys = StreamKeys::default();
        keys.replace(stream_keys::load(&context.setup.owner).await?);
        let access = context.access.clone().with_keys(keys.clone());
        let cluster = Cluster::connect(&access).await?;
        prepare_topics(context.setup, &cluster).await?;
        let mut triggers = Self {
            host: context.setup.host,
            producer: Arc::new(Producer::new(&access, cluster.clone())?),
            access,
            keys,
            cluster,
            subscriptions: vec![],
            relays: JoinSet::new(),
            stop_relays: CancellationToken::new(),
            known: vec![],
            push: None,
        };
        match triggers.start_all(context).await {
            Ok(()) => Ok(triggers),
            Err(error) => {
                triggers.stop().await;
                Err(error)
            }
        }
    }

    async fn start_all(&mut self, context: &Context<'_>) -> anyhow::Result<()> {
        let (owner, registry, host) = (context.setup.owner.clone(), context.registry.clone(), self.host);
        let (cluster, keys, stop) = (self.cluster.clone(), self.keys.clone(), self.stop_relays.clone());
        self.supervise("topics", move || cluster.clone().keep_fresh(stop.clone()));
        let (producer, stop) = (self.producer.clone(), self.stop_relays.clone());
        self.supervise("producer", move || producer.clone().keep_fresh(stop.clone()));
        let (keys_owner, stop) = (owner.clone(), self.stop_relays.clone());
        self.supervise("stream-keys", move || reload_keys(keys_owner.clone(), keys.clone(), stop.clone()));
        let stop = self.stop_relays.clone();
        self.supervise("changes", move || {
            changes::watch(owner.clone(), host, registry.clone(), changes::POLL_INTERVAL, stop.clone())
        });
        let mut subscriptions = Vec::new();
        for trigger in &context.setup.manifest.kafka {
            let subscription = self.subscription(context, trigger).await?;
            // Before anything is numbered.
            subscription.notice_lost_commits(&self.access).await?;
            self.known.push(subscription.trigger);
            subscriptions.push(Arc::new(subscription));
        }
        self.start_relays(context.setup).await?;
        self.start_tail(context);
        self.start_schedules(context).await?;
        for subscription in subscriptions {
            self.subscriptions.push(Arc::new(Running::start(subscription, &self.access).await?));
        }
        let orphans = Arc::new(Orphans {
            deployment: context.setup.deployment().to_string(),
            known: self.known.clone(),
            host: self.host,
            owner: context.setup.owner.clone(),
            producer: self.producer.clone(),
        });
        let stop = self.stop_relays.clone();
        self.supervise("orphans", move || orphans.clone().run(stop.clone()));
        Ok(())
    }

    /// Runs a task until the relays stop, also through its panics.
    fn supervise<F>(&mut self, kind: &'static str, task: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.relays.spawn(async move { fnhost_metrics::supervise(kind, "", task).await });
    }

    /// Reads what live routes send, where there are any.
    fn start_tail(&mut self, context: &Context<'_>) {
        let pushed =
            context.setup.manifest.application.live.iter().flat_map(|push| push.topics.iter().cloned());
        let topics: BTreeSet<String> = pushed.collect();
        if topics.is_empty() {
            return;
        }
        let hub = Hub::new(topics.into_iter().collect());
        let (stop, cluster, access) = (self.stop_relays.clone(), self.cluster.clone(), self.access.clone());
        let tailed = hub.clone();
        self.supervise("tail", move || {
            tail::run(tailed.clone(), cluster.clone(), access.clone(), stop.clone())
        });
        self.push = Some(hub);
    }

    /// Where live routes have their records from.
    pub fn live_source(&self) -> Option<Source> {
        Some(Source { hub: self.push.clone()?, cluster: self.cluster.clone() })
    }

    async fn start_relays(&mut self, setup: &Setup) -> anyhow::Result<()> {
        for component in setup.manifest.components.values() {
            let Some(database) = &component.database else { continue };
            let Some(table) = &database.events else { continue };
            let (trigger, source) = relay::register(&setup.owner, setup.deployment(), &component.id).await?;
            let relay = Relay {
                trigger,
                schema: database.schema.clone(),
                table: table.clone(),
                source,
                topics: database.event_topics.iter().cloned().collect(),
                host: self.host,
                owner: setup.owner.clone(),
                cluster: self.cluster.clone(),
                producer: self.producer.clone(),
            };
            self.known.push(trigger);
            self.relays.spawn(relay.run(self.stop_relays.clone()));
        }
        Ok(())
    }

    async fn start_schedules(&mut self, context: &Context<'_>) -> anyhow::Result<()> {
        let setup = context.setup;
        for (id, component) in context.components {
            let declared = setup.manifest.components.get(id).map(|c| &c.schedules[..]).unwrap_or_default();
            for declared in declared {
                anyhow::ensure!(
                    component.running().current.version.component.handles_kafka(),
                    "component {id} has a schedule but does not export the Kafka handler, which schedules call"
                );
                // The manifest refuses a schedule without a database.
                let Some(role) = setup.roles.get(id) else { continue };
                let login = role.options().get_username();
                let (trigger, source) =
                    schedule::register(&setup.owner, setup.deployment(), id, &declared.id, login).await?;
                let status = ScheduleStatus::new(&format!("{id}:schedule:{}", declared.id), declared.every);
                let schedule = Schedule {
                    status: context.registry.schedule(status),
                    id: declared.id.clone(),
                    trigger,
                    source,
                    every: declared.every,
                    emits: declared.emits.iter().cloned().collect(),
                    host: self.host,
                    owner: setup.owner.clone(),
                    role: role.clone(),
                    cluster: self.cluster.clone(),
                    producer: self.producer.clone(),
                    handlers: Arc::new(WasmHandlers::new(component.clone(), role.clone())),
                };
                self.known.push(trigger);
                self.relays.spawn(schedule.run(self.stop_relays.clone()));
            }
        }
        Ok(())
    }

    async fn subscription(
        &self,
        context: &Context<'_>,
        trigger: &KafkaTrigger,
    ) -> anyhow::Result<Subscription> {
        let setup = context.setup;
        let component = context
            .components
            .get(&trigger.component)
            .context("a trigger of a component that is not loaded")?;
        // The manifest refuses a trigger without a database.
        let role =
            setup.roles.get(&trigger.component).context("a trigger of a component without a database")?;
        let login = role.options().get_username();
        let row = schema::register_trigger(
            &setup.owner,
            setup.deployment(),
            &trigger.id,
            "kafka",
            &trigger.group,
            login,
        )
        .await?;
        let kept_days = trigger.config.dead_letters_kept_days;
        retention::keep_dead(&setup.owner, row, kept_days).await?;
        let status = context.registry.trigger(&trigger.id, &trigger.component, &trigger.group);
        let identity = short_instance(&context.instance);
        Ok(Subscription {
            id: trigger.id.clone(),
            deployment: setup.deployment().to_string(),
            group: trigger.group.clone(),
            trigger: row,
            topics: trigger.topics.clone(),
            emits: trigger.emits.iter().cloned().collect(),
            start: trigger.start,
            config: trigger.config.clone(),
            filter: trigger.filter.clone(),
            dead_letter_topic: trigger.dead_letter_topic.clone(),
            in_flight: Arc::new(Semaphore::new(trigger.config.max_in_flight)),
            host: self.host,
            instance: format!("{}-{}-{identity}", setup.deployment(), trigger.id),
            owner: setup.owner.clone(),
            role: role.clone(),
            cluster: self.cluster.clone(),
            producer: self.producer.clone(),
            handlers: Arc::new(
                WasmHandlers::new(component.clone(), role.clone()).measured(status.metrics.clone()),
            ),
            status,
        })
    }

    /// What people ask of the triggers.
    pub fn operator(&self, setup: &Setup) -> Operator {
        Operator {
            deployment: setup.deployment().to_owned(),
            owner: setup.owner.clone(),
            cluster: self.cluster.clone(),
            access: self.access.clone(),
            triggers: setup.manifest.kafka.clone().into(),
        }
    }

    /// The connected Kafka cluster.
    pub fn cluster(&self) -> Arc<Cluster> {
        self.cluster.clone()
    }

    /// Waits until another process that runs under this host's name has taken its place; going on would only take it back.
    pub async fn fenced(&self) -> fnhost_kafka::Error {
        let fenced = self.subscriptions.iter().map(|subscription| subscription.fenced().boxed());
        // An empty selection is not allowed, and a host without subscriptions is never fenced.
        let never = std::future::pending().boxed();
        futures::future::select_all(fenced.chain([never])).await.0
    }

    /// Finishes what is in hand: first the partitions, then the relays, then what was sent is waited for.
    pub async fn stop(mut self) {
        let mut stopping = JoinSet::new();
        for subscription in std::mem::take(&mut self.subscriptions) {
            stopping.spawn_blocking(move || subscription.stop());
        }
        while stopping.join_next().await.is_some() {}
        self.stop_relays.cancel();
        while self.relays.join_next().await.is_some() {}
        let producer = self.producer.clone();
        if tokio::task::spawn_blocking(move || producer.flush()).await.is_err() {
            tracing::warn!("the Kafka producer did not stop cleanly");
        }
    }
}

/// Reads the keys under which messages are numbered anew until `stop`, so that they can be changed while hosts run.
async fn reload_keys(owner: OwnerPool, keys: StreamKeys, stop: CancellationToken) {
    let interval = Duration::from_secs(stream_keys::RELOAD_INTERVAL_S);
    while tokio::time::timeout(interval, stop.cancelled()).await.is_err() {
        match stream_keys::load(&owner).await {
            Ok(loaded) => keys.replace(loaded),
            Err(error) => tracing::debug!(error = chain(&error), "cannot read the keys of streams"),
        }
    }
}

/// The part of a data directory's identity that the names of its group members carry, and that the registry knows it by.
pub fn short_instance(identity: &str) -> &str {
    identity.get(..INSTANCE_CHARS).unwrap_or(identity)
}

/// Creates the topics that the manifest declares, and a dead-letter topic beside each one that is consumed.
async fn prepare_topics(setup: &Setup, cluster: &Arc<Cluster>) -> anyhow::Result<()> {
    let manifest = &setup.manifest;
    let mut declared = manifest.application.topics.clone();
    let mut used = topics(manifest);
    for trigger in &manifest.kafka {
        for topic in &trigger.topics {
            let (letters, partitions) =
                (trigger.dead_letters(topic), declared.get(topic).copied().unwrap_or(1));
            used.insert(letters.clone());
            // Several topics may have one for all.
            let most = declared.entry(letters).or_insert(partitions);
            *most = partitions.max(*most);
        }
    }
    let used: Vec<String> = used.into_iter().collect();
    Ok(cluster.prepare_topics(&declared, &used).await?)
}

/// All topics that a manifest names; dead-letter topics are not among them.
pub fn topics(manifest: &Manifest) -> BTreeSet<String> {
    let mut used: BTreeSet<String> = manifest.application.topics.keys().cloned().collect();
    for trigger in &manifest.kafka {
        used.extend(trigger.topics.iter().chain(&trigger.emits).cloned());
    }
    used.extend(manifest.application.live.iter().flat_map(|push| push.topics.iter().cloned()));
    for schedule in manifest.components.values().flat_map(|c| &c.schedules) {
        used.extend(schedule.emits.iter().cloned());
    }
    for database in manifest.components.values().filter_map(|c| c.database.as_ref()) {
        used.extend(database.event_topics.iter().cloned());
    }
    used
}
