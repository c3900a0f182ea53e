//! Batches and replies between [`crate::kafka`] and the component's `fnhost:kafka/handler` export.

use crate::kafka::{Batch, Emit, Failure, Header, Message, Outcome, Payload, Reply, SCHEDULE_TOPIC};

/// What `wit/kafka.wit` generates: the contract between function and host.
#[allow(missing_docs, unsafe_code, clippy::all, reason = "generated")]
pub mod bindings {
    spin_sdk::wit_bindgen::generate!({
        path: "wit",
        world: "kafka-function",
        runtime_path: "spin_sdk::wit_bindgen::rt",
        pub_export_macro: true,
        generate_all,
    });
}

pub use bindings::exports::fnhost::kafka::handler;
use bindings::fnhost::kafka::types;

/// The batch as the function sees it.
#[must_use]
pub fn read<P: Payload>(batch: handler::Batch) -> Batch<P> {
    let messages = batch.messages.into_iter().map(message).collect();
    if batch.topic == SCHEDULE_TOPIC { Batch::of_ticks(messages) } else { Batch::decode(messages) }
}

/// The reply as the host sees it.
///
/// # Errors
/// Never; the type is the export's.
pub fn write(reply: Reply) -> Result<handler::Reply, handler::Error> {
    let outcomes = reply.outcomes.into_iter().map(outcome).collect();
    let emits = reply.emits.into_iter().map(emit).collect();
    Ok(handler::Reply { outcomes, emits })
}

/// The failure as the host sees it.
///
/// # Errors
/// Always.
pub fn fail(failure: Failure) -> Result<handler::Reply, handler::Error> {
    Err(handler::Error { reason: failure.reason, message: failure.message })
}

fn message(message: types::Message) -> Message {
    let types::Message { key, value, headers, attempt, last_attempt, .. } = message;
    let headers = headers.into_iter().map(|types::Header { name, value }| Header { name, value }).collect();
    Message { key, value, headers, attempt, last_attempt }
}

fn outcome(outcome: Outcome) -> types::Outcome {
    match outcome {
        Outcome::Done => types::Outcome::Done,
        Outcome::Retry(reason) => types::Outcome::Retry(reason),
        Outcome::Reject(reason) => types::Outcome::Reject(reason),
    }
}

fn emit(emit: Emit) -> types::Emit {
    let headers =
        emit.headers.into_iter().map(|Header { name, value }| types::Header { name, value }).collect();
    let Emit { cause, topic, key, value, .. } = emit;
    types::Emit { cause, topic: topic.into_owned(), key: Some(key), value: Some(value), headers }
}
