//! The saga alone: orders wait in Kafka, a host starts, and the clock of the database says when each was decided.

use crate::cpu::{Cpu, Pids};
use crate::orders;
use crate::report::{CpuPerOrder, SagaRun};
use crate::system::{Base, Process, Runner, Stage};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Longest time a run may take before it is given up.
const RUN_TIMEOUT: Duration = Duration::from_secs(180);
/// How often the beginning of a run is looked for: the error of its CPU figures.
const BEGIN_INTERVAL: Duration = Duration::from_millis(20);
/// How often the end of a run is looked for.
const END_INTERVAL: Duration = Duration::from_millis(200);

/// Runs `count` orders through `runner`, on servers and data of its own.
///
/// # Errors
/// The run did not end with every order confirmed.
pub async fn run(base: &Base, runner: Runner, count: usize, name: &str) -> anyhow::Result<SagaRun> {
    run_with(base, runner, &[], count, name).await
}

/// As [`run`], with variables in the environment of `runner`.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    base: &Base,
    runner: Runner,
    environment: &[(&str, String)],
    count: usize,
    name: &str,
) -> anyhow::Result<SagaRun> {
    let Prepared { stage, owner, mut process, gateway: _gateway } =
        prepare(base, runner, environment, count, name).await?;
    let pids = stage.pids(&process)?;
    let measured = measure(&owner, &mut process, pids, count).await;
    if let Ok(run) = &measured {
        eprintln!(
            "    {:6}  {:6.0} orders/s confirmed, {:6.0} settled; CPU us per order: {} {:.0}, Postgres {:.0}, Kafka {:.0}",
            runner.name(),
            run.orders_per_s,
            run.settled_per_s,
            runner.name(),
            run.cpu_us_per_order.fnhost,
            run.cpu_us_per_order.postgres,
            run.cpu_us_per_order.kafka
        );
        process.stop().await?;
    }
    drop(process);
    owner.close().await;
    stage.end().await?;
    measured
}

/// Orders that wait, and who has begun with them.
pub struct Prepared {
    /// Servers and data.
    pub stage: Stage,
    /// A connection of the owner.
    pub owner: PgPool,
    /// The runner's.
    pub process: Process,
    /// The payment gateway, while it is there.
    pub gateway: Gateway,
}

/// A payment gateway of this process.
pub type Gateway = (Arc<payment_gateway::Gateway>, JoinSet<()>);

/// Writes `count` orders, and starts `runner`.
///
/// # Errors
/// One of them refused.
pub async fn prepare(
    base: &Base,
    runner: Runner,
    environment: &[(&str, String)],
    count: usize,
    name: &str,
) -> anyhow::Result<Prepared> {
    let stage = base.stage(name).await?;
    let owner = PgPoolOptions::new().max_connections(1).connect(&stage.servers.database).await?;
    orders::add_catalogue(&owner).await?;
    orders::preload(&owner, &stage.servers.kafka, count).await?;
    // In this process, so that its CPU is nobody's figure: what is measured is the price of asking, equal for all runners.
    let (gateway, address, serving) = payment_gateway::start(payment_gateway::Options::default()).await?;
    let mut environment = environment.to_vec();
    environment.push(("SPIN_VARIABLE_PAYMENT_GATEWAY_URL", format!("http://{address}")));
    environment.push(("SPIN_VARIABLE_PAYMENT_WEBHOOK_SECRET", "no webhooks here".to_owned()));
    let process = base.run(runner, &environment, &stage)?;
    Ok(Prepared { stage, owner, process, gateway: (gateway, serving) })
}

async fn measure(owner: &PgPool, process: &mut Process, pids: Pids, count: usize) -> anyhow::Result<SagaRun> {
    let deadline = Instant::now() + RUN_TIMEOUT;
    let mut wait = async |interval: Duration| {
        process.check()?;
        anyhow::ensure!(Instant::now() < deadline, "{count} orders took more than {RUN_TIMEOUT:?}");
        tokio::time::sleep(interval).await;
        anyhow::Ok(())
    };
    // Starting is not what is measured here.
    while !orders::have_begun(owner).await? {
        wait(BEGIN_INTERVAL).await?;
    }
    let before = Cpu::read(pids)?;
    while !orders::are_settled(owner, count).await? {
        wait(END_INTERVAL).await?;
    }
    let cpu = Cpu::read(pids)?.since(before);
    let times = orders::times(owner, count).await?;
    let quarter = count as f64 / 4.0;
    let [first, second, third, last] = times.confirmed_s;
    Ok(SagaRun {
        orders_per_s: count as f64 / last,
        orders_per_s_by_quarter: [
            quarter / first,
            quarter / (second - first),
            quarter / (third - second),
            quarter / (last - third),
        ],
        settled_per_s: count as f64 / times.settled_s,
        cpu_us_per_order: CpuPerOrder::new(cpu, count),
    })
}
