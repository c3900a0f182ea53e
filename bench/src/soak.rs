//! Memory over time: orders at a steady rate, every function swapped again and again, and what the host's process holds.

use crate::client::Connection;
use crate::cpu;
use crate::load::{Load, Offer};
use crate::orders;
use crate::system::{Base, Running};
use crate::{Plan, USERS, report, say};
use anyhow::Context as _;
use bytes::Bytes;
use hyper::StatusCode;
use serde::Serialize;
use sqlx::postgres::PgPoolOptions;
use std::path::Path;
use std::time::{Duration, Instant};

/// Functions that are swapped, one after the other.
const FUNCTIONS: [&str; 6] = ["auth", "forecast", "inventory", "notify", "order", "payment"];
/// Time between two swaps.
const SWAP_INTERVAL: Duration = Duration::from_secs(10);
/// Time between two looks at the memory.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Time of one step of orders; each waits until its orders are confirmed.
const STEP: Duration = Duration::from_secs(30);
/// Part of the time at the beginning that counts as warming up: caches fill, pools grow.
const WARM_UP: f64 = 1.0 / 3.0;

/// Measurements of the soak run, as the report has them.
#[derive(Serialize, Debug)]
struct Soak {
    seconds: f64,
    rate_per_s: f64,
    orders: usize,
    swaps: usize,
    /// Growth after the warm-up, by least squares; negative where it shrinks.
    rss_mb_per_hour: f64,
    rss_anon_mb_per_hour: f64,
    samples: Vec<Sample>,
}

/// The process at a moment.
#[derive(Serialize, Debug, Clone, Copy)]
struct Sample {
    at_s: f64,
    rss_mb: f64,
    rss_anon_mb: f64,
    swaps: usize,
}

/// Measures, and writes `soak.json`.
///
/// # Errors
/// An order was refused or lost, or a swap was.
pub async fn run(base: &Base, plan: &Plan) -> anyhow::Result<()> {
    say(&format!("{} s of {} orders/s, with swaps", plan.soak_s, plan.soak_rate));
    let running = base.up(&base.copy("soak")?).await?;
    let soaked = soak(&running, plan).await;
    running.end().await?;
    let soak = soaked?;
    println!(
        "soak: {:.0} s, {} orders, {} swaps; resident memory {:+.1} MB/h, anonymous {:+.1} MB/h after the warm-up",
        soak.seconds, soak.orders, soak.swaps, soak.rss_mb_per_hour, soak.rss_anon_mb_per_hour
    );
    report::write("soak", &soak)
}

async fn soak(running: &Running, plan: &Plan) -> anyhow::Result<Soak> {
    let (database, kafka) = running.addresses()?;
    let owner = PgPoolOptions::new().max_connections(1).connect(&database).await?;
    orders::add_catalogue(&owner).await?;
    owner.close().await;
    let load = Load::new(running.listen, kafka, USERS).await?;
    let (began, total) = (Instant::now(), Duration::from_secs(plan.soak_s));
    let ordering = async {
        let mut orders = 0;
        while began.elapsed() < total {
            let step = STEP.min(total.saturating_sub(began.elapsed()));
            orders += load.step(Offer::Rate(plan.soak_rate), step).await?.latencies_ms.len();
        }
        anyhow::Ok(orders)
    };
    let watching = watch(running, began, total);
    let (orders, samples) = tokio::try_join!(ordering, watching)?;
    let warm: Vec<Sample> =
        samples.iter().copied().filter(|sample| sample.at_s >= total.as_secs_f64() * WARM_UP).collect();
    let slope =
        |of: fn(&Sample) -> f64| slope(&warm.iter().map(|s| (s.at_s / 3600.0, of(s))).collect::<Vec<_>>());
    Ok(Soak {
        seconds: began.elapsed().as_secs_f64(),
        rate_per_s: plan.soak_rate,
        orders,
        swaps: samples.last().map_or(0, |sample| sample.swaps),
        rss_mb_per_hour: slope(|sample| sample.rss_mb),
        rss_anon_mb_per_hour: slope(|sample| sample.rss_anon_mb),
        samples,
    })
}

/// Swaps and looks until the time is over.
async fn watch(running: &Running, began: Instant, total: Duration) -> anyhow::Result<Vec<Sample>> {
    let pid = running.pids()?.host;
    let (mut samples, mut swaps) = (Vec::new(), 0);
    let mut next_swap = SWAP_INTERVAL;
    while began.elapsed() < total {
        tokio::time::sleep(LOOK_INTERVAL.min(total.saturating_sub(began.elapsed()))).await;
        if began.elapsed() >= next_swap {
            swap(running, FUNCTIONS[swaps % FUNCTIONS.len()], swaps).await?;
            swaps += 1;
            next_swap += SWAP_INTERVAL;
        }
        let [rss_mb, rss_anon_mb] = cpu::memory_mb(pid, ["VmRSS:", "RssAnon:"])?;
        let sample = Sample { at_s: began.elapsed().as_secs_f64(), rss_mb, rss_anon_mb, swaps };
        eprintln!(
            "    {:5.0} s: {rss_mb:.1} MB resident, {rss_anon_mb:.1} MB anonymous, {swaps} swaps",
            sample.at_s
        );
        samples.push(sample);
    }
    Ok(samples)
}

/// Brings in a version that does the same and has a digest of its own: a custom section at its end says which it is.
async fn swap(running: &Running, function: &str, n: usize) -> anyhow::Result<()> {
    let path = Path::new("target/functions").join(function).with_extension("wasm");
    let mut wasm = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let name = format!("soak-{n}");
    let length = u8::try_from(name.len())?;
    wasm.extend([0, length + 1, length]);
    wasm.extend(name.as_bytes());
    let token = std::fs::read_to_string(running.data_dir.join("secrets/admin"))?;
    let mut connection = Connection::open(running.admin).await?;
    let (status, said) = connection
        .upload(&format!("/components/{function}/versions"), "application/wasm", &token, Bytes::from(wasm))
        .await?;
    anyhow::ensure!(
        status == StatusCode::CREATED,
        "swap of {function}: {status}: {}",
        String::from_utf8_lossy(&said)
    );
    Ok(())
}

/// The slope of the line through points with the least squares; 0 where there are too few.
fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let (mean_x, mean_y) =
        (points.iter().map(|(x, _)| x).sum::<f64>() / n, points.iter().map(|(_, y)| y).sum::<f64>() / n);
    let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    if points.len() < 2 || spread == 0.0 {
        return 0.0;
    }
    points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread
}

#[cfg(test)]
mod tests {
    use super::slope;

    #[test]
    fn a_slope_is_that_of_the_line() {
        assert!((slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) - 2.0).abs() < 1e-9);
        assert_eq!(slope(&[(1.0, 1.0)]), 0.0);
        assert_eq!(slope(&[]), 0.0);
    }
}
