//! The host with native code in the place of the components, run as a process of its own: the dispatch, the store, the
//! outbox and the consumers are fnhost's, and only the handler differs.

use crate::native::{Around, Function, NativeHandler};
use crate::system::Servers;
use fnhost_db::schema::{self, role_password};
use fnhost_db::session::{RolePool, SessionLimits};
use fnhost_db::{OwnerPool, stream_keys};
use fnhost_dispatch::Fixed;
use fnhost_dispatch::status::Registry;
use fnhost_dispatch::subscription::{Running, Subscription};
use fnhost_kafka::cluster::Cluster;
use fnhost_kafka::producer::Producer;
use fnhost_manifest::{KafkaTrigger, Manifest};
use fnhost_types::record::dead_letter_topic;
use fnhost_types::stream_keys::StreamKeys;
use sqlx::postgres::PgConnectOptions;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use uuid::Uuid;

/// Connections of one function's role, as fnhost has them.
pub const ROLE_CONNECTIONS_MAX: usize = 14;

/// What the subscriptions share.
struct Host {
    manifest: Manifest,
    servers: Servers,
    owner: OwnerPool,
    cluster: Arc<Cluster>,
    producer: Arc<Producer>,
    host: Uuid,
    registry: Registry,
}

/// Runs every Kafka trigger of the manifest until SIGINT.
///
/// # Errors
/// The servers do not answer, or the manifest has a component that no native code is known for.
pub async fn run(manifest: &Path, servers: Servers) -> anyhow::Result<()> {
    let manifest = Manifest::load(manifest)?;
    let owner = OwnerPool::connect(PgConnectOptions::from_str(&servers.database)?).await?;
    let keys = StreamKeys::default();
    keys.replace(stream_keys::load(&owner).await?);
    let access = servers.kafka.access()?.with_keys(keys);
    let cluster = Cluster::connect(&access).await?;
    let producer = Arc::new(Producer::new(&access, cluster.clone())?);
    let host = Host {
        manifest,
        servers,
        owner,
        cluster,
        producer,
        host: Uuid::new_v4(),
        registry: Registry::default(),
    };
    host.learn_topics().await?;
    let mut running = Vec::new();
    for trigger in &host.manifest.kafka {
        let subscription = Arc::new(host.subscription(trigger).await?);
        running.push(Running::start(subscription, &access).await?);
    }
    tokio::signal::ctrl_c().await?;
    tokio::task::spawn_blocking(move || {
        running.iter().for_each(Running::stop);
        host.producer.flush();
    })
    .await?;
    Ok(())
}

impl Host {
    async fn learn_topics(&self) -> anyhow::Result<()> {
        let consumed = self.manifest.kafka.iter().flat_map(|trigger| &trigger.topics);
        let mut used: Vec<String> = consumed.clone().cloned().collect();
        used.extend(consumed.map(|topic| dead_letter_topic(topic)));
        used.extend(self.manifest.kafka.iter().flat_map(|trigger| &trigger.emits).cloned());
        used.sort();
        used.dedup();
        Ok(self.cluster.prepare_topics(&self.manifest.application.topics, &used).await?)
    }

    async fn subscription(&self, trigger: &KafkaTrigger) -> anyhow::Result<Subscription> {
        let deployment = self.manifest.application.name.clone();
        let login = format!("fn_{}", trigger.component);
        let deadline = self.manifest.components[&trigger.component].limits.deadline;
        let options = PgConnectOptions::from_str(&self.servers.database)?
            .username(&login)
            .password(&role_password(&self.servers.role_secret, &login));
        let limits = SessionLimits { max_connections: ROLE_CONNECTIONS_MAX, deadline };
        let row =
            schema::register_trigger(&self.owner, &deployment, &trigger.id, "kafka", &trigger.group, &login)
                .await?;
        Ok(Subscription {
            id: trigger.id.clone(),
            instance: format!("{deployment}-{}-{}", trigger.id, &self.servers.instance[..16]),
            deployment,
            group: trigger.group.clone(),
            trigger: row,
            topics: trigger.topics.clone(),
            emits: trigger.emits.iter().cloned().collect(),
            start: trigger.start,
            config: trigger.config.clone(),
            filter: trigger.filter.clone(),
            dead_letter_topic: trigger.dead_letter_topic.clone(),
            in_flight: Arc::new(tokio::sync::Semaphore::new(trigger.config.max_in_flight)),
            host: self.host,
            owner: self.owner.clone(),
            role: RolePool::new(&trigger.component, options, limits),
            cluster: self.cluster.clone(),
            producer: self.producer.clone(),
            handlers: Arc::new(Fixed::new(NativeHandler(
                Function::of_component(&trigger.component)?,
                Around::of(&self.manifest, &trigger.component)?,
            ))),
            status: self.registry.trigger(&trigger.id, &trigger.component, &trigger.group),
        })
    }
}
