//! A rolling update: hosts are replaced one by one by hosts of another identity while orders run, as the pods of a Deployment are
//! (`docs/kubernetes.md`).

use super::{PARTITIONS, Story, alone, wait_owned};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tests::client::Client;
use tests::load::{CONCURRENCY, Load};
use tests::outcome::Outcome;
use tests::service::Service;
use tests::system::{Fnhost, Setup};

/// Hosts that follow the first one.
const SUCCESSORS: usize = 3;
/// Orders while a host joins, and again while the earlier one is told to stop.
const ORDERS: usize = 1_000;

/// What the members of a host are called in their groups.
fn identity(fnhost: &Fnhost) -> anyhow::Result<String> {
    Ok(std::fs::read_to_string(fnhost.data_dir().join("secrets/instance"))?)
}

/// Begins to order, and waits until that is under way.
async fn begin(client: &Client, story: &Story, part: usize) -> anyhow::Result<Load> {
    let mut load = Load::start(client, ORDERS, story.seed + part as u64).await?;
    load.wait_accepted(ORDERS / 10).await?;
    Ok(load)
}

/// Waits until all are accepted; none was refused.
async fn finish(story: &Story, load: Load) -> anyhow::Result<()> {
    let (failures, refusals) = (load.failures(), load.refusals());
    load.finish().await?;
    assert_eq!(refusals.load(Ordering::Relaxed), 0, "requests were refused");
    // A kept connection may be closed just as the next request sets out on it, as with any HTTP/1.1 server.
    let unanswered = failures.load(Ordering::Relaxed);
    story.say(&format!("{unanswered} requests were sent again on another connection"));
    assert!(unanswered <= CONCURRENCY, "{unanswered} requests had no answer");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_are_replaced_one_by_one_lose_and_refuse_nothing() -> Outcome {
    let _alone = alone().await;
    // Only its servers go on.
    let servers = Fnhost::start(Setup::default()).await?;
    servers.freeze()?;
    let mut running = servers.join().await?;
    wait_owned(&running, PARTITIONS, PARTITIONS).await?;
    let mut identities = BTreeSet::from([identity(&running)?]);
    let service = Service::to(running.client()?.address()).await?;
    let client = Client::new(service.address())?;
    let story = Story::begin("a rolling update");
    for round in 1..=SUCCESSORS {
        let joined = begin(&client, &story, 2 * round).await?;
        let next = servers.join().await?;
        identities.insert(identity(&next)?);
        story.say("another host is ready");
        let drained = begin(&client, &story, 2 * round + 1).await?;
        // As `preStop` has it: no new connection comes any more when the signal does.
        service.lead_to(next.client()?.address());
        let mut earlier = std::mem::replace(&mut running, next);
        assert!(drained.accepted() < ORDERS, "the orders were all accepted before the drain");
        let told = Instant::now();
        earlier.signal(Signal::TERM)?;
        let status = earlier.wait_end().await?;
        story.say(&format!("the earlier one drained within {:.2} s", told.elapsed().as_secs_f64()));
        let log = earlier.log();
        assert!(status.success() && !log.contains("not drained"), "{status}\n{log}");
        let ended = Instant::now();
        wait_owned(&running, PARTITIONS, PARTITIONS).await?;
        story.say(&format!("the other owns everything {:.2} s later", ended.elapsed().as_secs_f64()));
        for load in [joined, drained] {
            finish(&story, load).await?;
        }
    }
    assert_eq!(identities.len(), SUCCESSORS + 1, "an identity was used twice");
    let last = begin(&client, &story, 0).await?;
    Ok(story.end(&servers, last, ORDERS * (2 * SUCCESSORS + 1)).await?)
}
