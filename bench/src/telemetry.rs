//! What metrics and traces cost: pairs of runs of the saga without any of them and with all, and how long a scrape takes.
//!
//! The runs of a pair follow each other, in alternating order, so that what else the machine does meets both. Each result is a
//! ratio within its pair; their median and spread are what is reported.

use crate::client::Connection;
use crate::report::{SagaRun, median, percentile};
use crate::system::{Base, Runner, Running};
use crate::{Plan, report, saga, say};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Part of the traces that is recorded.
const TRACE_RATIO: &str = "0.01";
/// Scrapes that are timed.
const SCRAPES: usize = 100;

/// Cost of metrics and traces, as the report has it.
#[derive(Serialize, Debug)]
struct Telemetry {
    orders_per_run: usize,
    trace_ratio: &'static str,
    /// Each pair in its order.
    pairs: Vec<Pair>,
    /// Orders per second with telemetry, of those without.
    throughput: Ratio,
    /// The host's CPU time per order with telemetry, of that without.
    cpu: Ratio,
    /// Bytes that the collector got.
    exported_bytes: u64,
    scrape: Scrape,
}

#[derive(Serialize, Debug)]
struct Pair {
    without: SagaRun,
    with: SagaRun,
    throughput: f64,
    cpu: f64,
}

/// Ratios of pairs.
#[derive(Serialize, Debug)]
struct Ratio {
    median: f64,
    /// The smallest and the greatest.
    spread: [f64; 2],
}

/// Scrapes of a system that has handled orders.
#[derive(Serialize, Debug)]
struct Scrape {
    p50_ms: f64,
    p99_ms: f64,
    bytes: usize,
}

impl Ratio {
    fn of(ratios: impl Iterator<Item = f64> + Clone) -> Self {
        Self {
            median: median(ratios.clone()),
            spread: [ratios.clone().fold(f64::INFINITY, f64::min), ratios.fold(0.0, f64::max)],
        }
    }
}

/// Measures, and writes `telemetry.json`.
///
/// # Errors
/// A run did not end with every order confirmed.
pub async fn run(base: &Base, plan: &Plan) -> anyhow::Result<()> {
    say(&format!("metrics and traces, {} pairs of {} orders", plan.pairs, plan.orders));
    let collector = Collector::start().await?;
    let off = vec![("FNHOST_METRICS", "off".to_owned())];
    let on = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.clone()),
        ("FNHOST_TRACE_RATIO", TRACE_RATIO.to_owned()),
    ];
    let mut pairs = Vec::new();
    for n in 0..plan.pairs {
        let once = async |what: &str, settings: &[(&str, String)]| {
            eprintln!("    {what}");
            let name = format!("telemetry-{n}-{what}");
            saga::run_with(base, Runner::Wasm, settings, plan.orders, &name).await
        };
        let (without, with) = if n % 2 == 0 {
            let without = once("without", &off).await?;
            (without, once("with", &on).await?)
        } else {
            let with = once("with", &on).await?;
            (once("without", &off).await?, with)
        };
        let throughput = with.orders_per_s / without.orders_per_s;
        let cpu = with.cpu_us_per_order.fnhost / without.cpu_us_per_order.fnhost;
        eprintln!("    pair {n}: throughput {throughput:.3}, CPU of the host {cpu:.3}");
        pairs.push(Pair { without, with, throughput, cpu });
    }
    let exported_bytes = collector.bytes.load(Ordering::Relaxed);
    anyhow::ensure!(pairs.is_empty() || exported_bytes > 0, "the collector got nothing: what was measured?");
    let scrape = scrapes(base).await?;
    let told = Telemetry {
        orders_per_run: plan.orders,
        trace_ratio: TRACE_RATIO,
        throughput: Ratio::of(pairs.iter().map(|pair| pair.throughput)),
        cpu: Ratio::of(pairs.iter().map(|pair| pair.cpu)),
        pairs,
        exported_bytes,
        scrape,
    };
    println!(
        "metrics and traces at 1%: throughput x{:.3} ({:.3} to {:.3}), CPU of the host x{:.3} ({:.3} to {:.3}); a scrape {:.1} ms, p99 {:.1} ms, {} KB",
        told.throughput.median,
        told.throughput.spread[0],
        told.throughput.spread[1],
        told.cpu.median,
        told.cpu.spread[0],
        told.cpu.spread[1],
        told.scrape.p50_ms,
        told.scrape.p99_ms,
        told.scrape.bytes / 1000
    );
    report::write("telemetry", &told)
}

async fn scrapes(base: &Base) -> anyhow::Result<Scrape> {
    let running = base.up(&base.copy("scrapes")?).await?;
    let scraped = scrape(&running).await;
    running.end().await?;
    scraped
}

async fn scrape(running: &Running) -> anyhow::Result<Scrape> {
    let mut connection = Connection::open(running.admin).await?;
    let (mut took_ms, mut bytes) = (Vec::new(), 0);
    for _ in 0..SCRAPES {
        let began = Instant::now();
        let (status, body) = connection.call(Method::GET, "/metrics", "", Bytes::new()).await?;
        anyhow::ensure!(status == StatusCode::OK, "GET /metrics: {status}");
        took_ms.push(began.elapsed().as_secs_f64() * 1e3);
        bytes = body.len();
    }
    took_ms.sort_by(f64::total_cmp);
    Ok(Scrape { p50_ms: percentile(&took_ms, 0.5), p99_ms: percentile(&took_ms, 0.99), bytes })
}

/// Takes what is exported and counts its bytes: reading it would cost a core that is measured.
struct Collector {
    url: String,
    bytes: Arc<AtomicU64>,
    /// Ends with this value.
    _serving: JoinSet<()>,
}

impl Collector {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let bytes: Arc<AtomicU64> = Arc::default();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, bytes.clone()));
        Ok(Self { url, bytes, _serving: serving })
    }
}

async fn serve(listener: TcpListener, bytes: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let bytes = bytes.clone();
        let take = service_fn(move |request: Request<Incoming>| {
            let bytes = bytes.clone();
            async move {
                if let Ok(body) = request.into_body().collect().await {
                    bytes.fetch_add(body.to_bytes().len() as u64, Ordering::Relaxed);
                }
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            }
        });
        connections.spawn(async move {
            // A host that has stopped breaks off.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), take).await;
        });
    }
}
