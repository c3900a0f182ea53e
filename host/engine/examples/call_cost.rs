//! Prints what a call costs: instantiate, call and lift the reply of a no-op batch, limits and epoch on.
//!
//! `cargo run --release -p fnhost-engine --example call_cost -- COMPONENT.wasm`; the component answers a message
//! without a value with `done`.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use fnhost_engine::kafka::{Batch, Message};
use fnhost_engine::{ComponentSpec, Engine, EngineOptions, LoadedComponent};

/// Calls that are timed for each size of a batch.
const CALLS: usize = 3000;
/// Bytes of each message's value.
const VALUE_BYTES: usize = 300;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let source = std::env::args_os().nth(1).context("usage: call_cost COMPONENT.wasm")?;
    let engine = Engine::new(EngineOptions::default())?;
    let spec = ComponentSpec { kafka: true, ..ComponentSpec::new("noop", source) };
    let component = engine.load(&spec)?;
    println!("batch  p50 us  p99 us");
    for messages in [1, 100, 500] {
        let mut took = measure(&component, messages).await?;
        took.sort();
        let us = |part: usize| took[CALLS * part / 100].as_secs_f64() * 1e6;
        println!("{messages:5}  {:6.1}  {:6.1}", us(50), us(99));
    }
    Ok(())
}

async fn measure(component: &LoadedComponent, messages: usize) -> anyhow::Result<Vec<Duration>> {
    let mut took = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let message = |index: usize| Message {
            offset: index as i64,
            timestamp_ms: 0,
            key: Some(vec![1; 36]),
            value: Some(vec![b'x'; VALUE_BYTES]),
            headers: Vec::new(),
            attempt: 1,
            last_attempt: false,
        };
        let batch =
            Batch { topic: "noop".to_owned(), partition: 0, messages: (0..messages).map(message).collect() };
        let started = Instant::now();
        let (outcome, _) = component.call_kafka(component.call_state(), batch).await;
        took.push(started.elapsed());
        outcome?.map_err(|error| anyhow::anyhow!(error.reason))?;
    }
    Ok(took)
}
