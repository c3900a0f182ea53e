//! The contract of a Kafka handler, `fnhost:kafka@0.1.0`, as Rust types: generated from `wit/kafka`, whose comments say
//! what each field holds.

#[allow(missing_docs, reason = "generated from the WIT, which documents them")]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/kafka",
        world: "kafka-function",
        exports: { default: async | store },
    });
}

pub use bindings::KafkaFunctionPre;
pub use bindings::exports::fnhost::kafka::handler::{Batch, Error as HandlerError, Reply};
pub use bindings::fnhost::kafka::types::{Emit, Header, Message, Outcome};
