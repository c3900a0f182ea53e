//! `fnhost outbox`: streams that wait because Kafka refuses their oldest message, and what can be done about it.

use super::audit::recorded;
use super::progress::live;
use super::setup::Beside;
use super::{Application, Format};
use anyhow::Context as _;
use clap::{Args, Subcommand};
use fnhost_db::refused::{self, RefusedView};
use fnhost_types::record::TopicPartition;
use serde_json::json;
use std::time::Duration;

/// How long `to-dead` waits for the stream's owner.
const BURIED_TIMEOUT: Duration = Duration::from_secs(15);
/// Between two looks whether it has done it.
const BURIED_INTERVAL: Duration = Duration::from_millis(100);

/// Shows messages that Kafka refuses, has them tried again, or gives them up.
///
/// A refused message blocks its own stream alone, and is tried again all the time: it goes through once the topic's limit is raised, the
/// ACL is back, or the topic exists again.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fnhost outbox list                                      # which streams wait, for which message, and why
  fnhost outbox retry shop/inventory/order-events/0       # try again now
  fnhost outbox to-dead shop/inventory/order-events/0     # make the refused message a dead letter and go on behind it")]
pub struct OutboxArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List the streams that wait
    List {
        #[command(flatten)]
        app: Application,
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        output: Format,
    },
    /// Try a stream's refused message again now
    Retry(StreamArgs),
    /// Make a stream's refused message a dead letter and go on behind it
    ToDead(StreamArgs),
}

#[derive(Args, Debug)]
struct StreamArgs {
    #[command(flatten)]
    app: Application,
    /// Name of the stream, as `fnhost outbox list` shows it
    stream: String,
}

/// Runs the action.
pub async fn run(args: OutboxArgs) -> anyhow::Result<()> {
    match args.action {
        Action::List { app, output } => {
            let beside = Beside::attach(&app).await?;
            print(&refused::list(&beside.owner, &beside.manifest.application.name).await?, output)
        }
        Action::Retry(args) => {
            let (beside, waits) = find(&args).await?;
            let deployment = &beside.manifest.application.name;
            let details = json!({ "stream": args.stream, "seq": waits.seq });
            let changed = recorded(&beside.owner, deployment, "outbox retry", details, async {
                let tried =
                    refused::retry(&beside.owner, deployment, &waits.trigger, &partition(&waits)).await?;
                anyhow::ensure!(tried, "stream {} does not wait any more", args.stream);
                Ok(())
            });
            changed.await?;
            println!("{}: message {} is tried again", args.stream, waits.seq);
            Ok(())
        }
        Action::ToDead(args) => {
            let (beside, waits) = find(&args).await?;
            let deployment = &beside.manifest.application.name;
            let details = json!({ "stream": args.stream, "seq": waits.seq });
            let given_up = recorded(&beside.owner, deployment, "outbox to-dead", details, async {
                let given_up =
                    refused::give_up(&beside.owner, deployment, &waits.trigger, &partition(&waits)).await?;
                given_up.with_context(|| format!("stream {} does not wait any more", args.stream))
            });
            let seq = given_up.await?;
            let buried = live("waiting for the stream's owner", buried(&beside, &args.stream, seq));
            match tokio::time::timeout(BURIED_TIMEOUT, buried).await {
                Ok(buried) => {
                    buried?;
                    println!("{}: message {seq} is a dead letter; what is behind it goes on", args.stream);
                }
                Err(_) => println!(
                    "{}: message {seq} is given up; the next host that owns the stream makes a dead letter of it",
                    args.stream
                ),
            }
            Ok(())
        }
    }
}

/// Waits until the stream does not wait for that message any more.
async fn buried(beside: &Beside, stream: &str, seq: i64) -> anyhow::Result<()> {
    loop {
        let waiting = refused::list(&beside.owner, &beside.manifest.application.name).await?;
        if !waiting.iter().any(|waits| waits.stream == stream && waits.seq == seq) {
            return Ok(());
        }
        tokio::time::sleep(BURIED_INTERVAL).await;
    }
}

async fn find(args: &StreamArgs) -> anyhow::Result<(Beside, RefusedView)> {
    let beside = Beside::attach(&args.app).await?;
    let waiting = refused::list(&beside.owner, &beside.manifest.application.name).await?;
    let found = waiting.into_iter().find(|waits| waits.stream == args.stream);
    let found = found.with_context(|| {
        format!(
            "no stream {} waits for a refused message; `fnhost outbox list` shows those that do",
            args.stream
        )
    })?;
    Ok((beside, found))
}

fn partition(waits: &RefusedView) -> TopicPartition {
    TopicPartition::new(&waits.topic, waits.partition)
}

fn print(waiting: &[RefusedView], output: Format) -> anyhow::Result<()> {
    if output == Format::Json {
        println!("{}", serde_json::to_string_pretty(waiting)?);
        return Ok(());
    }
    if waiting.is_empty() {
        println!("no stream waits: Kafka refuses no message");
    }
    for waits in waiting {
        let RefusedView { stream, seq, target_topic, target_partition, reason, since, tries, rows, .. } =
            waits;
        println!(
            "{stream}: message {seq} for {target_topic}/{target_partition}, since {since}, tried {tries} times"
        );
        println!("  {reason}");
        println!("  {rows} outbox rows wait");
    }
    Ok(())
}
