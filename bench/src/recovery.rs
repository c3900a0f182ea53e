//! How long it takes until records are processed again: after `kill -9` of the only host, of one of two, and after the database or
//! Kafka has been away. Each under a steady load of orders, which goes to Kafka whether a host runs or not.
//!
//! A partition counts as processed once its position in the database is higher than it was. The last of all partitions is what is
//! judged; the first is there to tell one slow partition from a slow host. Beside them an order is placed over HTTP, as a customer
//! would: until it is confirmed, the API, the relay of its event and every function have to work again.

mod feed;
mod world;

use crate::report::median;
use crate::system::Base;
use crate::{report, say};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use feed::Feed;
use fnhost_kafka::consumer::SESSION_TIMEOUT_MS;
use serde::Serialize;
use std::time::{Duration, Instant};
use world::{Away, Host, Positions, World};

/// Seconds of load before each failure, so that it meets hosts that are at work.
const UNDER_LOAD_S: f64 = 3.0;
/// Seconds for which the feed has orders besides those for an outage: for the failure, and for what follows.
const STOCK_S: f64 = 200.0;
/// Seconds of load that may be undecided before the next failure.
const UNDECIDED_S: f64 = 2.0;
/// Most seconds until processing: after a host is ready again, beyond the session's time-out, after a server is back.
const RESTART_AIM_S: f64 = 2.0;
const TAKE_OVER_AIM_S: f64 = SESSION_TIMEOUT_MS as f64 / 1e3 + 1.0;
const OUTAGE_AIM_S: f64 = 3.0;

/// What fails, and for how long.
#[derive(Args, Debug, Clone)]
pub struct Options {
    /// Failures that recovery is measured after
    #[arg(long, value_enum, value_delimiter = ',', default_value = "restart,take-over,database,kafka")]
    failures: Vec<Failure>,
    /// Orders a second while something fails
    #[arg(long, default_value_t = 50.0)]
    recovery_rate: f64,
    /// Seconds that the database and Kafka are away
    #[arg(long, default_value_t = 60)]
    outage_s: u64,
    /// Times that each failure is repeated
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Failure {
    /// The only host is killed and started again
    Restart,
    /// One of two hosts is killed
    TakeOver,
    /// The database is away: stopped, then frozen
    Database,
    /// Kafka is away: stopped, then frozen
    Kafka,
}

/// One recovery, in seconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Recovery {
    /// From the restart until the host was ready; 0 where no host was started.
    ready_s: f64,
    /// Until the first and the last partition was processed.
    first_s: f64,
    last_s: f64,
    /// Until an order placed meanwhile was confirmed.
    order_s: f64,
}

/// What was measured of one failure.
#[derive(Debug, Serialize)]
struct Measured {
    failure: &'static str,
    aim_s: f64,
    rounds: Vec<Recovery>,
}

/// Measures, prints medians and writes `recovery.json`.
///
/// # Errors
/// Something was not processed again, or an order was lost.
pub async fn run(base: &Base, options: &Options) -> anyhow::Result<()> {
    say(&format!("recovery, {} rounds at {} orders/s", options.rounds, options.recovery_rate));
    let mut world = World::start(base).await?;
    crate::orders::add_catalogue(&world.owner).await?;
    let feed = Feed::start(&world.owner, &world.cluster, options.recovery_rate).await?;
    let mut host = world.host("host")?;
    host.ready().await?;
    let mut all = Vec::new();
    for (failure, name, aim_s) in [
        (Failure::Restart, "kill -9 of the only host, after it is ready again", RESTART_AIM_S),
        (Failure::Database, "database stopped, after its return", OUTAGE_AIM_S),
        (Failure::Database, "database frozen, after its return", OUTAGE_AIM_S),
        (Failure::Kafka, "Kafka stopped, after its return", OUTAGE_AIM_S),
        (Failure::Kafka, "Kafka frozen, after its return", OUTAGE_AIM_S),
        (Failure::TakeOver, "kill -9 of one of two hosts", TAKE_OVER_AIM_S),
    ] {
        if !options.failures.contains(&failure) {
            continue;
        }
        let away = if name.contains("frozen") { Away::Frozen } else { Away::Stopped };
        let mut rounds = Vec::new();
        for _ in 0..options.rounds {
            under_load(&world, &feed, options).await?;
            let recovery = match failure {
                Failure::Restart => restart(&world, &mut host).await,
                Failure::TakeOver => take_over(&mut world, &feed, options, &mut host).await,
                Failure::Database | Failure::Kafka => {
                    outage(&mut world, &mut host, failure, away, Duration::from_secs(options.outage_s)).await
                }
            };
            let recovery = recovery.with_context(|| name.to_owned())?;
            feed.check()?;
            host.check()?;
            eprintln!(
                "    {name}: first partition {:.2} s, last {:.2} s, an order {:.2} s{}",
                recovery.first_s,
                recovery.last_s,
                recovery.order_s,
                if recovery.ready_s > 0.0 {
                    format!("; ready {:.2} s", recovery.ready_s)
                } else {
                    String::new()
                }
            );
            rounds.push(recovery);
        }
        all.push(Measured { failure: name, aim_s, rounds });
    }
    let (sent, left) = feed.end().await?;
    world.decided(0, || left).await.context("after all failures")?;
    eprintln!("    all {sent} orders of the load are decided");
    host.kill().await?;
    world.end().await?;
    report(&all)
}

/// Waits until the load is under way and nothing is left of the last failure.
async fn under_load(world: &World<'_>, feed: &Feed, options: &Options) -> anyhow::Result<()> {
    let seconds = STOCK_S + options.outage_s as f64;
    feed.fill(&world.owner, (seconds * options.recovery_rate) as usize).await?;
    tokio::time::sleep(Duration::from_secs_f64(UNDER_LOAD_S)).await;
    let undecided = (UNDECIDED_S * options.recovery_rate) as usize;
    world.decided(undecided, || feed.left()).await
}

/// The only host is killed, and started again at once.
async fn restart(world: &World<'_>, host: &mut Host) -> anyhow::Result<Recovery> {
    let token = world.log_in(host).await?;
    host.kill().await?;
    let before = world.positions().await?;
    let started = Instant::now();
    world.start_host_again(host)?;
    let listen = host.listen;
    let recovering = async {
        host.ready().await?;
        let ready = Instant::now();
        anyhow::Ok((ready, world.an_order(listen, &token).await?))
    };
    let ((ready, order), moves) = tokio::try_join!(recovering, world.moves(&before, None))?;
    Ok(Recovery { ready_s: (ready - started).as_secs_f64(), ..recovery(ready, &moves, order) })
}

/// A second host joins; it is killed once it owns partitions.
async fn take_over(
    world: &mut World<'_>,
    feed: &Feed,
    options: &Options,
    host: &mut Host,
) -> anyhow::Result<Recovery> {
    let owners =
        |positions: Positions| -> Vec<_> { positions.into_values().filter_map(|(_, owner)| owner).collect() };
    let lasting = owners(world.positions().await?);
    let mut other = world.host(&format!("other-{}", uuid::Uuid::new_v4().simple()))?;
    other.ready().await?;
    let token = world.log_in(host).await?;
    under_load(world, feed, options).await?;
    let dead = owners(world.positions().await?).into_iter().find(|owner| !lasting.contains(owner));
    let dead = dead.context("the second host got no partition")?;
    other.kill().await?;
    let killed = Instant::now();
    let mut before = world.positions().await?;
    before.retain(|_, (_, owner)| *owner == Some(dead));
    let (moves, order) =
        tokio::try_join!(world.moves(&before, Some(dead)), world.an_order(host.listen, &token))?;
    Ok(recovery(killed, &moves, order))
}

/// A server is away for some time.
async fn outage(
    world: &mut World<'_>,
    host: &mut Host,
    failure: Failure,
    away: Away,
    length: Duration,
) -> anyhow::Result<Recovery> {
    let token = world.log_in(host).await?;
    let of_kafka = failure == Failure::Kafka;
    let server = if of_kafka { &mut world.kafka } else { &mut world.postgres };
    match away {
        Away::Frozen => {
            let frozen = server.freeze()?;
            tokio::time::sleep(length).await;
            drop(frozen);
        }
        Away::Stopped => {
            server.stop().await;
            tokio::time::sleep(length).await;
            server.start_again().await?;
        }
    }
    let back = Instant::now();
    let before = world.positions().await?;
    let (moves, order) = tokio::try_join!(world.moves(&before, None), world.an_order(host.listen, &token))?;
    Ok(recovery(back, &moves, order))
}

fn recovery(since: Instant, moves: &[Instant], order: Instant) -> Recovery {
    let after = |at: Option<&Instant>| at.map_or(0.0, |at| at.saturating_duration_since(since).as_secs_f64());
    Recovery {
        ready_s: 0.0,
        first_s: after(moves.first()),
        last_s: after(moves.last()),
        order_s: after(Some(&order)),
    }
}

fn report(all: &[Measured]) -> anyhow::Result<()> {
    for Measured { failure, aim_s, rounds } in all {
        let of = |part: fn(&Recovery) -> f64| median(rounds.iter().map(part));
        let last = of(|round| round.last_s);
        println!(
            "{failure:<50} processed after {last:.2} s ({}), first {:.2} s, an order {:.2} s   <= {aim_s} s{}",
            rounds.iter().map(|round| format!("{:.2}", round.last_s)).collect::<Vec<_>>().join(" "),
            of(|round| round.first_s),
            of(|round| round.order_s),
            if last > *aim_s { "  MISSED" } else { "" }
        );
    }
    report::write("recovery", all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moved_before_the_host_was_ready_took_no_time() {
        let since = Instant::now();
        let at = |s: u64| since + Duration::from_secs(s);
        let recovery = recovery(at(5), &[at(4), at(7)], at(8));
        assert_eq!((recovery.first_s, recovery.last_s, recovery.order_s), (0.0, 2.0, 3.0));
    }
}
