//! Runs a component's Kafka handler on the lines of standard input, inside this program: no Kafka, no server, no manifest.
//!
//! `cargo run --release -p fnhost-engine --example embed -- COMPONENT.wasm [NAME=VALUE]... <LINES`
//!
//! `NAME=VALUE` are the component's variables. It may connect to any address; each of its SQL statements is a transaction
//! of its own.

use std::io::BufRead as _;

use anyhow::Context as _;
use fnhost_engine::kafka::{Batch, Message};
use fnhost_engine::{AllowedHosts, ComponentSpec, Engine, EngineOptions, Secret};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().context("usage: embed COMPONENT.wasm [NAME=VALUE]... <LINES")?;
    let mut spec = ComponentSpec::new("embedded", file);
    spec.kafka = true;
    spec.allowed_hosts = AllowedHosts::parse("", ["*://*:*"]).map_err(anyhow::Error::msg)?;
    for argument in arguments {
        let (name, value) = argument.split_once('=').context("a variable is NAME=VALUE")?;
        spec.variables.insert(name.to_owned(), Secret::new(value));
    }
    let engine = Engine::new(EngineOptions::default())?;
    let component = engine.load(&spec)?;

    let mut messages = Vec::new();
    for (line, offset) in std::io::stdin().lock().lines().zip(0..) {
        messages.push(Message {
            offset,
            timestamp_ms: -1,
            key: None,
            value: Some(line?.into_bytes()),
            headers: Vec::new(),
            attempt: 1,
            last_attempt: false,
        });
    }
    let batch = Batch { topic: "lines".to_owned(), partition: 0, messages };
    let (outcome, report) = component.call_kafka(component.call_state(), batch).await;
    let reply = outcome?.map_err(|error| anyhow::anyhow!(error.reason))?;
    for (offset, outcome) in reply.outcomes.iter().enumerate() {
        println!("{offset}: {outcome:?}");
    }
    for emit in reply.emits {
        let value = String::from_utf8_lossy(emit.value.as_deref().unwrap_or_default()).into_owned();
        println!("to {}, because of {}: {value}", emit.topic, emit.cause);
    }
    eprintln!("{} us, {} KiB at most", report.took.as_micros(), report.memory_peak_bytes / 1024);
    Ok(())
}
