//! The order system with its cache in a real Redis, which is killed, frozen and brought back while customers read.

use http::{Method, StatusCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tests::customer::{Customer, NewOrder};
use tests::outcome::Outcome;
use tests::redis::Redis;
use tests::scrape::Scrape;
use tests::system::{Fnhost, Setup};
use tests::wait::{Look, until};
use uuid::Uuid;

/// Time in which the host notices what happened to Redis.
const DEADLINE: Duration = Duration::from_secs(30);
/// Readers at a time.
const READERS: usize = 4;
/// The longest that an answer may take: far more than a read takes on a busy machine, and far less than it would if calls
/// to a Redis that is gone were waited for.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Reads of orders that found a value, as the host has counted them.
async fn hits(fnhost: &Fnhost) -> anyhow::Result<f64> {
    let labels = [("component", "order"), ("store", "default"), ("outcome", "hit")];
    Ok(Scrape::of(&fnhost.admin()?).await?.sum("fnhost_key_value_reads_total", &labels))
}

async fn wait_hits(fnhost: &Fnhost) -> anyhow::Result<()> {
    let before = hits(fnhost).await?;
    until("hits in the cache", DEADLINE, async || {
        let now = hits(fnhost).await?;
        Ok(Look::from_bool(now > before, format!("{before} before, {now} now")))
    })
    .await
}

async fn wait_up(fnhost: &Fnhost, up: bool) -> anyhow::Result<()> {
    until("what the host says of Redis", DEADLINE, async || {
        let scrape = Scrape::of(&fnhost.admin()?).await?;
        let seen = scrape.sum("fnhost_key_value_up", &[("store", "default")]);
        Ok(Look::from_bool((seen > 0.5) == up, format!("fnhost_key_value_up is {seen}")))
    })
    .await
}

/// Reads one order until it is told to stop; answers how long the slowest answer took.
async fn read(
    customer: Customer,
    id: Uuid,
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
) -> anyhow::Result<Duration> {
    let mut slowest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let answer = customer.ask(Method::GET, &format!("/orders/{id}"), None).await?;
        slowest = slowest.max(begun.elapsed());
        anyhow::ensure!(answer.status == StatusCode::OK, "{answer}");
        reads.fetch_add(1, Ordering::Relaxed);
        // Leaves the processors to the rest.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(slowest)
}

/// Waits until every reader can have read again.
async fn wait_reads(reads: &AtomicU64) -> anyhow::Result<()> {
    let wanted = reads.load(Ordering::Relaxed) + 20 * READERS as u64;
    until("reads", DEADLINE, async || {
        let now = reads.load(Ordering::Relaxed);
        Ok(Look::from_bool(now >= wanted, format!("{now} of {wanted}")))
    })
    .await
}

#[tokio::test]
async fn no_read_fails_or_waits_while_redis_dies_is_stuck_and_comes_back() -> Outcome {
    let Some(mut redis) = Redis::start().await? else { return Ok(()) };
    let config = redis.runtime_config()?.display().to_string();
    let arguments = vec!["--runtime-config-file".to_owned(), config];
    let fnhost = Fnhost::start(Setup { arguments, ..Setup::default() }).await?;
    let customer = Customer::register(&fnhost.client()?).await?;
    let order = customer.order_to_end(&NewOrder::of(&[("COFFEE-1KG", 1)])).await?;
    wait_up(&fnhost, true).await?;

    let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..READERS {
        readers.spawn(read(customer.clone(), order.order_id, stop.clone(), reads.clone()));
    }
    wait_hits(&fnhost).await?;
    let age = redis.ask(&format!("PTTL order/{}", order.order_id)).await?;
    let age: i64 = age.lines().next().and_then(|line| line.strip_prefix(':')).unwrap_or_default().parse()?;
    assert!((-2..=1_000).contains(&age) && age != -1, "nothing stays in Redis: {age} ms");

    redis.kill()?;
    wait_up(&fnhost, false).await?;
    wait_reads(&reads).await?;
    // What is ordered and cancelled meanwhile does not wait for the cache either.
    let other = customer.order_to_end(&NewOrder::of(&[("TEA-250G", 1)])).await?;
    customer.cancel(other.order_id).await?;
    redis.restart().await?;
    wait_up(&fnhost, true).await?;
    wait_hits(&fnhost).await?;

    redis.freeze()?;
    wait_up(&fnhost, false).await?;
    wait_reads(&reads).await?;
    redis.thaw()?;
    wait_up(&fnhost, true).await?;
    wait_hits(&fnhost).await?;

    stop.store(true, Ordering::Relaxed);
    while let Some(slowest) = readers.join_next().await {
        let slowest = slowest??;
        assert!(slowest < ANSWER_MAX, "an answer took {slowest:?}");
    }
    let log = fnhost.log();
    assert!(log.matches("lost the connection to Redis").count() >= 2, "each time is told");
    Ok(())
}

#[tokio::test]
async fn a_runtime_config_that_does_not_fit_stops_the_start() -> Outcome {
    let folder = std::env::temp_dir().join(format!("fnhost-runtime-config-{}", Uuid::new_v4().simple()));
    std::fs::create_dir(&folder)?;
    let path = folder.join("runtime-config.toml");
    std::fs::write(&path, "[key_value_store.default]\ntype = \"aws_dynamo\"\n")?;
    let arguments = vec!["--runtime-config-file".to_owned(), path.display().to_string()];
    let mut fnhost = Fnhost::new(Setup { arguments, ..Setup::default() })?;
    fnhost.spawn()?;
    let status = fnhost.wait_end().await?;
    std::fs::remove_dir_all(&folder)?;
    assert_eq!(status.code(), Some(1));
    let log = fnhost.log();
    assert!(
        log.contains("fnhost does not support type = \"aws_dynamo\"; use \"redis\" or \"spin\""),
        "{log}"
    );
    Ok(())
}
