//! What slow payments cost the orders of others: steps of load without any and with some, in turns on one running system.

use crate::load::{Load, Offer};
use crate::orders;
use crate::report::{median, percentile};
use crate::system::{Base, Running};
use crate::{Plan, USERS, report, say};
use serde::Serialize;
use sqlx::postgres::PgPoolOptions;
use std::time::Duration;

/// One order in so many has a payment that takes 2 s.
const SLOW_ONE_IN: usize = 100;
/// Orders a second: enough that records of all partitions arrive while a slow payment is under way.
const RATE: f64 = 100.0;
/// Pairs of steps.
const PAIRS: usize = 3;
/// The most by which slow payments may raise the p99 of the other orders, milliseconds.
const RISE_AIM_MS: f64 = 100.0;

/// Percentiles of the orders whose payments are not slow, milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Step {
    p50_ms: f64,
    p99_ms: f64,
    /// Orders with a slow payment; 0 of a step without.
    slow: usize,
    slow_p50_ms: f64,
}

/// Measures, prints medians and writes `slow.json`.
///
/// # Errors
/// An order was refused or not confirmed.
pub async fn run(base: &Base, plan: &Plan) -> anyhow::Result<()> {
    say(&format!("one payment in {SLOW_ONE_IN} takes 2 s, {RATE} orders/s"));
    let running = base.up(&base.copy("slow")?).await?;
    let measured = measure(&running, Duration::from_secs(plan.step_s)).await;
    running.end().await?;
    let pairs = measured?;
    let rise = |pair: &[Step; 2]| pair[1].p99_ms - pair[0].p99_ms;
    let of = |at: usize, part: fn(&Step) -> f64| median(pairs.iter().map(|pair| part(&pair[at])));
    println!(
        "slow payments: p99 of the other orders {:.0} ms, {:.0} ms without; rises by {:.0} ms ({})   <= {RISE_AIM_MS} ms",
        of(1, |step| step.p99_ms),
        of(0, |step| step.p99_ms),
        median(pairs.iter().map(rise)),
        pairs.iter().map(|pair| format!("{:.0}", rise(pair))).collect::<Vec<_>>().join(" ")
    );
    report::write("slow", &pairs)
}

/// Pairs of a step without slow payments and one with them.
async fn measure(running: &Running, duration: Duration) -> anyhow::Result<Vec<[Step; 2]>> {
    let (database, kafka) = running.addresses()?;
    let owner = PgPoolOptions::new().max_connections(1).connect(&database).await?;
    orders::add_catalogue(&owner).await?;
    owner.close().await;
    let load = Load::new(running.listen, kafka, USERS).await?;
    // The first step warms up.
    step(&load, duration / 3, None).await?;
    let mut pairs = Vec::with_capacity(PAIRS);
    for _ in 0..PAIRS {
        let without = step(&load, duration, None).await?;
        pairs.push([without, step(&load, duration, Some(SLOW_ONE_IN)).await?]);
    }
    Ok(pairs)
}

async fn step(load: &Load, duration: Duration, slow_one_in: Option<usize>) -> anyhow::Result<Step> {
    let outcome = load.step_with_slow(Offer::Rate(RATE), duration, slow_one_in).await?;
    let sorted = |latencies: &[(f64, f64)]| {
        let mut values: Vec<f64> = latencies.iter().map(|(_, ms)| *ms).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let (others, slow) = (sorted(&outcome.latencies_ms), sorted(&outcome.slow_latencies_ms));
    let step = Step {
        p50_ms: percentile(&others, 0.5),
        p99_ms: percentile(&others, 0.99),
        slow: slow.len(),
        slow_p50_ms: percentile(&slow, 0.5),
    };
    eprintln!(
        "    {} slow ones: the others' p50 {:.0} ms, p99 {:.0} ms; the slow ones' p50 {:.0} ms",
        step.slow, step.p50_ms, step.p99_ms, step.slow_p50_ms
    );
    Ok(step)
}
