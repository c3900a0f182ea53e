//! `fnhost ps`: all hosts of a deployment, asked at any of them.

use super::Format;
use super::remote::Remote;
use clap::Args;
use fnhost_engine::short_digest;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Shows the hosts of the deployment: addresses, components with their digests, partitions.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fnhost ps
  fnhost ps --output json --admin 127.0.0.1:3001")]
pub struct PsArgs {
    #[command(flatten)]
    remote: Remote,
    /// Output format; json is the answer of the admin address
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Deserialize)]
struct Deployment {
    deployment: String,
    revision: i64,
    components: BTreeMap<String, Component>,
    hosts: Vec<Host>,
}

#[derive(Deserialize)]
struct Component {
    version: i64,
    digest: String,
}

#[derive(Deserialize)]
struct Host {
    name: String,
    instance: String,
    state: String,
    http: Option<String>,
    admin: String,
    started_at: String,
    revision: i64,
    components: BTreeMap<String, String>,
    partitions: Vec<Partition>,
}

#[derive(Deserialize)]
struct Partition {
    topic: String,
    partition: i32,
}

/// Prints the deployment.
pub async fn run(args: PsArgs) -> anyhow::Result<()> {
    let answer: Value = args.remote.get("/deployment").await?;
    if args.output == Format::Json {
        println!("{answer}");
        return Ok(());
    }
    let view: Deployment = serde_json::from_value(answer)?;
    println!("deployment {} at revision {}", view.deployment, view.revision);
    for (id, component) in &view.components {
        println!("  {id:12} version {} ({})", component.version, short_digest(&component.digest));
    }
    println!(
        "{:16}  {:16}  {:5}  {:21}  {:21}  {:24}  {:>10}",
        "HOST", "INSTANCE", "STATE", "HTTP", "ADMIN", "STARTED", "PARTITIONS"
    );
    for host in &view.hosts {
        let started = host.started_at.get(..19).unwrap_or(&host.started_at);
        println!(
            "{:16}  {:16}  {:5}  {:21}  {:21}  {started:24}  {:>10}",
            host.name,
            host.instance,
            host.state,
            host.http.as_deref().unwrap_or("-"),
            host.admin,
            host.partitions.len()
        );
        let owned: Vec<String> =
            host.partitions.iter().map(|p| format!("{}/{}", p.topic, p.partition)).collect();
        if !owned.is_empty() {
            println!("    owns {}", owned.join(" "));
        }
        let differs = |(id, digest): &(&String, &String)| {
            view.components.get(*id).is_some_and(|c| c.digest != **digest)
        };
        for (id, digest) in host.components.iter().filter(differs) {
            println!(
                "    runs another {id}: {} (revision {} of {})",
                short_digest(digest),
                host.revision,
                view.revision
            );
        }
    }
    Ok(())
}
