//! The hops of the records of a batch: for each sampled one its handling, and within that the call. What the function emits
//! because of it follows from the call.
//!
//! A batch is handled as one, in one call; each sampled record still gets hops of its own, in its own trace, since a trace is
//! what became of one order and not of five hundred.

use super::export;
use super::span::{Hop, Kind, Span};
use fnhost_types::outbox::Outgoing;
use fnhost_types::trace_context::{Context, TRACEPARENT};
use fnhost_types::wit::{Emit, Header, Message};
use std::time::{Duration, SystemTime};

/// The hops of one call.
#[derive(Debug)]
pub struct Batch {
    from: SystemTime,
    records: usize,
    /// Of the sampled records alone: empty, and not allocated, where there is none.
    sampled: Vec<Sampled>,
}

/// A sampled record.
#[derive(Debug)]
struct Sampled {
    /// Its place in the call.
    index: usize,
    offset: i64,
    attempt: u32,
    key: Option<String>,
    handling: Hop,
    call: Hop,
}

/// Where a batch comes from and who handles it.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// Trigger or schedule.
    pub trigger: &'a str,
    /// Topic and partition of the records; none of ticks.
    pub from: Option<(&'a str, i32)>,
    /// Consumer group; empty where there is none.
    pub group: &'a str,
    /// Short digest of the version that is called.
    pub version: &'a str,
}

impl Batch {
    /// Begins the hops of a call with these messages; the function sees the call's hop in the header `traceparent`.
    pub fn begin(messages: &mut [Message]) -> Self {
        let mut begun = Self { from: SystemTime::now(), records: messages.len(), sampled: Vec::new() };
        if !export::is_on() {
            return begun;
        }
        for (index, message) in messages.iter_mut().enumerate() {
            let header = message.headers.iter_mut().find(|header| header.name == TRACEPARENT);
            if header.as_ref().is_some_and(|header| !Context::may_be_sampled(&header.value)) {
                continue;
            }
            let parent = header.as_ref().and_then(|header| Context::parse(&header.value));
            let handling = match parent {
                Some(parent) => Hop::after(parent),
                None if export::samples() => Hop::first(Context::begin(true)),
                None => None,
            };
            let Some(handling) = handling else { continue };
            let call = handling.next();
            match header {
                Some(header) => call.context().write_over(&mut header.value),
                None => message.headers.push(traceparent(call.context())),
            }
            begun.sampled.push(Sampled {
                index,
                offset: message.offset,
                attempt: message.attempt,
                key: message.key.clone().and_then(|key| String::from_utf8(key).ok()),
                handling,
                call,
            });
        }
        begun
    }

    /// The call is over: it took so long in its parts (wait, instantiate, guest, SQL), or failed.
    pub fn called(&self, about: About<'_>, outcome: Result<[Duration; 4], &str>) {
        for sampled in &self.sampled {
            let span = Span::new(Kind::Internal, format!("call {}", about.trigger), self.from)
                .text("fnhost.trigger", about.trigger)
                .text("fnhost.version", about.version);
            sampled.call.ended(match outcome {
                Ok(phases) => with_phases(span, phases),
                Err(reason) => span.failed(Some(reason.to_owned())),
            });
        }
    }

    /// Gives each emit its own hop: after the one that its function put on it, else after the call of the record that caused it.
    pub fn emits(&self, emits: &mut [Emit]) -> Sends {
        let mut sends = Sends::default();
        for (index, emit) in emits.iter_mut().enumerate() {
            let given = emit.headers.iter_mut().find(|header| header.name == TRACEPARENT);
            match given {
                Some(header) => sends.follow(index, &mut header.value),
                None if self.sampled.is_empty() => {}
                None => {
                    let cause = self.sampled.iter().find(|sampled| sampled.index == emit.cause as usize);
                    if let Some(cause) = cause {
                        let send = cause.call.next();
                        emit.headers.push(traceparent(send.context()));
                        sends.hops.push((index, send));
                    }
                }
            }
        }
        sends
    }

    /// The records are settled; `outcome` says of one by its place in the call what became of it, and why where it is not done.
    pub fn settled<'a>(self, about: About<'_>, outcome: impl Fn(usize) -> (&'static str, Option<&'a str>)) {
        for sampled in self.sampled {
            let (word, reason) = outcome(sampled.index);
            let (kind, name) = match about.from {
                Some((topic, _)) => (Kind::Consumer, format!("process {topic}")),
                None => (Kind::Internal, format!("schedule {}", about.trigger)),
            };
            let mut span = Span::new(kind, name, self.from)
                .text("fnhost.trigger", about.trigger)
                .text("fnhost.version", about.version)
                .text("fnhost.outcome", word)
                .number("fnhost.attempt", sampled.attempt.into())
                .failed(reason.map(str::to_owned));
            if let Some((topic, partition)) = about.from {
                span = of_topic(span, "process", topic, partition)
                    .text("messaging.consumer.group.name", about.group)
                    .number("messaging.kafka.offset", sampled.offset)
                    .number("messaging.batch.message_count", i64::try_from(self.records).unwrap_or(i64::MAX));
            }
            if let Some(key) = sampled.key {
                span = span.text("messaging.kafka.message.key", key);
            }
            sampled.handling.ended(span);
        }
    }
}

/// The hops of messages that are about to be committed and sent.
#[derive(Debug, Default)]
pub struct Sends {
    /// By the message's place; of those that are recorded alone.
    hops: Vec<(usize, Hop)>,
}

impl Sends {
    /// Gives the message at `index` the hop after the one in its header.
    pub fn follow(&mut self, index: usize, traceparent: &mut Vec<u8>) {
        let Some(parent) = Context::parse(traceparent) else { return };
        match Hop::after(parent) {
            Some(send) => {
                send.context().write_over(traceparent);
                self.hops.push((index, send));
            }
            // Nobody records it here; who does elsewhere is told of a hop all the same.
            None => parent.next().write_over(traceparent),
        }
    }

    /// The messages, whose first number is `first_seq`, were committed then and are with the producer now.
    pub fn sent(self, committed: SystemTime, first_seq: i64, messages: &[Outgoing<'_>]) {
        for (index, send) in self.hops {
            let Some(message) = messages.get(index) else { continue };
            let span = Span::new(Kind::Producer, format!("send {}", message.topic), committed);
            let mut span = of_topic(span, "send", message.topic, message.partition)
                .number("fnhost.seq", first_seq + i64::try_from(index).unwrap_or_default());
            if let Some(key) = message.key.and_then(|key| std::str::from_utf8(key).ok()) {
                span = span.text("messaging.kafka.message.key", key);
            }
            send.ended(span);
        }
    }
}

/// The parts of a call: wait (for an instance), instantiate, guest (outside of SQL), SQL.
pub fn with_phases(span: Span, [wait, instantiate, guest, sql]: [Duration; 4]) -> Span {
    span.seconds("fnhost.wait_seconds", wait)
        .seconds("fnhost.instantiate_seconds", instantiate)
        .seconds("fnhost.guest_seconds", guest)
        .seconds("fnhost.sql_seconds", sql)
}

fn of_topic(span: Span, operation: &str, topic: &str, partition: i32) -> Span {
    span.text("messaging.system", "kafka")
        .text("messaging.operation.name", operation)
        .text("messaging.operation.type", operation)
        .text("messaging.destination.name", topic)
        .text("messaging.destination.partition.id", partition.to_string())
}

fn traceparent(context: Context) -> Header {
    Header { name: TRACEPARENT.to_owned(), value: context.to_string().into_bytes() }
}
