//! A topic that is deleted and made anew, and the commands that say where its trigger goes on.

use super::world::World;
use crate::wait::{Look, until};
use anyhow::Context as _;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use std::time::Duration;

/// Partitions of every topic here.
const PARTITIONS: i32 = 3;
/// Time in which the brokers delete or make a topic, and in which its owners notice.
const DEADLINE: Duration = Duration::from_secs(30);
const STOPPED: &str = "SELECT count(*) FROM fnhost.partition WHERE stopped IS NOT NULL AND topic = $1";

/// Deletes the topic and makes it anew; waits until its partitions are stopped, and has them go on from its start.
///
/// # Errors
/// The brokers or a command failed, or the owners did not notice.
pub async fn make_anew(world: &World, topic: &str) -> anyhow::Result<String> {
    let admin: AdminClient<DefaultClientContext> = world.brokers.cluster().client().create()?;
    let options = AdminOptions::new().operation_timeout(Some(DEADLINE)).request_timeout(Some(DEADLINE));
    let deleted = admin.delete_topics(&[topic], &options).await?;
    deleted
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    until("the topic made anew", DEADLINE, async || {
        let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(-1));
        let made = admin.create_topics([&new], &options).await?;
        let made = made.into_iter().next().context("an answer")?;
        // The former one may not be gone yet.
        Ok(made.map_or_else(|(topic, code)| Look::NotYet(format!("{topic}: {code}")), Look::Found))
    })
    .await?;
    until("its partitions to stop", DEADLINE, async || {
        let stopped: i64 = sqlx::query_scalar(STOPPED).bind(topic).fetch_one(&world.db.pool).await?;
        Ok(Look::from_bool(stopped == i64::from(PARTITIONS), format!("{stopped} are stopped")))
    })
    .await?;
    let trigger = if topic == "ledger-events" { "receipts" } else { "notify" };
    for partition in 0..PARTITIONS {
        let partition = format!("{topic}/{partition}");
        let arguments = ["position", "--trigger", trigger, "--partition", &partition, "--to", "earliest"];
        let moved = world.hosts[0].lock().await.beside(&arguments).await?;
        anyhow::ensure!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    }
    Ok("made anew".to_owned())
}
