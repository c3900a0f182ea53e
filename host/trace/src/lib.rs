//! Traces: one from a request, or from a record that nobody traced before, through the outbox, Kafka and every dispatch.
//!
//! [`Context`] is W3C's `traceparent`, the header that carries a trace from hop to hop whether or not anybody records it.
//! Where the host was given a collector ([`export`]), the hops of sampled traces become spans: a [`Hop`] is one that has
//! begun, [`Span`] what is told of it when it ends, [`batch`] the hops of the records of a batch. What is not sampled costs a
//! look at the header and nothing more.

pub mod batch;
pub mod collector;
pub mod export;
mod origin;
mod span;

pub use fnhost_types::trace_context::{Context, TRACEPARENT, TraceId, trace_id};
pub use origin::{Cause, Origin};
pub use span::{Hop, Kind, Span};
