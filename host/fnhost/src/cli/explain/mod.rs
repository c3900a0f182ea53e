//! `fnhost explain`: the whole fate of a record, or of all records of a key.

mod fate;
mod gather;
mod print;

use super::setup::Beside;
use super::{Application, Format, KafkaArgs, Unsatisfied};
use clap::Args;
use fate::Fate;
use fnhost_db::stream_keys;
use fnhost_kafka::cluster::Cluster;
use fnhost_manifest::Start;
use fnhost_types::record::TopicPartition;
use fnhost_types::stream_keys::StreamKeys;
use gather::Reader;
use serde::Serialize;
use std::collections::BTreeMap;

/// Shows what happened to a record at every trigger of its topic, or to all records of a key over all topics of the manifest.
/// Changes nothing.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fnhost explain order-events/1/42                          # one record
  fnhost explain 0198c0de-0000-7000-8000-000000000000       # all records of a key, an order's id for example
  fnhost explain --since 2026-01-31T08:00:00Z KEY --output json

Exits with 3 if there is no such record, or one is a dead letter.")]
pub struct ExplainArgs {
    #[command(flatten)]
    app: Application,
    #[command(flatten)]
    kafka: KafkaArgs,
    /// A record's topic, partition and offset, or a key
    #[arg(value_name = "TOPIC/PARTITION/OFFSET | KEY")]
    what: String,
    /// Treat it as a key, even if it looks like TOPIC/PARTITION/OFFSET
    #[arg(long)]
    key: bool,
    /// Read a key's records from this RFC 3339 time on, or earliest; at most the newest 100000 of each partition
    #[arg(long, value_name = "TIME", default_value = "earliest", value_parser = parse_start)]
    since: Start,
    /// Search all partitions for the key: for producers that do not partition like Kafka's Java client
    #[arg(long)]
    all_partitions: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

fn parse_start(text: &str) -> Result<Start, String> {
    match text.parse() {
        Ok(Start::Latest) | Err(_) => Err("an RFC 3339 time like 2026-01-31T08:00:00Z, or earliest".into()),
        Ok(start) => Ok(start),
    }
}

/// A record and what became of it.
#[derive(Debug, Serialize)]
struct Explained {
    topic: String,
    partition: i32,
    offset: i64,
    /// Absent where the log does not have the record any more.
    record: Option<RecordView>,
    /// By trigger.
    fates: BTreeMap<String, Fate>,
}

/// What is shown of a record itself; its value is not, it may be nobody's business.
#[derive(Debug, Serialize)]
struct RecordView {
    /// RFC 3339; absent where Kafka has none.
    time: Option<String>,
    key: Option<String>,
    /// The CloudEvents type.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Bytes of key, value and headers.
    size: usize,
    stream: Option<String>,
    seq: Option<i64>,
    version: Option<String>,
    trace_id: Option<String>,
}

/// A message that is committed and may not be in Kafka yet.
#[derive(Debug, Serialize)]
struct Unsent {
    /// The stream that numbers it, or the component whose relay has still to take it.
    from: String,
    /// Its number; none before the relay has taken it.
    seq: Option<i64>,
    topic: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Milliseconds since it was committed, where it is known.
    age_ms: Option<i64>,
}

/// All that was found.
#[derive(Debug, Serialize)]
struct Story {
    records: Vec<Explained>,
    unsent: Vec<Unsent>,
    /// Partitions that were not read to their end.
    incomplete: Vec<String>,
}

/// Prints the fate.
pub async fn run(args: ExplainArgs) -> anyhow::Result<()> {
    let beside = Beside::attach(&args.app).await?;
    let explained = explain(&args, &beside).await;
    beside.owner.close().await;
    let story = explained?;
    match args.output {
        Format::Human if place(&args).is_some() => print::record(&story),
        Format::Human => print::story(&story),
        Format::Json => println!("{}", serde_json::to_string_pretty(&story)?),
    }
    if story.records.is_empty() && story.unsent.is_empty() {
        return Err(Unsatisfied(format!("no record has the key {}", args.what)).into());
    }
    let fates = story.records.iter().flat_map(|record| record.fates.values());
    match fates.filter(|fate| matches!(fate, Fate::Dead { .. })).count() {
        0 => Ok(()),
        1 => Err(Unsatisfied("one record is a dead letter".into()).into()),
        dead => Err(Unsatisfied(format!("{dead} records are dead letters")).into()),
    }
}

async fn explain(args: &ExplainArgs, beside: &Beside) -> anyhow::Result<Story> {
    let access = args.kafka.access_beside(beside.kafka.as_ref())?;
    let keys = StreamKeys::default();
    keys.replace(stream_keys::load(&beside.owner).await?);
    let access = access.with_keys(keys);
    let cluster = Cluster::connect(&access).await?;
    let reader = Reader { beside, access: &access, cluster: &cluster };
    match place(args) {
        Some((tp, offset)) => reader.record(&tp, offset).await,
        None => reader.key(&args.what, args.since, args.all_partitions).await,
    }
}

/// The partition and the offset, where it is not a key that is asked for.
fn place(args: &ExplainArgs) -> Option<(TopicPartition, i64)> {
    let (partition, offset) = args.what.rsplit_once('/').filter(|_| !args.key)?;
    let (topic, partition) = partition.rsplit_once('/')?;
    // No topic has a slash in its name.
    let is_topic = !topic.is_empty() && !topic.contains('/');
    let tp = TopicPartition::new(topic, partition.parse().ok().filter(|number| *number >= 0)?);
    Some((tp, offset.parse().ok().filter(|offset| *offset >= 0)?)).filter(|_| is_topic)
}
