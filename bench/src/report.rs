//! What is measured, as `report.json` names it, and as a table.

use crate::REPORT_FOLDER;
use crate::cpu::Cpu;
use crate::viewers::Viewers;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Everything.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Where and how it was measured.
    pub setup: Setup,
    /// A component that does nothing: instantiate, call and lift, microseconds by size of the batch.
    pub noop_us: BTreeMap<usize, Distribution>,
    /// The same with BEGIN, store and COMMIT.
    pub noop_dispatch_us: BTreeMap<usize, Distribution>,
    /// The saga alone.
    pub saga: Saga,
    /// From POST to CONFIRMED.
    pub end_to_end: Vec<EndToEnd>,
    /// `GET /orders/{id}` by number of connections, from the database.
    pub http_get: BTreeMap<usize, HttpGet>,
    /// Live viewers, by transport; `viewers.json` has them alone.
    pub viewers: Vec<Viewers>,
    /// `GET /orders/{id}` from the database and from the cache.
    pub cache: Vec<CacheGet>,
    /// CPU time per order, microseconds, by measurement.
    pub cpu_us_per_order: BTreeMap<String, CpuPerOrder>,
    /// Resident memory of fnhost with all functions loaded and nothing to do, MB of 1,000,000 bytes.
    pub idle_rss_mb: f64,
    /// Seconds from the start of fnhost with its servers, not the first on its data, until every partition is owned: median.
    pub ready_s: f64,
    /// Each of them.
    pub ready_s_each: Vec<f64>,
}

/// Where and how it was measured.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "named by the fields")]
pub struct Setup {
    pub cpus: usize,
    pub orders_per_saga: usize,
    pub lines_per_order: f64,
    pub seconds: f64,
}

/// A distribution of times.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs, reason = "named by the fields")]
pub struct Distribution {
    pub p50: f64,
    pub p99: f64,
}

/// The saga alone: medians, and the runs they are of.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "named by the fields")]
pub struct Saga {
    pub wasm_orders_per_s: f64,
    pub native_orders_per_s: f64,
    pub plain_orders_per_s: f64,
    /// Of wasm to native, by orders a second: the median of the pairs.
    pub ratio: f64,
    /// The lowest and the highest of the pairs.
    pub ratio_spread: [f64; 2],
    /// Each pair's.
    pub pairs: Vec<f64>,
    /// Of native to wasm by CPU time of the host's process, and by that of everything: medians of the pairs.
    pub cpu_ratio: CpuRatio,
    pub runs: BTreeMap<String, Vec<SagaRun>>,
}

/// What native code needs of the components' CPU time.
#[derive(Debug, Default, Serialize)]
pub struct CpuRatio {
    /// In the process that runs the functions.
    pub host: f64,
    /// With Postgres and Kafka.
    pub all: f64,
}

/// One run of the saga.
#[derive(Clone, Debug, Serialize)]
pub struct SagaRun {
    /// From the first batch until the last order is CONFIRMED.
    pub orders_per_s: f64,
    /// The same for each quarter of the orders.
    pub orders_per_s_by_quarter: [f64; 4],
    /// From the first batch until stock is committed, money captured and the timeline complete for all.
    pub settled_per_s: f64,
    /// CPU time until everything is settled, microseconds per order.
    pub cpu_us_per_order: CpuPerOrder,
}

/// One step of load.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "named by the fields; milliseconds")]
pub struct EndToEnd {
    pub name: String,
    pub offered_per_s: f64,
    pub confirmed_per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub orders: usize,
    /// The medians of the orders' quarters by time: rising ones mean that the system falls behind.
    pub p50_ms_by_quarter: [f64; 4],
}

/// Reading one order.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs, reason = "named by the fields")]
pub struct HttpGet {
    pub requests_per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Reading orders with a cache, and past it.
#[derive(Clone, Debug, Serialize)]
pub struct CacheGet {
    /// Where the cache is: `memory`, `redis`.
    pub store: String,
    /// Connections at a time.
    pub connections: usize,
    /// Of reads with the cache to those past it, by requests a second: the median of the pairs.
    pub ratio: f64,
    /// Each pair.
    pub pairs: Vec<CachePair>,
}

/// Two measurements, one right after the other.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CachePair {
    /// Past the cache.
    pub database: HttpGet,
    /// Reads answered from the cache.
    pub cache: HttpGet,
}

/// CPU time per order, microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "named by the fields")]
pub struct CpuPerOrder {
    /// The process that runs the functions, whichever it is.
    pub fnhost: f64,
    pub postgres: f64,
    pub kafka: f64,
    pub load_generator: f64,
}

impl CpuPerOrder {
    /// What `orders` orders cost each.
    pub fn new(cpu: Cpu, orders: usize) -> Self {
        let us = |seconds: f64| seconds * 1e6 / orders.max(1) as f64;
        Self {
            fnhost: us(cpu.host),
            postgres: us(cpu.postgres),
            kafka: us(cpu.kafka),
            load_generator: us(cpu.load_generator),
        }
    }

    /// The median of several, each part by itself.
    pub fn median(of: &[Self]) -> Self {
        let part = |part: fn(&Self) -> f64| median(of.iter().map(part));
        Self {
            fnhost: part(|c| c.fnhost),
            postgres: part(|c| c.postgres),
            kafka: part(|c| c.kafka),
            load_generator: part(|c| c.load_generator),
        }
    }

    /// All but the load generator.
    pub fn system(&self) -> f64 {
        self.fnhost + self.postgres + self.kafka
    }
}

/// The value at this part of a sorted list; 0 for an empty one.
pub fn percentile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * part).round() as usize).copied().unwrap_or_default()
}

/// The median; 0 of nothing.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 0.5)
}

/// Writes the report of a part, as `name.json`.
///
/// # Errors
/// The file cannot be written.
pub fn write(name: &str, report: &(impl Serialize + ?Sized)) -> anyhow::Result<()> {
    std::fs::create_dir_all(REPORT_FOLDER)?;
    Ok(std::fs::write(format!("{REPORT_FOLDER}/{name}.json"), serde_json::to_string_pretty(report)? + "\n")?)
}

/// The targets of the project, next to what was measured.
pub fn table(report: &Report) -> String {
    let mut text = String::new();
    let mut row = |what: &str, value: String, target: &str| {
        let _ = writeln!(text, "{what:<46} {value:>28}   {target}");
    };
    for (batch, us) in &report.noop_us {
        let target = if *batch == 1 { "p50 <= 100 us" } else { "" };
        row(&format!("no-op call, batch {batch}"), format!("{:.0} us (p99 {:.0})", us.p50, us.p99), target);
    }
    for (batch, us) in &report.noop_dispatch_us {
        row(
            &format!("no-op dispatch with COMMIT, batch {batch}"),
            format!("{:.0} us (p99 {:.0})", us.p50, us.p99),
            "",
        );
    }
    let saga = &report.saga;
    if !saga.runs.is_empty() {
        row("saga, components", format!("{:.0} orders/s", saga.wasm_orders_per_s), ">= 5,000");
        row("saga, native code in the host", format!("{:.0} orders/s", saga.native_orders_per_s), "");
        row("saga, plain at-least-once loop", format!("{:.0} orders/s", saga.plain_orders_per_s), "");
        let [low, high] = saga.ratio_spread;
        row("saga, components to native", format!("{:.2} ({low:.2} to {high:.2})", saga.ratio), ">= 0.70");
    }
    for step in &report.end_to_end {
        let value =
            format!("{:.0}/s  p50 {:.0}  p99 {:.0} ms", step.confirmed_per_s, step.p50_ms, step.p99_ms);
        let target = match step.name.as_str() {
            "idle" => "p50 <= 50 ms",
            "half" => "p99 <= 150 ms",
            "sustained" => ">= 1,500/s, lag not rising",
            _ => "",
        };
        row(
            &format!("POST to CONFIRMED, {} ({:.0}/s offered)", step.name, step.offered_per_s),
            value,
            target,
        );
    }
    for (connections, get) in &report.http_get {
        let value = format!("{:.0}/s  p50 {:.2}  p99 {:.2} ms", get.requests_per_s, get.p50_ms, get.p99_ms);
        let target = if *connections == 1 { ">= 1,500/s" } else { ">= 4,000/s" };
        row(&format!("GET /orders/{{id}}, {connections} connections"), value, target);
    }
    for get in &report.cache {
        let rate =
            |of: fn(&CachePair) -> HttpGet| median(get.pairs.iter().map(|pair| of(pair).requests_per_s));
        let (from_database, from_cache) = (rate(|pair| pair.database), rate(|pair| pair.cache));
        let value = format!("{from_cache:.0}/s of {from_database:.0}/s: {:.2}", get.ratio);
        row(&format!("GET cached in {}, {} connections", get.store, get.connections), value, ">= 3");
    }
    for (name, cpu) in &report.cpu_us_per_order {
        let value = format!("{:.0} + {:.0} + {:.0} us", cpu.fnhost, cpu.postgres, cpu.kafka);
        row(&format!("CPU per order, {name}: host, Postgres, Kafka"), value, "");
    }
    for seen in &report.viewers {
        let what = format!("{} viewers, {}", seen.viewers, seen.transport);
        row(&format!("{what}: memory"), format!("{:+.1} MB", seen.rss_delta_mb), "<= 100 MB");
        let with =
            format!("{:.1}/s ({:.1} without)", seen.transactions_per_s_with, seen.transactions_per_s_without);
        row(&format!("{what}: transactions of the database"), with, "none for them");
        let value = format!("p50 {:.1}  p99 {:.1} ms", seen.push_p50_ms, seen.push_p99_ms);
        row(&format!("{what}: from commit to viewer"), value, "p99 <= 100 ms");
    }
    if !report.ready_s_each.is_empty() {
        row("fnhost at idle, resident", format!("{:.0} MB", report.idle_rss_mb), "<= 150 MB");
        row("second start to ready", format!("{:.1} s", report.ready_s), "<= 5 s");
    }
    text
}
