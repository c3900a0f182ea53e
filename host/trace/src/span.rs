//! One hop of a trace that is recorded.

use super::export;
use fnhost_types::trace_context::Context;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span as Proto, Status, span::SpanKind, status::StatusCode};
use std::time::{SystemTime, UNIX_EPOCH};

/// What a span is to its neighbours, as OpenTelemetry has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Within the host.
    Internal,
    /// Answers a request.
    Server,
    /// Makes a request.
    Client,
    /// Sends a message.
    Producer,
    /// Handles a message.
    Consumer,
}

/// A hop that has begun and is recorded: its place, and the one before it. It becomes a span with [`Hop::ended`]; dropped
/// without that it never was.
#[derive(Clone, Copy, Debug)]
pub struct Hop {
    context: Context,
    /// 0 where the trace begins here.
    parent: u64,
}

impl Hop {
    /// The hop that follows `parent`; none where nobody records it.
    pub fn after(parent: Context) -> Option<Self> {
        (parent.is_sampled() && export::is_on())
            .then(|| Self { context: parent.next(), parent: parent.span() })
    }

    /// The first hop of a trace that `begun` begins; none where nobody records it.
    pub fn first(begun: Context) -> Option<Self> {
        (begun.is_sampled() && export::is_on()).then_some(Self { context: begun, parent: 0 })
    }

    /// The hop that follows this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self { context: self.context.next(), parent: self.context.span() }
    }

    /// Its place, for what follows.
    pub fn context(self) -> Context {
        self.context
    }

    /// The hop is over. Never waits: where the exporter is behind, the span is dropped and counted.
    pub fn ended(self, span: Span) {
        let parent = if self.parent == 0 { Vec::new() } else { self.parent.to_be_bytes().to_vec() };
        let kind = match span.kind {
            Kind::Internal => SpanKind::Internal,
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
            Kind::Producer => SpanKind::Producer,
            Kind::Consumer => SpanKind::Consumer,
        };
        export::offer(Proto {
            trace_id: self.context.trace_bytes(),
            span_id: self.context.span().to_be_bytes().to_vec(),
            parent_span_id: parent,
            flags: self.context.flags().into(),
            name: span.name,
            kind: kind.into(),
            start_time_unix_nano: nanoseconds(span.from),
            end_time_unix_nano: nanoseconds(SystemTime::now()),
            attributes: span.attributes,
            status: span.error.map(|message| Status { message, code: StatusCode::Error.into() }),
            ..Proto::default()
        });
    }
}

/// What is told of a hop.
#[derive(Clone, Debug)]
pub struct Span {
    kind: Kind,
    name: String,
    from: SystemTime,
    attributes: Vec<KeyValue>,
    error: Option<String>,
}

impl Span {
    /// Of that kind and name, which has few values, and since then.
    pub fn new(kind: Kind, name: String, from: SystemTime) -> Self {
        Self { kind, name, from, attributes: Vec::new(), error: None }
    }

    /// With an attribute that is text.
    #[must_use]
    pub fn text(self, name: &str, value: impl Into<String>) -> Self {
        self.with(name, Value::StringValue(value.into()))
    }

    /// With an attribute that is a whole number.
    #[must_use]
    pub fn number(self, name: &str, value: i64) -> Self {
        self.with(name, Value::IntValue(value))
    }

    /// With an attribute in seconds.
    #[must_use]
    pub fn seconds(self, name: &str, value: std::time::Duration) -> Self {
        self.with(name, Value::DoubleValue(value.as_secs_f64()))
    }

    /// Failed, and why.
    #[must_use]
    pub fn failed(self, reason: Option<String>) -> Self {
        Self { error: reason, ..self }
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.attributes.push(attribute(name, value));
        self
    }
}

/// An attribute as OTLP has it.
pub(super) fn attribute(name: &str, value: Value) -> KeyValue {
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
