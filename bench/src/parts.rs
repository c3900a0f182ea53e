//! Which parts of the measurement are run.

use crate::system::Base;
use crate::{Plan, bad, cost, grow, recovery, say, slow, soak, telemetry};
use std::path::Path;

/// Whether a part of the measurement was asked for.
pub fn is_wanted(plan: &Plan, part: &str) -> bool {
    plan.only.iter().any(|only| only == part)
}

/// The parts that have a report of their own; false where none of them is wanted.
///
/// # Errors
/// Those of the parts.
pub async fn by_themselves(base: &Base, scratch: &Path, plan: &Plan) -> anyhow::Result<bool> {
    let mut any = false;
    let mut wanted = |part: &str| {
        let wanted = is_wanted(plan, part);
        any |= wanted;
        wanted
    };
    if wanted("cost") {
        cost::run(base, scratch, plan).await?;
    }
    if wanted("grow") {
        grow::run(base, plan).await?;
    }
    if wanted("telemetry") {
        telemetry::run(base, plan).await?;
    }
    if wanted("soak") {
        soak::run(base, plan).await?;
    }
    if wanted("bad") {
        say("one bad record in each batch");
        bad::run(base).await?;
    }
    if wanted("recovery") {
        recovery::run(base, &plan.recovery).await?;
    }
    if wanted("slow") {
        slow::run(base, plan).await?;
    }
    Ok(any)
}
