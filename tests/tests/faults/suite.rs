//! A short run of the fault suite, whose long ones `./dev faults` makes.

use super::alone;
use std::path::Path;
use std::time::Duration;
use tests::faults::oracle::SETTLE_DEADLINE;
use tests::faults::schedule::Scale;
use tests::faults::world::Plan;
use tests::faults::{Run, run};
use tests::outcome::Outcome;

const SEED: u64 = 20;
const SCALE: Scale =
    Scale { hosts: 2, brokers: 1, faults: 12, only: "", every: Duration::from_millis(1_500) };
const ORDERS: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_while_faults_overlap() -> Outcome {
    let _alone = alone().await;
    let Scale { hosts, brokers, .. } = SCALE;
    let program = tests::system::program()?;
    let findings = run(&Run {
        seed: SEED,
        orders: ORDERS,
        scale: SCALE,
        world: Plan { hosts, brokers, program, guard_off: None },
        settle: SETTLE_DEADLINE,
        keep: Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{}", std::process::id())),
    })
    .await?;
    println!("{findings}");
    assert!(findings.faults().is_empty(), "{findings}");
    Ok(())
}
