//! The fault suite: orders over HTTP while a seeded schedule of faults strikes hosts, brokers, Postgres and the connections between
//! them, and an oracle that judges the outcome from outside. `./dev faults` runs it; docs/faults.md describes it.
//!
//! [`schedule`] says what strikes when, [`strike`] and [`aimed`] carry it out on a [`world`] behind [`proxy`]s, [`load`] places the
//! orders and [`odd`] the records that nobody can handle, [`audit`] reads the topics, [`oracle`] judges and [`report`] tells; [`guards`]
//! takes the protocol's guards away, to see that the oracle notices.

mod aimed;
pub mod audit;
pub mod brokers;
pub mod guards;
pub mod load;
pub mod odd;
pub mod oracle;
pub mod proxy;
pub mod report;
pub mod schedule;
pub mod strike;
mod topic;
pub mod world;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use load::Load;
use report::Findings;
use schedule::{Planned, Scale};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use strike::Striker;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};
use world::World;

/// How often it is said how many orders there are, where nothing else is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// One run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Everything that is random follows from it.
    pub seed: u64,
    /// Orders.
    pub orders: usize,
    /// Faults.
    pub scale: Scale,
    /// Servers and hosts.
    pub world: world::Plan,
    /// Time in which everything is settled after the last fault.
    pub settle: Duration,
    /// Where everything is kept if something is wrong.
    pub keep: PathBuf,
}

/// Runs it; what is wrong is in the findings.
///
/// # Errors
/// The suite itself failed: something could not be started, struck or asked.
pub async fn run(run: &Run) -> anyhow::Result<Findings> {
    let scale = run.scale;
    println!(
        "seed {}: {} orders, {} faults within {:?}, {} hosts, {} brokers",
        run.seed,
        run.orders,
        scale.faults,
        scale.span(),
        scale.hosts,
        scale.brokers
    );
    let planned = schedule::plan(run.seed, scale);
    let world = World::start(&run.world).await?;
    println!("everything runs");
    let audit = oracle::audit(&world.db).await?;
    let load = Load::new(&world.clients, run.orders, scale.span(), run.seed).await?;
    let striker = Arc::new(Striker::new(world, load.clone(), audit));
    let mut findings = Findings::default();
    let began = Instant::now();
    let ended = tokio::select! {
        kept = striker.keep_hosts() => kept.map(|()| false),
        ended = through_faults(run, &striker, &planned, &mut findings) => ended.map(|()| true),
    };
    if let Err(error) = ended {
        findings.fault(format!("the suite failed: {error:#}"));
    }
    findings.count_kinds("faults: ", planned.iter().map(|planned| planned.fault.kind()));
    findings.count("hosts that ended by themselves", u64::from(striker.ended.load(Ordering::Relaxed)));
    for (what, count) in load.counts() {
        findings.count(what, count as u64);
    }
    findings.count("seconds", began.elapsed().as_secs());
    drop(load);
    let keep = (!findings.faults().is_empty()).then_some(run.keep.as_path());
    if let Some(striker) = Arc::into_inner(striker) {
        striker.world.end(keep).await?;
    }
    if let Some(keep) = keep {
        println!("kept: {}", keep.display());
    }
    Ok(findings)
}

/// All orders and all faults, and the judgement of what came of them.
async fn through_faults(
    run: &Run,
    striker: &Arc<Striker>,
    planned: &[Planned],
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let load = &striker.load;
    let began = Instant::now();
    let say = {
        let load = load.clone();
        move |what: &str| {
            println!("{:>7.1} s, {:>6} orders: {what}", began.elapsed().as_secs_f64(), load.accepted())
        }
    };
    let mut orders = JoinSet::from_iter([load.clone().run()]);
    // Polled here and not spawned: what waits for conditions is not known to be Send.
    let mut strikes = FuturesUnordered::new();
    let mut planned = planned.iter().peekable();
    while planned.peek().is_some() || !strikes.is_empty() {
        let due = planned.peek().map(|next| began + next.at);
        tokio::select! {
            () = sleep_until(due.unwrap_or(began).into()), if due.is_some() => {
                let Some(Planned { fault, .. }) = planned.next() else { continue };
                say(&fault.to_string());
                strikes.push(async move { (fault, striker.strike(fault).await) });
            }
            Some((fault, came)) = strikes.next() => {
                let told = came.as_ref().map_or_else(|error| format!("FAILED: {error:#}"), Clone::clone);
                say(&format!("  {}: {told}", fault.kind()));
                if let Err(error) = came {
                    findings.fault(format!("{fault} could not be carried out: {error:#}"));
                }
            }
        }
    }
    let placed = loop {
        tokio::select! {
            Some(placed) = orders.join_next() => break placed?,
            () = sleep(PROGRESS_INTERVAL) => say("all faults are over"),
        }
    };
    say("all orders are placed");
    if let Err(error) = placed {
        findings.fault(format!("{error:#}"));
    }
    let settled = oracle::settle(&striker.world, run.settle).await;
    say("judging");
    let audit = std::mem::take(&mut *striker.audit.lock().await);
    let odd = striker.odd.lock().await.clone();
    let judged = oracle::judge(&striker.world, &load.take_orders(), &odd, audit, findings).await;
    // Last: what is lost or doubled says more than that something stands still.
    if let Err(error) = settled {
        findings.fault(format!("{error:#}"));
        for (host, admin) in striker.world.admins.iter().enumerate() {
            let ready = admin.get("/readyz").await;
            let ready = ready.map_or_else(|error| format!("{error:#}"), |ready| ready.to_string());
            findings.fault(format!("host {host} says {ready}"));
        }
    }
    judged?;
    say("judged");
    Ok(())
}
