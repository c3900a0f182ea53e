//! `fnhost replay`: runs a range of a log again, on purpose.

use super::Format;
use super::audit::recorded;
use super::change::Change;
use super::operate::{self, OperatorArgs};
use super::progress;
use clap::Args;
use fnhost_dispatch::operator::{Operator, Part, Place, Replay, topic_partition};
use fnhost_types::record::TopicPartition;
use serde_json::json;

/// Runs a trigger's records of a range again, beside what goes on: after an error in a function was mended, for example.
///
/// The records are put before their own trigger alone, in their order, behind what waits of their keys; each has its effects once more, and
/// what the function emits is sent only with --emit. Records that are not settled yet are left out, since they come anyway.
// The manifest's other name is that of the first record here.
#[derive(Args, Debug)]
#[command(mut_arg("manifest", |manifest| manifest.long("manifest")))]
#[command(after_help = "Examples:
  fnhost replay --trigger notify --from 2026-01-31T08:00:00Z --to 2026-01-31T09:00:00Z --dry-run
  fnhost replay --trigger notify --partition order-events/0 --from 120 --to 140 --yes

Ctrl-C stops it between two parts, and it says how to go on.")]
pub struct ReplayArgs {
    #[command(flatten)]
    operator: OperatorArgs,
    /// Trigger id
    #[arg(long, value_name = "ID")]
    trigger: String,
    /// This partition only; needed where an offset is given
    #[arg(long, value_name = "TOPIC/N", value_parser = topic_partition)]
    partition: Option<TopicPartition>,
    /// The first record: an offset, earliest, or an RFC 3339 time
    #[arg(long, value_name = "WHERE")]
    from: Place,
    /// The record that ends it, which is not run; without it everything that is settled is run
    #[arg(long, value_name = "WHERE")]
    to: Option<Place>,
    /// Send what the function emits, once more
    #[arg(long)]
    emit: bool,
    #[command(flatten)]
    change: Change,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Runs the range.
pub async fn run(args: ReplayArgs) -> anyhow::Result<()> {
    let operator = args.operator.connect().await?;
    let replay = Replay { trigger: args.trigger.clone(), from: args.from, to: args.to, emit: args.emit };
    let mut parts = operator.plan_replay(&replay, args.partition.as_ref()).await.map_err(operate::said)?;
    let offsets: i64 = parts.iter().map(|part| part.end - part.next).sum();
    if !args.change.dry_run {
        let sent = if args.emit { "; what it emits is sent" } else { "; what it emits is not sent" };
        args.change.confirm(&format!("run {offsets} offsets of {} again{sent}", args.trigger))?;
        let put = progress::live("putting records before the trigger", put(&operator, &replay, &mut parts));
        let ended = async {
            tokio::select! {
                ended = put => ended,
                _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("stopped")),
            }
        };
        let details = json!({
            "trigger": args.trigger, "partition": args.partition.as_ref().map(ToString::to_string), "emit": args.emit,
            "from": format!("{:?}", args.from), "to": args.to.as_ref().map(|to| format!("{to:?}")),
        });
        if let Err(error) = recorded(&operator.owner, &operator.deployment, "replay", details, ended).await {
            for part in parts.iter().filter(|part| !part.is_done()) {
                let Part { topic, partition, next, end, .. } = part;
                let emit = if args.emit { " --emit" } else { "" };
                eprintln!(
                    "to go on: fnhost replay --trigger {} --partition {topic}/{partition} --from {next} --to {end}{emit}",
                    args.trigger
                );
            }
            return Err(error);
        }
    }
    match args.output {
        Format::Json => println!("{}", serde_json::to_string(&parts)?),
        Format::Human => parts.iter().for_each(|part| {
            let Part { topic, partition, next, end, records, .. } = part;
            if args.change.dry_run {
                println!("{topic}/{partition}: offsets {next} to {end} would run again");
            } else {
                println!("{topic}/{partition}: {records} records are before the trigger again");
            }
        }),
    }
    Ok(())
}

async fn put(operator: &Operator, replay: &Replay, parts: &mut [Part]) -> anyhow::Result<()> {
    for part in parts {
        while !part.is_done() {
            operator.replay_next(replay, part).await?;
        }
    }
    Ok(())
}
