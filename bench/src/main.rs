//! `./dev bench`: measures the host and the order system in one go.
//!
//! Progress goes to stderr, the table to stdout, `report.json` and `report.svg` to `target/bench/`. The servers are fnhost's
//! own private ones with their usual settings, `fsync` on. [`saga`] and [`noop`] run on servers started for them, [`load`],
//! [`http_get`] and [`cache`] on `fnhost up` as a user runs it. The baselines ([`host_native`], [`plain`]) are this same program,
//! started as processes of their own.

mod bad;
mod cache;
mod client;
mod cost;
mod cpu;
mod grow;
mod host_native;
mod http_get;
mod kafka;
mod load;
mod native;
mod noop;
mod orders;
mod parts;
mod picture;
mod plain;
mod recovery;
mod report;
mod saga;
mod scratch;
mod slow;
mod soak;
mod system;
mod telemetry;
mod viewer;
mod viewers;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use cpu::{Cpu, Pids};
use load::{Load, Offer, Outcome};
use report::{CpuPerOrder, CpuRatio, EndToEnd, Report, Saga, SagaRun, Setup, median, percentile};
use sqlx::postgres::PgPoolOptions;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use system::{Base, Runner, Scratch, Servers};

/// Where the report goes.
const REPORT_FOLDER: &str = "target/bench";
/// Customers who order.
const USERS: usize = 4;
/// Orders that are read in turn.
const ORDERS_READ: usize = 500;
/// Orders a second of an idle system: each finds nothing else to do.
const IDLE_RATE: f64 = 10.0;
/// Orders a second that the system is meant to sustain.
const SUSTAINED_RATE: f64 = 1_500.0;
/// Seconds that orders are read for at most, each time.
const GET_SECONDS_MAX: u64 = 8;
/// Connections that read orders.
const READERS: [usize; 2] = [1, 16];
/// Before its memory counts as that of an idle fnhost.
const IDLE_TIME: Duration = Duration::from_secs(2);
/// Measured starts.
const STARTS: usize = 3;

/// Measures the host and the order system, beside native baselines.
#[derive(Parser, Debug)]
struct Cli {
    #[command(subcommand)]
    baseline: Option<Baseline>,
    #[command(flatten)]
    plan: Plan,
}

/// What is measured, and for how long.
#[derive(Args, Debug, Clone)]
struct Plan {
    /// Parts to run: noop, saga, load, get, cache, start; and by themselves cost, grow, telemetry, soak, bad, recovery, slow, viewers
    #[arg(long, value_delimiter = ',', default_value = "noop,saga,load,get,cache,start")]
    only: Vec<String>,
    /// Orders of one run of the saga
    #[arg(long, default_value_t = 20_000)]
    orders: usize,
    /// Pairs of runs with components and with native code
    #[arg(long, default_value_t = 3)]
    pairs: usize,
    /// Runs of the plain loop
    #[arg(long, default_value_t = 2)]
    plain_runs: usize,
    /// Seconds of each step of load
    #[arg(long, default_value_t = 15)]
    step_s: u64,
    /// Seconds at the rate that has to be sustained
    #[arg(long, default_value_t = 120)]
    sustain_s: u64,
    /// Clients that watch orders at a time
    #[arg(long, default_value_t = 1_000)]
    viewers: usize,
    /// Seconds of the soak
    #[arg(long, default_value_t = 900)]
    soak_s: u64,
    /// Orders a second of the soak
    #[arg(long, default_value_t = 100.0)]
    soak_rate: f64,
    /// Orders of the part grow
    #[arg(long, default_value_t = 1_000_000)]
    grow_orders: usize,
    #[command(flatten)]
    recovery: recovery::Options,
    /// Folder for the data of the runs; not on a memory file system, or nothing is ever written to a disk
    #[arg(long, default_value = "/var/tmp")]
    folder: PathBuf,
    /// The application's manifest
    #[arg(long, default_value = "spin.toml")]
    manifest: PathBuf,
    /// Seconds for which four times as much is offered as can be carried, in the part cost: for manifests that shed
    #[arg(long, default_value_t = 0)]
    overload_s: u64,
    /// Measurements of the part cost by their numbers in its table, 5 and 7 only with 6; all of them where none is named
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS", value_parser = clap::value_parser!(u8).range(1..=7))]
    measure: Vec<u8>,
    /// Another build of fnhost, whose runs alternate with those of this one, for the part cost
    #[arg(long, value_name = "BINARY")]
    against: Option<PathBuf>,
    /// The manifest of the other build, which names its components; by default that of this one
    #[arg(long, value_name = "FILE", requires = "against")]
    against_manifest: Option<PathBuf>,
}

/// The baselines, each a process that the measurement starts.
#[derive(Subcommand, Debug)]
enum Baseline {
    /// The host with native code in the place of the components
    #[command(hide = true)]
    Native(Baselines),
    /// A loop of rdkafka and sqlx
    #[command(hide = true)]
    Plain(Baselines),
}

#[derive(Args, Debug)]
struct Baselines {
    #[arg(long)]
    manifest: PathBuf,
    #[command(flatten)]
    servers: Servers,
}

/// The host's own, so that the native baseline differs in nothing but the handler.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter("warn,librdkafka=error")
        .compact()
        .init();
    match cli.baseline {
        Some(Baseline::Native(given)) => host_native::run(&given.manifest, given.servers).await,
        Some(Baseline::Plain(given)) => plain::run(&given.manifest, given.servers).await,
        None => tokio::select! {
            measured = measure(&cli.plan) => measured,
            // Dropping the measurement stops what it has started.
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        },
    }
}

async fn measure(plan: &Plan) -> anyhow::Result<()> {
    let began = Instant::now();
    let scratch = Scratch::new(&plan.folder)?;
    let fnhost = std::env::current_exe()?.with_file_name("fnhost");
    say("preparing a data directory");
    let base = Base::prepare(fnhost, plan.manifest.canonicalize()?, scratch.path()).await?;
    let mut report = Report::default();
    let wanted = |part: &str| parts::is_wanted(plan, part);
    if parts::by_themselves(&base, scratch.path(), plan).await? {
        return Ok(());
    }
    if wanted("noop") {
        noops(&base, &mut report).await?;
    }
    if wanted("saga") {
        report.saga = sagas(&base, plan, &mut report).await?;
    }
    if wanted("load") || wanted("get") || wanted("start") {
        system(&base, plan, &wanted, &mut report).await?;
    }
    if wanted("viewers") {
        say(&format!("{} live viewers", plan.viewers));
        report.viewers = viewers::all(&base, plan.viewers).await?;
    }
    if wanted("cache") {
        say("GET /orders/{id}, past the cache and with it");
        for in_redis in [false, true] {
            let gets =
                cache::run(&base, in_redis, Duration::from_secs(plan.step_s.min(GET_SECONDS_MAX))).await?;
            report.cache.extend(gets.unwrap_or_default());
        }
    }
    let lines: usize = (0..3).map(|n| orders::lines(n).len()).sum();
    report.setup = Setup {
        cpus: std::thread::available_parallelism()?.get(),
        orders_per_saga: plan.orders,
        lines_per_order: lines as f64 / 3.0,
        seconds: began.elapsed().as_secs_f64().round(),
    };
    let folder = Path::new(REPORT_FOLDER);
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("report.json"), serde_json::to_string_pretty(&report)? + "\n")?;
    if !report.viewers.is_empty() {
        let viewers = serde_json::to_string_pretty(&report.viewers)? + "\n";
        std::fs::write(folder.join("viewers.json"), viewers)?;
    }
    std::fs::write(folder.join("report.svg"), picture::svg(&report))?;
    print!("{}", report::table(&report));
    say(&format!("{REPORT_FOLDER}/report.json and report.svg, after {:.0} s", report.setup.seconds));
    Ok(())
}

fn say(what: &str) {
    eprintln!("==> {what}");
}

async fn noops(base: &Base, report: &mut Report) -> anyhow::Result<()> {
    say("no-op component");
    let component = noop::load(&std::env::current_dir()?)?;
    for messages in noop::BATCHES {
        report.noop_us.insert(messages, noop::calls(&component, messages).await?);
    }
    let stage = base.stage("noop").await?;
    let mut dispatches = noop::Dispatches::new(component, &stage).await?;
    for messages in noop::BATCHES {
        report.noop_dispatch_us.insert(messages, dispatches.run(messages).await?);
    }
    drop(dispatches);
    stage.end().await
}

/// Runs of components and native code in turns, so that what else the machine does meets both.
async fn sagas(base: &Base, plan: &Plan, report: &mut Report) -> anyhow::Result<Saga> {
    say(&format!("saga alone, {} orders a run", plan.orders));
    let mut saga = Saga::default();
    let mut order = Vec::new();
    for pair in 0..plan.pairs {
        let runners = [Runner::Wasm, Runner::Native];
        order.extend(if pair % 2 == 0 { runners } else { [runners[1], runners[0]] });
        order.extend((pair < plan.plain_runs).then_some(Runner::Plain));
    }
    for (n, runner) in order.into_iter().enumerate() {
        let run = saga::run(base, runner, plan.orders, &format!("saga-{n}")).await?;
        saga.runs.entry(runner.name().to_owned()).or_default().push(run);
    }
    let runs = |runner: Runner| saga.runs.get(runner.name()).map_or(&[][..], Vec::as_slice);
    let rate = |runner| median(runs(runner).iter().map(|run| run.orders_per_s));
    let pairs = |of: fn(&SagaRun, &SagaRun) -> f64| -> Vec<f64> {
        runs(Runner::Wasm).iter().zip(runs(Runner::Native)).map(|(wasm, native)| of(wasm, native)).collect()
    };
    let ratios = pairs(|wasm, native| wasm.orders_per_s / native.orders_per_s);
    let cpu = |of: fn(&CpuPerOrder) -> f64| {
        let cpu = |run: &SagaRun| of(&run.cpu_us_per_order);
        median(
            runs(Runner::Native).iter().zip(runs(Runner::Wasm)).map(|(native, wasm)| cpu(native) / cpu(wasm)),
        )
    };
    let summary = Saga {
        wasm_orders_per_s: rate(Runner::Wasm),
        native_orders_per_s: rate(Runner::Native),
        plain_orders_per_s: rate(Runner::Plain),
        ratio: median(ratios.iter().copied()),
        ratio_spread: [
            ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratios.iter().copied().fold(0.0, f64::max),
        ],
        pairs: ratios,
        cpu_ratio: CpuRatio { host: cpu(|cpu| cpu.fnhost), all: cpu(CpuPerOrder::system) },
        runs: std::collections::BTreeMap::new(),
    };
    for (name, runs) in &saga.runs {
        let each: Vec<CpuPerOrder> = runs.iter().map(|run| run.cpu_us_per_order).collect();
        report.cpu_us_per_order.insert(format!("saga_{name}"), CpuPerOrder::median(&each));
    }
    Ok(Saga { runs: saga.runs, ..summary })
}

/// What is measured on `fnhost up`.
async fn system(
    base: &Base,
    plan: &Plan,
    wanted: &dyn Fn(&str) -> bool,
    report: &mut Report,
) -> anyhow::Result<()> {
    say("fnhost up");
    for n in 0..if wanted("start") { STARTS - 1 } else { 0 } {
        let running = base.up(&base.copy(&format!("start-{n}"))?).await?;
        report.ready_s_each.push(running.ready_s);
        running.end().await?;
    }
    let running = base.up(&base.copy("system")?).await?;
    report.ready_s_each.push(running.ready_s);
    report.ready_s = median(report.ready_s_each.iter().copied());
    let pids = running.pids()?;
    tokio::time::sleep(IDLE_TIME).await;
    report.idle_rss_mb = cpu::resident_mb(pids.host)?;
    let (database, kafka) = running.addresses()?;
    let owner = PgPoolOptions::new().max_connections(1).connect(&database).await?;
    orders::add_catalogue(&owner).await?;
    owner.close().await;
    let load = Load::new(running.listen, kafka, USERS).await?;
    if wanted("load") {
        steps(&load, plan, pids, report).await?;
    }
    if wanted("get") {
        say("GET /orders/{id}");
        let (token, ids) = load.own_orders(ORDERS_READ).await?;
        for connections in READERS {
            let duration = Duration::from_secs(plan.step_s.min(GET_SECONDS_MAX));
            let get = http_get::run(
                running.listen,
                connections,
                duration,
                &token,
                &ids,
                Some(cache::PAST_THE_CACHE),
            )
            .await?;
            eprintln!("    {connections} connections: {:.0} requests/s", get.requests_per_s);
            report.http_get.insert(connections, get);
        }
    }
    running.end().await
}

async fn steps(load: &Load, plan: &Plan, pids: Pids, report: &mut Report) -> anyhow::Result<()> {
    say("POST to CONFIRMED");
    let step = Duration::from_secs(plan.step_s);
    for (name, offer, duration) in [
        ("idle", Offer::Rate(IDLE_RATE), step),
        ("half", Offer::Rate(SUSTAINED_RATE / 2.0), step),
        ("sustained", Offer::Rate(SUSTAINED_RATE), Duration::from_secs(plan.sustain_s)),
        ("saturation", Offer::Saturation, step),
    ] {
        let before = Cpu::read(pids)?;
        let outcome = load.step(offer, duration).await.with_context(|| format!("step {name}"))?;
        let cpu = CpuPerOrder::new(Cpu::read(pids)?.since(before), outcome.latencies_ms.len());
        let step = summary(name, offer, &outcome);
        eprintln!(
            "    {name}: {:.0}/s offered, {:.0}/s confirmed, p50 {:.0} ms, p99 {:.0} ms",
            step.offered_per_s, step.confirmed_per_s, step.p50_ms, step.p99_ms
        );
        report.end_to_end.push(step);
        report.cpu_us_per_order.insert(format!("end_to_end_{name}"), cpu);
    }
    Ok(())
}

fn summary(name: &str, offer: Offer, outcome: &Outcome) -> EndToEnd {
    let latencies = &outcome.latencies_ms;
    let sorted = |part: &[(f64, f64)]| {
        let mut values: Vec<f64> = part.iter().map(|(_, ms)| *ms).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let all = sorted(latencies);
    let quarter = |n: usize| {
        let part = &latencies[latencies.len() * n / 4..latencies.len() * (n + 1) / 4];
        percentile(&sorted(part), 0.5)
    };
    EndToEnd {
        name: name.to_owned(),
        offered_per_s: match offer {
            Offer::Rate(rate) | Offer::Overload(rate) => rate,
            Offer::Saturation => latencies.len() as f64 / outcome.posted_s,
        },
        confirmed_per_s: latencies.len() as f64 / outcome.took_s,
        p50_ms: percentile(&all, 0.5),
        p99_ms: percentile(&all, 0.99),
        orders: latencies.len(),
        p50_ms_by_quarter: [quarter(0), quarter(1), quarter(2), quarter(3)],
    }
}
