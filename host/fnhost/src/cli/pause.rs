//! `fnhost pause` and `fnhost resume`.

use super::audit::recorded;
use super::setup::Beside;
use super::{Application, Format};
use clap::Args;
use fnhost_db::positions;
use fnhost_dispatch::operator::topic_partition;
use fnhost_types::record::TopicPartition;
use serde_json::json;

/// Pauses a trigger, relay or schedule, or one partition of a trigger, on all hosts and across restarts.
///
/// What is in hand is finished or handled again after `fnhost resume`; nothing new is begun, and records keep their place.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fnhost pause payment --reason maintenance
  fnhost pause payment --partition order-events/1
  fnhost pause order:events                                 # the relay of a component's events")]
pub struct PauseArgs {
    #[command(flatten)]
    target: Target,
    /// Why: `fnhost lag`, the log and the metrics' state say it
    #[arg(long, value_name = "TEXT", default_value = "paused by an operator")]
    reason: String,
}

/// Resumes what was paused.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  fnhost resume payment")]
pub struct ResumeArgs {
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
struct Target {
    #[command(flatten)]
    app: Application,
    /// Trigger id, as `fnhost lag` shows it
    trigger: String,
    /// This partition only
    #[arg(long, value_name = "TOPIC/N", value_parser = topic_partition)]
    partition: Option<TopicPartition>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Pauses.
pub async fn pause(args: PauseArgs) -> anyhow::Result<()> {
    change(&args.target, Some(&args.reason)).await
}

/// Resumes.
pub async fn resume(args: ResumeArgs) -> anyhow::Result<()> {
    change(&args.target, None).await
}

async fn change(target: &Target, reason: Option<&str>) -> anyhow::Result<()> {
    let Target { app, trigger, partition, output } = target;
    let beside = Beside::attach(app).await?;
    let (owner, name) = (&beside.owner, &beside.manifest.application.name);
    let what = partition.as_ref().map_or_else(|| trigger.clone(), |tp| format!("{tp} of {trigger}"));
    let details = json!({ "trigger": trigger, "partition": partition.as_ref().map(ToString::to_string), "reason": reason });
    let command = if reason.is_some() { "pause" } else { "resume" };
    let changed = recorded(owner, name, command, details, async {
        let found = match reason {
            Some(reason) => positions::pause(owner, name, trigger, partition.as_ref(), reason).await?,
            None => positions::resume(owner, name, trigger, partition.as_ref()).await?,
        };
        anyhow::ensure!(
            found,
            "there is no {what}, or its whole trigger is paused; `fnhost lag` shows triggers and partitions with what is paused"
        );
        Ok(())
    });
    changed.await?;
    let done = if reason.is_some() { "paused" } else { "resumed" };
    match output {
        Format::Human => println!("{what} is {done}"),
        Format::Json => println!("{}", json!({ done: what })),
    }
    Ok(())
}
