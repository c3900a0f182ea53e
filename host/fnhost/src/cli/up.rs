//! `fnhost up`: starts everything, says where it is, and drains on Ctrl-C.

use super::admin::{AdminArgs, bind};
use super::audit::machine;
use super::setup::Setup;
use super::signals::Signals;
use super::triggers::{self, Triggers};
use super::{Application, KafkaArgs, TraceArgs, keys, progress};
use clap::{Args, ValueEnum};
use fnhost_admin::health::{Health, Stage};
use fnhost_admin::{Admin, Scrape};
use fnhost_capabilities::key_value::{self, Readers, RuntimeConfig};
use fnhost_db::hosts::HostEntry;
use fnhost_deployment::Deployment;
use fnhost_deployment::watch::{self, Watched};
use fnhost_dispatch::operator::Operator;
use fnhost_dispatch::status::Registry;
use fnhost_engine::OWN_PROGRAM;
use fnhost_engine::{ComponentSpec, Engine, EngineOptions};
use fnhost_kafka::access::Access;
use fnhost_kafka::cluster::Cluster;
use fnhost_manifest::route::Route;
use fnhost_trace::export::Exporter;
use fnhost_types::log::{self, LogFormat};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Runs the application until Ctrl-C or SIGTERM.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fnhost up
  fnhost up --only kafka --data-dir /var/lib/fnhost
  fnhost up --kafka broker:9092 --database postgres://owner:secret@db/orders --listen 0.0.0.0:3000")]
pub struct UpArgs {
    #[command(flatten)]
    app: Application,
    /// Run only these triggers
    #[arg(long, value_enum)]
    only: Option<Only>,
    /// HTTP address
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3000", env = "FNHOST_LISTEN")]
    listen: SocketAddr,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    traces: TraceArgs,
    /// Spin's runtime-config file: where key-value stores are; without it they are in memory
    #[arg(long = "runtime-config-file", value_name = "FILE", env = "RUNTIME_CONFIG_FILE")]
    runtime_config: Option<PathBuf>,
    /// Records that a partition may lag before /readyz fails; without it lag does not affect readiness
    #[arg(long, value_name = "RECORDS", env = "FNHOST_READY_MAX_LAG")]
    ready_max_lag: Option<u64>,
    /// Seconds for requests, batches and messages in progress to finish once the host is told to stop
    #[arg(long, value_name = "SECONDS", default_value_t = DRAIN_TIMEOUT.as_secs(), env = "FNHOST_DRAIN_TIMEOUT")]
    drain_timeout: u64,
    /// Rebuild and swap components whose files change: runs [component.ID.build] when a file of its `watch` changes
    #[arg(long)]
    watch: bool,
}

/// Time in which a host that is told to stop ends what is in hand, where no other is given.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

impl UpArgs {
    /// As Spin's plugin runs: the HTTP address is Spin's.
    pub(super) fn new(
        app: Application,
        only: Option<Only>,
        admin: AdminArgs,
        kafka: KafkaArgs,
        traces: TraceArgs,
        runtime_config: Option<PathBuf>,
    ) -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let drain_timeout = DRAIN_TIMEOUT.as_secs();
        Self {
            app,
            only,
            listen,
            admin,
            kafka,
            traces,
            runtime_config,
            ready_max_lag: None,
            drain_timeout,
            watch: false,
        }
    }
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Only {
    /// The HTTP triggers
    Http,
    /// The Kafka triggers, and the relays of HTTP events
    Kafka,
}

/// Runs until it is told to stop.
///
/// # Errors
/// Something is missing or wrong; nothing stays running.
pub async fn run(args: UpArgs) -> anyhow::Result<()> {
    let began = Instant::now();
    let with_kafka = args.only != Some(Only::Http);
    // What is wrong with them costs no start.
    args.kafka.properties()?;
    stores(&args)?.check(&args.app.load_manifest()?)?;
    args.admin.check()?;
    let collector = args.traces.collector()?;
    // Both addresses are taken before anything starts, so that a port in use costs nothing.
    let http_listener =
        if args.only == Some(Only::Kafka) { None } else { Some(bind(args.listen, "--listen").await?) };
    let admin_listener = args.admin.bind().await?;
    let mut signals = Signals::new(args.app.locked)?;
    let mut setup = tokio::select! {
        setup = Setup::prepare(&args.app, args.kafka.addresses.as_deref(), with_kafka, false, Some(args.listen)) => setup?,
        () = signals.stop() => return Ok(()),
    };
    let access = args.kafka.access(setup.servers.kafka.as_ref())?;
    let exporter = collector.map(|collector| {
        let collector = collector.of(setup.deployment(), &setup.host.to_string());
        Exporter::start(collector, args.traces.ratio())
    });
    let outcome =
        serve(&args, &mut setup, access, (http_listener, admin_listener), &mut signals, began).await;
    if let Some(exporter) = exporter {
        exporter.finish().await;
    }
    setup.close().await;
    outcome
}

async fn serve(
    args: &UpArgs,
    setup: &mut Setup,
    access: Option<Access>,
    (http_listener, admin_listener): (Option<TcpListener>, TcpListener),
    signals: &mut Signals,
    began: Instant,
) -> anyhow::Result<()> {
    setup.check_connections().await?;
    let keys = keys::Follower::start(setup).await?;
    let (engine, deployment) = start_deployment(args, setup).await?;
    let registry = Registry::default();
    let health =
        Health::new(registry.clone(), deployment.slots().len(), setup.kafka.is_some(), args.ready_max_lag);
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    // Until the very end of this function: while everything else drains, it says so.
    let operator = Arc::new(OnceLock::new());
    let _admin = serve_admin(admin_listener, args, setup, &health, engine, &deployment, operator.clone())?;
    let (followed, followed_stop) = (deployment.clone(), stop.clone());
    tasks.spawn(async move {
        fnhost_metrics::supervise("deployment", "", || followed.clone().follow(followed_stop.clone())).await;
    });
    if let Some(keys) = keys {
        tasks.spawn(keys.follow(stop.clone()));
    }
    let watched = if args.watch { Watched::all(&setup.manifest) } else { Vec::new() };
    tasks.spawn(watch::watch(deployment.clone(), watched, stop.clone()));
    let mut triggers = match &access {
        Some(access) => Some(start_triggers(args, setup, access, &deployment, &registry).await?),
        None => None,
    };
    let cluster = triggers.as_ref().map(Triggers::cluster);
    if let Some(triggers) = &triggers {
        operator.get_or_init(|| triggers.operator(setup));
    }
    tasks.spawn(probe(&health, setup, cluster, stop.clone()));
    if let Some(listener) = http_listener {
        let server = http_server(setup, &deployment, &registry, triggers.as_ref(), stop.clone());
        tasks.spawn(serve_http(listener, server, stop.clone()));
    }
    let greeting = greeting(args, setup);
    let ready = async {
        registry.ready().await;
        health.set_stage(Stage::Serving);
        tracing::info!(
            seconds = format!("{:.1}", began.elapsed().as_secs_f64()),
            admin = %args.admin.address,
            "ready: every partition is owned"
        );
        if log::format() == LogFormat::Human {
            println!("{greeting}");
        }
        std::future::pending::<()>().await;
    };
    let lost: Option<anyhow::Error> = tokio::select! {
        () = ready => None,
        () = signals.stop() => None,
        lost = setup.servers.watch() => Some(lost.into()),
        fenced = fenced(triggers.as_ref()) => Some(fenced.into()),
    };
    health.set_stage(Stage::Draining);
    let ended = async {
        stop.cancel();
        if let Some(triggers) = triggers.take() {
            triggers.stop().await;
        }
        while tasks.join_next().await.is_some() {}
        deployment.leave().await;
    };
    drain(ended, Duration::from_secs(args.drain_timeout), signals).await;
    lost.map_or(Ok(()), Err)
}

/// Asks broker and database how they are, until `stop`.
fn probe(
    health: &Health,
    setup: &Setup,
    cluster: Option<Arc<Cluster>>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let (health, owner, name) = (health.clone(), setup.owner.clone(), setup.deployment().to_owned());
    async move {
        fnhost_metrics::supervise("probe", "", || {
            health.clone().probe(owner.clone(), name.clone(), cluster.clone(), stop.clone())
        })
        .await;
    }
}

/// What serves HTTP, which knows how long records wait.
fn http_server(
    setup: &Setup,
    deployment: &Deployment,
    registry: &Registry,
    triggers: Option<&Triggers>,
    stop: CancellationToken,
) -> fnhost_http::Server {
    let waiting = registry.clone();
    let waits = move |triggers: &[String], on_their_way| waiting.waits(triggers, on_their_way);
    fnhost_http::Server::new(
        &setup.manifest,
        &setup.values,
        deployment.slots(),
        triggers.and_then(Triggers::live_source),
        Some(Arc::new(waits)),
        stop,
    )
}

async fn serve_http(listener: TcpListener, server: fnhost_http::Server, stop: CancellationToken) {
    if let Err(error) = Arc::new(server).serve(listener, stop).await {
        tracing::error!(%error, "the HTTP server failed");
    }
}

async fn start_triggers(
    args: &UpArgs,
    setup: &Setup,
    access: &Access,
    deployment: &Deployment,
    registry: &Registry,
) -> anyhow::Result<Triggers> {
    let instance = fnhost_embedded::secret(&args.app.data_dir, "instance")?;
    let components = deployment.slots();
    Triggers::start(&triggers::Context { setup, access, components, registry, instance }).await
}

/// Waits until another process has taken this one's place in Kafka; for ever where there is no Kafka.
async fn fenced(triggers: Option<&Triggers>) -> fnhost_kafka::Error {
    match triggers {
        Some(triggers) => triggers.fenced().await,
        None => std::future::pending().await,
    }
}

/// Serves the admin address for as long as the answer lives, to those who have its token.
fn serve_admin(
    listener: TcpListener,
    args: &UpArgs,
    setup: &Setup,
    health: &Health,
    engine: Engine,
    deployment: &Deployment,
    operator: Arc<OnceLock<Operator>>,
) -> anyhow::Result<JoinSet<()>> {
    let door = args.admin.door(&args.app.data_dir)?;
    fnhost_embedded::announce_admin(&args.app.data_dir, listener.local_addr()?)?;
    let scrape = Scrape {
        health: health.clone(),
        engine,
        roles: Arc::new(setup.roles.clone()),
        owner: setup.owner.clone(),
    };
    let router = fnhost_admin::router(Admin {
        deployment: deployment.clone(),
        owner: setup.owner.clone(),
        health: health.clone(),
        scrape,
        operator,
        door,
        sources: args.admin.sources(),
    });
    let mut task = JoinSet::new();
    task.spawn(fnhost_admin::serve(listener, router, args.admin.certificate()?));
    Ok(task)
}

/// Waits for what is in hand to end, until the deadline or a second signal.
async fn drain(ended: impl Future<Output = ()>, timeout: Duration, signals: &mut Signals) {
    tracing::info!(seconds = timeout.as_secs(), "draining; a second Ctrl-C stops at once");
    tokio::select! {
        () = progress::logged("draining", ended) => tracing::info!("drained"),
        () = tokio::time::sleep(timeout) => {
            tracing::warn!("not drained within --drain-timeout; unfinished work runs again at the next start");
        }
        () = signals.stop() => {
            tracing::warn!("stopped without draining; unfinished work runs again at the next start");
        }
    }
}

/// Where key-value stores are.
fn stores(args: &UpArgs) -> Result<RuntimeConfig, key_value::Error> {
    let readers = if args.app.locked { Readers::BesideSpin } else { Readers::Alone };
    RuntimeConfig::read(args.runtime_config.as_deref(), readers)
}

/// Loads what the deployment runs and registers this host.
async fn start_deployment(args: &UpArgs, setup: &Setup) -> anyhow::Result<(Engine, Deployment)> {
    let engine = Engine::new(EngineOptions {
        cache_dir: Some(args.app.data_dir.join("cache")),
        compiler: Some(OWN_PROGRAM.into()),
        key_value: stores(args)?.open(&setup.manifest.application.key_value_max_age)?,
        ..EngineOptions::default()
    })?;
    let identity = fnhost_embedded::secret(&args.app.data_dir, "instance")?;
    let entry = HostEntry {
        deployment: setup.deployment().to_owned(),
        instance: triggers::short_instance(&identity).to_owned(),
        host: setup.host,
        name: machine(),
        http: (args.only != Some(Only::Kafka)).then(|| args.listen.to_string()),
        admin: args.admin.address.to_string(),
        fnhost: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let setup = fnhost_deployment::Setup {
        entry,
        owner: setup.owner.clone(),
        engine: engine.clone(),
        specs: ComponentSpec::all(&setup.manifest, &setup.values),
        roles: setup.roles.clone(),
        probation: fnhost_deployment::PROBATION,
        signers: args.admin.signers()?,
    };
    Ok((engine, Deployment::start(setup).await?))
}

/// The lines printed once the host is ready: its addresses and what they serve.
fn greeting(args: &UpArgs, setup: &Setup) -> String {
    let mut lines = Vec::new();
    if args.only != Some(Only::Kafka) {
        lines.push(format!("HTTP     http://{}", args.listen));
        for trigger in &setup.manifest.http {
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
        "admin    {}://{}  /readyz /metrics /deployment /components /partitions /dead-letters /parked",
        args.admin.scheme(),
        args.admin.address
    ));
    if let Some(kafka) = &setup.kafka {
        lines.push(format!("Kafka    {kafka}"));
    }
    if let Some(example) =
        setup.manifest.application.example.as_ref().filter(|_| args.only != Some(Only::Kafka))
    {
        lines.push(String::new());
        lines.push(example.trim_end().replace("{listen}", &args.listen.to_string()));
        lines.push(String::new());
    }
    lines.push("Ctrl-C drains and stops everything".into());
    lines.join("\n")
}
