//! `fnhost position`: where a trigger goes on, and the way out where a partition stopped because its position does not fit the log.

use super::audit::recorded;
use super::change::Change;
use super::operate::{self, OperatorArgs};
use super::{Format, lag};
use anyhow::Context as _;
use clap::Args;
use fnhost_dispatch::operator::{Moved, Place, topic_partition};
use fnhost_types::record::TopicPartition;
use serde_json::json;

/// Shows or sets a trigger's position. A running owner notices before it stores anything.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fnhost position --trigger order                                             # where it is, in each partition
  fnhost position --trigger order --partition inventory-events/0 --to earliest
  fnhost position --trigger order --all --to 2026-01-31T08:00:00Z --dry-run

Moving back handles records again whose effects stand. To run a range again beside what goes on: fnhost replay.")]
pub struct PositionArgs {
    #[command(flatten)]
    operator: OperatorArgs,
    /// Trigger id
    #[arg(long, value_name = "ID")]
    trigger: String,
    /// Topic and partition
    #[arg(long, value_name = "TOPIC/N", value_parser = topic_partition, conflicts_with = "all")]
    partition: Option<TopicPartition>,
    /// All partitions of the trigger
    #[arg(long, requires = "to")]
    all: bool,
    /// An offset, earliest, latest, or an RFC 3339 time; without it positions are shown
    #[arg(long, value_name = "WHERE")]
    to: Option<Place>,
    #[command(flatten)]
    change: Change,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Shows positions, or moves them and says from where.
pub async fn run(args: PositionArgs) -> anyhow::Result<()> {
    let operator = args.operator.connect().await?;
    let moved = async {
        let Some(place) = args.to else {
            let mut lags = operator.lag(Some(&args.trigger)).await.map_err(operate::said)?;
            lags.retain(|lag| {
                args.partition
                    .as_ref()
                    .is_none_or(|tp| (&lag.row.topic, lag.row.partition) == (&tp.topic, tp.partition))
            });
            return lag::print(&lags, args.output);
        };
        anyhow::ensure!(
            args.all || args.partition.is_some(),
            "say which partition to move: --partition TOPIC/NUMBER, or --all"
        );
        if args.all && !args.change.dry_run {
            args.change.confirm(&format!("move all positions of {}", args.trigger))?;
        }
        let only = args.partition.as_ref();
        let moved = async {
            let moved = operator.move_position(&args.trigger, only, place, args.change.dry_run).await;
            moved.context("cannot move the position")
        };
        if args.change.dry_run {
            return print(&moved.await?, &args);
        }
        let details = json!({
            "trigger": args.trigger, "partition": only.map(ToString::to_string), "all": args.all, "to": format!("{place:?}"),
        });
        print(&recorded(&operator.owner, &operator.deployment, "position", details, moved).await?, &args)
    };
    let moved = moved.await;
    operator.owner.close().await;
    moved
}

fn print(moved: &[Moved], args: &PositionArgs) -> anyhow::Result<()> {
    match (args.output, moved) {
        (Format::Human, moved) => {
            let would = if args.change.dry_run { " (not changed)" } else { "" };
            for Moved { topic, partition, former, position } in moved {
                println!("{topic}/{partition}: position {former} -> {position}{would}");
            }
        }
        (Format::Json, [one]) if !args.all => println!("{}", serde_json::to_string(one)?),
        (Format::Json, moved) => println!("{}", serde_json::to_string(moved)?),
    }
    Ok(())
}
