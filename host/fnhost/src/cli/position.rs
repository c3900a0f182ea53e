//! `fnhost position`: the way out where a partition stopped because its stored position does not fit the log.

use super::setup::Beside;
use super::{Application, Format, KafkaArgs};
use anyhow::Context as _;
use clap::Args;
use fnhost_db::views;
use fnhost_kafka::access::Access;
use fnhost_kafka::cluster::Cluster;
use fnhost_manifest::Start;
use fnhost_types::record::TopicPartition;
use serde_json::json;

/// Sets a trigger's position in a partition. A running owner notices before it stores anything.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  fnhost position --trigger order --partition inventory-events/0 --to earliest")]
pub struct PositionArgs {
    #[command(flatten)]
    app: Application,
    #[command(flatten)]
    kafka: KafkaArgs,
    /// Trigger id
    #[arg(long, value_name = "ID")]
    trigger: String,
    /// Topic and partition
    #[arg(long, value_name = "TOPIC/N")]
    partition: String,
    /// An offset, earliest, latest, or an RFC 3339 time
    #[arg(long, value_name = "WHERE")]
    to: String,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Moves the position and says from where.
pub async fn run(args: PositionArgs) -> anyhow::Result<()> {
    let (topic, number) = args
        .partition
        .rsplit_once('/')
        .context("--partition takes TOPIC/NUMBER, for example order-events/0")?;
    let tp = TopicPartition::new(
        topic,
        number.parse().context("--partition takes TOPIC/NUMBER, for example order-events/0")?,
    );
    let beside = Beside::attach(&args.app).await?;
    let moved = move_position(&args, &beside, &tp).await;
    beside.owner.close().await;
    moved
}

async fn move_position(args: &PositionArgs, beside: &Beside, tp: &TopicPartition) -> anyhow::Result<()> {
    let given = args.kafka.addresses.as_ref().or(beside.kafka.as_ref());
    let brokers = given.context("pass --kafka (FNHOST_KAFKA)")?;
    let cluster = Cluster::connect(&Access::new(brokers, args.kafka.properties()?)).await?;
    // Before its log is looked at: should the topic be made anew in between, the owner finds another id and stops.
    let topic_id = cluster.topic_id(&tp.topic).await?;
    let position = match args.to.parse::<i64>() {
        Ok(offset) => offset,
        Err(_) => cluster.resolve_start(tp, args.to.parse::<Start>().map_err(anyhow::Error::msg)?).await?,
    };
    let bounds = cluster.log_bounds(tp).await?;
    anyhow::ensure!(
        (bounds.start..=bounds.end).contains(&position),
        "offset {position} is outside {tp}, which has offsets {} to {}",
        bounds.start,
        bounds.end
    );
    let former = views::set_position(
        &beside.owner,
        &beside.manifest.application.name,
        &args.trigger,
        tp,
        position,
        topic_id,
    )
    .await?
    .with_context(|| format!("trigger {} has no stored position for {tp}", args.trigger))?;
    match args.output {
        Format::Human => println!("{tp}: position {former} -> {position}"),
        Format::Json => println!(
            "{}",
            json!({"topic": tp.topic, "partition": tp.partition, "former": former, "position": position})
        ),
    }
    Ok(())
}
