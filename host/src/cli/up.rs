//! `fnhost up`: starts everything, says where it is, and drains on Ctrl-C.

use super::Application;
use super::ground::Ground;
use crate::admin::{self, Admin, ComponentView};
use crate::db::schema;
use crate::dispatch::status::Registry;
use crate::dispatch::subscription::{Running, Subscription, dead_letter_topic};
use crate::dispatch::wasm::WasmHandler;
use crate::dispatch::{self};
use crate::embedded;
use crate::engine::{ComponentSpec, Engine, EngineOptions, LoadedComponent};
use crate::http;
use crate::kafka::cluster::Cluster;
use crate::kafka::producer::Producer;
use crate::manifest::KafkaTrigger;
use crate::manifest::route::Route;
use crate::relay::{self, Relay};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Runs the application until Ctrl-C or SIGTERM.
#[derive(Args, Debug)]
pub struct UpArgs {
    #[command(flatten)]
    app: Application,
    /// Run only these triggers
    #[arg(long, value_enum)]
    only: Option<Only>,
    /// Address for HTTP
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3000", env = "FNHOST_LISTEN")]
    listen: SocketAddr,
    /// Address for health and inspection; keep it on loopback
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3001", env = "FNHOST_ADMIN")]
    admin: SocketAddr,
    /// Bootstrap addresses of Kafka; without it a private one is run
    #[arg(long, value_name = "HOST:PORT", env = "FNHOST_KAFKA")]
    kafka: Option<String>,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Only {
    /// HTTP triggers
    Http,
    /// Kafka triggers, and the relays of events from HTTP
    Kafka,
}

/// Runs until it is told to stop.
///
/// # Errors
/// Something is missing or wrong; nothing stays running.
pub async fn run(args: UpArgs) -> anyhow::Result<()> {
    let began = Instant::now();
    let with_kafka = args.only != Some(Only::Http);
    // Both addresses are taken before anything starts, so that a port in use costs nothing.
    let http_listener =
        if args.only == Some(Only::Kafka) { None } else { Some(bind(args.listen, "--listen").await?) };
    let admin_listener = bind(args.admin, "--admin").await?;
    let mut signals = Signals::new()?;
    let mut ground = tokio::select! {
        ground = Ground::prepare(&args.app, args.kafka.as_deref(), with_kafka) => ground?,
        () = signals.stop() => return Ok(()),
    };
    let outcome = serve(&args, &mut ground, http_listener, admin_listener, &mut signals, began).await;
    ground.close().await;
    outcome
}

async fn serve(
    args: &UpArgs,
    ground: &mut Ground,
    http_listener: Option<TcpListener>,
    admin_listener: TcpListener,
    signals: &mut Signals,
    began: Instant,
) -> anyhow::Result<()> {
    let components = load(args, ground).await?;
    let registry = Registry::default();
    let started = Arc::new(AtomicBool::new(false));
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let router = admin::router(Admin {
        deployment: ground.deployment().to_string(),
        owner: ground.owner.clone(),
        registry: registry.clone(),
        components: Arc::new(components.values().map(view).collect()),
        started: started.clone(),
    });
    let stopped = stop.clone();
    tasks.spawn(async move {
        let served =
            axum::serve(admin_listener, router).with_graceful_shutdown(stopped.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "the admin address ended");
        }
    });
    let mut triggers = match &ground.kafka {
        Some(brokers) => {
            Some(Triggers::start(ground, &args.app, brokers, &components, &registry, &stop).await?)
        }
        None => None,
    };
    if let Some(listener) = http_listener {
        let server = Arc::new(http::Server::new(&ground.manifest, &components));
        let stopped = stop.clone();
        tasks.spawn(async move {
            if let Err(error) = server.serve(listener, stopped).await {
                tracing::error!(%error, "the HTTP address ended");
            }
        });
    }
    let greeting = greeting(args, ground);
    let ready = async {
        registry.ready().await;
        started.store(true, Ordering::Release);
        tracing::info!(
            seconds = format!("{:.1}", began.elapsed().as_secs_f64()),
            "ready: every partition is owned"
        );
        println!("{greeting}");
        std::future::pending::<()>().await;
    };
    let lost = tokio::select! {
        () = ready => None,
        () = signals.stop() => None,
        lost = watch(&mut ground.servers) => Some(lost),
    };
    tracing::info!("draining; a second Ctrl-C stops at once");
    started.store(false, Ordering::Release);
    let drain = async {
        stop.cancel();
        if let Some(triggers) = triggers.take() {
            triggers.stop().await;
        }
        while tasks.join_next().await.is_some() {}
    };
    tokio::select! {
        () = drain => {}
        () = signals.stop() => tracing::warn!("stopped without draining; what was in hand is done again at the next start"),
    }
    lost.map_or(Ok(()), |error| Err(error.into()))
}

/// Waits until a private server is lost for good.
async fn watch(servers: &mut Option<embedded::Servers>) -> embedded::Error {
    match servers {
        Some(servers) => servers.watch().await,
        None => std::future::pending().await,
    }
}

async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another address with {flag}"))
}

async fn load(args: &UpArgs, ground: &Ground) -> anyhow::Result<BTreeMap<String, LoadedComponent>> {
    let engine = Engine::new(EngineOptions {
        cache_dir: Some(args.app.data_dir.join("cache")),
        ..EngineOptions::default()
    })?;
    let mut loading = JoinSet::new();
    for spec in ComponentSpec::all(&ground.manifest, &ground.values) {
        let engine = engine.clone();
        loading.spawn_blocking(move || engine.load(&spec));
    }
    let mut components = BTreeMap::new();
    while let Some(loaded) = loading.join_next().await {
        let component = loaded??;
        let id = component.id().to_string();
        let component = match ground.roles.get(&id) {
            Some(role) => component.with_database(role.clone()),
            None => component,
        };
        components.insert(id, component);
    }
    Ok(components)
}

fn view(component: &LoadedComponent) -> ComponentView {
    ComponentView {
        id: component.id().to_string(),
        digest: component.digest().to_string(),
        http: component.handles_http(),
        kafka: component.handles_kafka(),
    }
}

/// The Kafka side of a running host.
struct Triggers {
    subscriptions: Vec<Arc<Running>>,
    relays: JoinSet<()>,
    stop_relays: CancellationToken,
    producer: Arc<Producer>,
}

impl Triggers {
    async fn start(
        ground: &Ground,
        app: &Application,
        brokers: &str,
        components: &BTreeMap<String, LoadedComponent>,
        registry: &Registry,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let cluster = Cluster::connect(brokers).await?;
        prepare_topics(ground, &cluster).await?;
        let producer = Arc::new(Producer::new(brokers)?);
        let host = Uuid::new_v4();
        let instance = embedded::secret(&app.data_dir, "instance")?;
        let mut triggers =
            Self { subscriptions: vec![], relays: JoinSet::new(), stop_relays: stop.child_token(), producer };
        for component in ground.manifest.components.values() {
            let Some(database) = &component.database else { continue };
            let Some(table) = &database.events else { continue };
            let (trigger, stream) =
                relay::register(&ground.owner, ground.deployment(), &component.id).await?;
            let relay = Relay {
                trigger,
                schema: database.schema.clone(),
                table: table.clone(),
                stream,
                topics: database.event_topics.iter().cloned().collect(),
                host,
                owner: ground.owner.clone(),
                cluster: cluster.clone(),
                producer: triggers.producer.clone(),
            };
            triggers.relays.spawn(relay.run(triggers.stop_relays.clone()));
        }
        for trigger in &ground.manifest.kafka {
            let component =
                components.get(&trigger.component).context("a trigger of a component that is not loaded")?;
            let subscription = triggers
                .subscription(ground, trigger, component, &cluster, host, &instance, registry)
                .await?;
            triggers.subscriptions.push(Arc::new(Running::start(Arc::new(subscription), brokers).await?));
        }
        Ok(triggers)
    }

    #[expect(clippy::too_many_arguments, reason = "gathers what a subscription is made of, once")]
    async fn subscription(
        &self,
        ground: &Ground,
        trigger: &KafkaTrigger,
        component: &LoadedComponent,
        cluster: &Arc<Cluster>,
        host: Uuid,
        instance: &str,
        registry: &Registry,
    ) -> anyhow::Result<Subscription> {
        let role = ground.roles.get(&trigger.component).with_context(|| {
            format!(
                "component {} has a Kafka trigger and no database, which holds its positions: add \
                 [component.{}.tool.fnhost.database] with schema and url_variable",
                trigger.component, trigger.component
            )
        })?;
        let login = role.options().get_username().to_string();
        let row = schema::register_trigger(
            &ground.owner,
            ground.deployment(),
            &trigger.id,
            "kafka",
            &trigger.group,
            &login,
        )
        .await?;
        Ok(Subscription {
            id: trigger.id.clone(),
            deployment: ground.deployment().to_string(),
            group: trigger.group.clone(),
            trigger: row,
            topics: trigger.topics.clone(),
            emits: trigger.emits.iter().cloned().collect(),
            start: trigger.start,
            limits: dispatch::Limits {
                max_batch: trigger.max_batch,
                max_attempts: trigger.max_attempts,
                max_age: trigger.max_age,
            },
            host,
            instance: format!(
                "{}-{}-{}",
                ground.deployment(),
                trigger.id,
                &instance[..16.min(instance.len())]
            ),
            owner: ground.owner.clone(),
            role: role.clone(),
            cluster: cluster.clone(),
            producer: self.producer.clone(),
            handler: Arc::new(WasmHandler::new(component.clone(), role.clone())),
            status: registry.trigger(&trigger.id, &trigger.component, &trigger.group),
        })
    }

    /// Finishes what is in hand: first the partitions, then the relays, then what was sent is waited for.
    async fn stop(mut self) {
        let mut stopping = JoinSet::new();
        for subscription in std::mem::take(&mut self.subscriptions) {
            stopping.spawn_blocking(move || subscription.stop());
        }
        while stopping.join_next().await.is_some() {}
        self.stop_relays.cancel();
        while self.relays.join_next().await.is_some() {}
        let producer = self.producer.clone();
        if tokio::task::spawn_blocking(move || producer.flush()).await.is_err() {
            tracing::warn!("the producer did not stop cleanly");
        }
    }
}

/// Creates the topics that the manifest declares, and a dead-letter topic beside each one that is consumed.
async fn prepare_topics(ground: &Ground, cluster: &Arc<Cluster>) -> anyhow::Result<()> {
    let manifest = &ground.manifest;
    let mut declared = manifest.application.topics.clone();
    let mut used: BTreeSet<String> = declared.keys().cloned().collect();
    for trigger in &manifest.kafka {
        used.extend(trigger.topics.iter().chain(&trigger.emits).cloned());
    }
    for database in manifest.components.values().filter_map(|c| c.database.as_ref()) {
        used.extend(database.event_topics.iter().cloned());
    }
    for topic in manifest.kafka.iter().flat_map(|t| &t.topics) {
        let partitions = declared.get(topic).copied().unwrap_or(1);
        declared.insert(dead_letter_topic(topic), partitions);
        used.insert(dead_letter_topic(topic));
    }
    let used: Vec<String> = used.into_iter().collect();
    Ok(cluster.prepare_topics(&declared, &used).await?)
}

/// Where everything is.
fn greeting(args: &UpArgs, ground: &Ground) -> String {
    let mut lines = Vec::new();
    if args.only != Some(Only::Kafka) {
        lines.push(format!("HTTP     http://{}", args.listen));
        for trigger in &ground.manifest.http {
            if let Route::Public(pattern) = &trigger.route {
                lines.push(format!(
                    "         http://{}{}  {}",
                    args.listen,
                    pattern.raw(),
                    trigger.component
                ));
            }
        }
    }
    lines.push(format!(
        "admin    http://{}  /readyz /components /partitions /dead-letters /parked",
        args.admin
    ));
    if let Some(kafka) = &ground.kafka {
        lines.push(format!("Kafka    {kafka}"));
    }
    lines.push("Ctrl-C drains and stops everything".into());
    lines.join("\n")
}

/// The signals that stop the host.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
