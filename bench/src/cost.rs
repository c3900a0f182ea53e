//! What an order costs: CPU time of host, Postgres and Kafka, for the saga alone, for POST alone, and from POST to CONFIRMED at
//! several rates. With another build of fnhost, the same of both in turns, and the ratios.

use crate::cpu::{Cpu, Pids};
use crate::kafka::Kafka;
use crate::load::{Load, Offer};
use crate::orders;
use crate::report::{CpuPerOrder, median, percentile};
use crate::system::{Base, Runner};
use crate::{Plan, USERS, report, saga, say};
use anyhow::Context as _;
use serde::Serialize;
use sqlx::postgres::PgPoolOptions;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// Orders a second at which each finds next to nothing else to do, and at which several meet.
const QUIET_RATES: [f64; 2] = [10.0, 50.0];
/// Connections that send nothing but orders.
const POSTING: usize = 16;
/// Part of what was reached at saturation that is then offered.
const HALF: f64 = 0.5;
/// As often as that is offered under overload.
const OVERLOAD: f64 = 4.0;

/// One measurement of one build.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Cost {
    cpu_us_per_order: CpuPerOrder,
    orders_per_s: f64,
    /// From POST to CONFIRMED, where that is measured, milliseconds.
    p50_ms: f64,
    p99_ms: f64,
    /// Orders that were refused, and how long that took for all but one in a hundred, milliseconds.
    refused: usize,
    refused_p99_ms: f64,
}

/// Measurements by name, in the order of the table.
type Costs = BTreeMap<String, Cost>;

#[derive(Debug, Serialize)]
struct Told {
    orders_per_saga: usize,
    /// Of this build.
    these: Vec<Costs>,
    /// Of the other one, if any.
    those: Vec<Costs>,
}

/// Measures, and writes `cost.json`. Where the plan names another build, its runs alternate with those of this one; its data
/// directory is made in `scratch`.
///
/// # Errors
/// A run did not end with every order confirmed.
pub async fn run(base: &Base, scratch: &Path, plan: &Plan) -> anyhow::Result<()> {
    let other = match &plan.against {
        None => None,
        Some(fnhost) => {
            say("preparing a data directory of the other build");
            let manifest = plan.against_manifest.as_ref().unwrap_or(&plan.manifest).canonicalize()?;
            let folder = scratch.join("other");
            std::fs::create_dir(&folder)?;
            Some(Base::prepare(fnhost.canonicalize()?, manifest, &folder).await?)
        }
    };
    let mut told = Told { orders_per_saga: plan.orders, these: Vec::new(), those: Vec::new() };
    for n in 0..plan.pairs {
        say(&format!("what an order costs, round {} of {}", n + 1, plan.pairs));
        let mut builds = vec![("this", base)];
        builds.extend(other.as_ref().map(|other| ("other", other)));
        if n % 2 == 1 {
            builds.reverse();
        }
        for (name, build) in builds {
            let costs = one(build, plan, &format!("cost-{n}-{name}"), name).await?;
            if name == "this" { &mut told.these } else { &mut told.those }.push(costs);
        }
    }
    print!("{}", table(&told));
    report::write("cost", &told)
}

async fn one(base: &Base, plan: &Plan, name: &str, build: &str) -> anyhow::Result<Costs> {
    let mut costs = Costs::new();
    let mut note = |what: &str, cost: Cost| {
        eprintln!(
            "    {build:5} {what:28} {:7.0}/s  {:6.0} + {:6.0} + {:6.0} us  p50 {:5.0}  p99 {:5.0} ms",
            cost.orders_per_s,
            cost.cpu_us_per_order.fnhost,
            cost.cpu_us_per_order.postgres,
            cost.cpu_us_per_order.kafka,
            cost.p50_ms,
            cost.p99_ms
        );
        costs.insert(what.to_owned(), cost);
    };
    let wanted = |what: &str| {
        plan.measure.is_empty() || plan.measure.iter().any(|number| what.starts_with(&number.to_string()))
    };
    let (saga, post) = ("1 saga alone", "2 POST alone");
    if wanted(saga) {
        let alone = saga::run(base, Runner::Wasm, plan.orders, &format!("{name}-saga")).await?;
        let (cpu_us_per_order, orders_per_s) = (alone.cpu_us_per_order, alone.orders_per_s);
        note(saga, Cost { cpu_us_per_order, orders_per_s, ..Cost::default() });
    }
    if wanted(post) {
        note(post, posts(base, plan, &format!("{name}-post")).await?);
    }

    let running = base.up(&base.copy(&format!("{name}-up"))?).await?;
    let (pids, (database, kafka)) = (running.pids()?, running.addresses()?);
    let owner = PgPoolOptions::new().max_connections(1).connect(&database).await?;
    orders::add_catalogue(&owner).await?;
    owner.close().await;
    let load = Load::new(running.listen, kafka, USERS).await?;
    let duration = Duration::from_secs(plan.step_s);
    let mut saturation = 0.0;
    let [slow, quiet] = QUIET_RATES;
    for (what, offer) in [
        ("6 POST to CONFIRMED, saturated", Offer::Saturation),
        ("5 POST to CONFIRMED, half", Offer::Rate(HALF)),
        ("7 four times as much offered", Offer::Overload(OVERLOAD)),
        ("4 POST to CONFIRMED at 50/s", Offer::Rate(quiet)),
        ("3 POST to CONFIRMED at 10/s", Offer::Rate(slow)),
    ] {
        if !wanted(what) {
            continue;
        }
        // A build that refuses nobody would take them all, and confirm them minutes later.
        if (build != "this" || plan.overload_s == 0) && matches!(offer, Offer::Overload(_)) {
            continue;
        }
        // Some are parts of what was reached at saturation.
        let (offer, duration) = match offer {
            Offer::Rate(HALF) => (Offer::Rate(saturation * HALF), duration),
            Offer::Overload(factor) => {
                (Offer::Overload(saturation * factor), Duration::from_secs(plan.overload_s))
            }
            other => (other, duration),
        };
        let before = Cpu::read(pids)?;
        let outcome = load.step(offer, duration).await.with_context(|| format!("step {what}"))?;
        let count = outcome.latencies_ms.len();
        let cpu_us_per_order = CpuPerOrder::new(Cpu::read(pids)?.since(before), count);
        let mut latencies: Vec<f64> = outcome.latencies_ms.iter().map(|(_, ms)| *ms).collect();
        latencies.sort_by(f64::total_cmp);
        let orders_per_s = count as f64 / outcome.took_s;
        if matches!(offer, Offer::Saturation) {
            saturation = orders_per_s;
        }
        let (p50_ms, p99_ms) = (percentile(&latencies, 0.5), percentile(&latencies, 0.99));
        let (refused, refused_p99_ms) = (outcome.refused_ms.len(), percentile(&outcome.refused_ms, 0.99));
        if refused > 0 {
            eprintln!("          {refused} refused, p99 {refused_p99_ms:.1} ms");
        }
        note(what, Cost { cpu_us_per_order, orders_per_s, p50_ms, p99_ms, refused, refused_p99_ms });
    }
    running.end().await?;
    Ok(costs)
}

/// Orders that are taken by a host without Kafka, so that nothing comes of them.
async fn posts(base: &Base, plan: &Plan, name: &str) -> anyhow::Result<Cost> {
    let only_http = ["--only", "http"].map(OsString::from);
    let running = base.up_with(&base.copy(name)?, &only_http).await?;
    let owner = PgPoolOptions::new().max_connections(1).connect(&running.database()?).await?;
    orders::add_catalogue(&owner).await?;
    owner.close().await;
    let load = Load::new(running.listen, Kafka::default(), USERS).await?;
    let pids: Pids = running.pids()?;
    let before = Cpu::read(pids)?;
    let (count, took) = load.posts(POSTING, Duration::from_secs(plan.step_s)).await?;
    let cpu_us_per_order = CpuPerOrder::new(Cpu::read(pids)?.since(before), count);
    running.end().await?;
    Ok(Cost { cpu_us_per_order, orders_per_s: count as f64 / took.as_secs_f64(), ..Cost::default() })
}

fn table(told: &Told) -> String {
    let mut text = String::from(
        "CPU per order: host + Postgres + Kafka, us; medians. With another build: it, and the ratio of this one to it (spread)\n",
    );
    let Some(first) = told.these.first() else { return text };
    for what in first.keys() {
        let of = |runs: &[Costs], part: &dyn Fn(&Cost) -> f64| -> Vec<f64> {
            runs.iter().filter_map(|run| run.get(what)).map(part).collect()
        };
        let line = |runs: &[Costs]| {
            let middle = |part: &dyn Fn(&Cost) -> f64| median(of(runs, part).into_iter());
            format!(
                "{:5.0} + {:5.0} + {:5.0} = {:6.0} us {:6.0}/s p50 {:4.0} p99 {:4.0} ms",
                middle(&|c| c.cpu_us_per_order.fnhost),
                middle(&|c| c.cpu_us_per_order.postgres),
                middle(&|c| c.cpu_us_per_order.kafka),
                middle(&|c| c.cpu_us_per_order.system()),
                middle(&|c| c.orders_per_s),
                middle(&|c| c.p50_ms),
                middle(&|c| c.p99_ms),
            )
        };
        text += &format!("{what:32} {}\n", line(&told.these));
        let refused: Vec<f64> = of(&told.these, &|c| c.refused as f64);
        if refused.iter().any(|count| *count > 0.0) {
            let p99_ms = median(of(&told.these, &|c| c.refused_p99_ms).into_iter());
            text += &format!("{:>32} {:.0} refused, p99 {p99_ms:.1} ms\n", "", median(refused.into_iter()));
        }
        if told.those.is_empty() {
            continue;
        }
        let ratios = |part: &dyn Fn(&Cost) -> f64| -> String {
            let pairs = of(&told.these, part).into_iter().zip(of(&told.those, part));
            let mut ratios: Vec<f64> = pairs.map(|(this, other)| this / other).collect();
            ratios.sort_by(f64::total_cmp);
            let ends = [ratios.first(), ratios.last()].map(|end| end.copied().unwrap_or_default());
            format!("{:.2} ({:.2} to {:.2})", median(ratios.iter().copied()), ends[0], ends[1])
        };
        text += &format!("{:>32} {}\n", "other", line(&told.those));
        let cpu = ratios(&|c| c.cpu_us_per_order.system());
        text += &format!("{:>32} CPU {cpu}, rate {}\n", "this to other", ratios(&|c| c.orders_per_s));
    }
    text
}
