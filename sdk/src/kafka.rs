//! A batch of Kafka records as a function handles it: typed events in, an outcome per record and events out.
//!
//! Nothing here knows WIT or a host. `wasm::kafka` converts from and to the component's bindings; a native program
//! builds a [`Batch`] with [`Batch::decode`] and reads the [`Reply`].
//!
//! What a record holds is a [`Payload`]: [`Json`] or [`Text`] for topics without a convention, the
//! [events](crate::event::CloudEvent) of an application, or a type of the function's own.

use crate::event::{self, CloudEvent};
use crate::trace_context::{self, TRACEPARENT};
use crate::{nul_check, time};
use serde::de::DeserializeOwned;
use std::borrow::Cow;

pub(crate) const CE_ID: &str = "ce_id";
pub(crate) const CE_TYPE: &str = "ce_type";

/// The topic under which the host hands out the ticks of schedules. No Kafka topic has this name: the manifest refuses it.
pub const SCHEDULE_TOPIC: &str = "fnhost.schedule";

/// A Kafka header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Case-sensitive, may repeat.
    pub name: String,
    /// Any bytes; those of CloudEvents are UTF-8.
    pub value: Vec<u8>,
}

/// A record as it came from Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "Kafka's own terms")]
pub struct Message {
    pub key: Option<Vec<u8>>,
    /// Absent for a tombstone.
    pub value: Option<Vec<u8>>,
    pub headers: Vec<Header>,
    /// 1 for the first time.
    pub attempt: u32,
    /// A retry or failure now makes it a dead letter.
    pub last_attempt: bool,
}

/// What a record's key, value and headers are read as.
pub trait Payload: Sized {
    /// Reads a record.
    ///
    /// # Errors
    /// It is none of this kind; the text is the dead letter's reason.
    fn read(message: &Message) -> Result<Self, String>;
}

/// A value that is JSON. Unknown fields are `T`'s own matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json<T> {
    /// The record's key, where it has one that is text.
    pub key: Option<String>,
    /// Its value.
    pub value: T,
}

/// A value that is text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The record's key, where it has one that is text.
    pub key: Option<String>,
    /// Its value.
    pub value: String,
}

/// A record that was decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<P> {
    /// Its place in the batch, which outcomes and emits refer to.
    pub index: u32,
    /// What happened.
    pub event: P,
    /// The CloudEvents id, where the producer gave one: the same for every copy of the event. One that is no text is escaped, as
    /// in `\xff`.
    pub event_id: Option<String>,
    /// W3C trace context, passed on to what is emitted; none where the header is none.
    pub traceparent: Option<String>,
    /// 1 for the first time this record is handed out.
    pub attempt: u32,
    /// The function's last chance to end its part properly.
    pub last_attempt: bool,
}

/// The time of a schedule that the manifest declares has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Its place in the batch, which outcomes and emits refer to.
    pub index: u32,
    /// The schedule's id.
    pub schedule: String,
    /// When it was due, RFC 3339. Those that were missed before it do not come.
    pub due: String,
}

/// What an emitted event follows from.
pub trait Cause {
    /// Its place in the batch.
    fn index(&self) -> u32;

    /// W3C trace context to pass on.
    fn traceparent(&self) -> Option<&str> {
        None
    }
}

impl<P> Cause for Record<P> {
    fn index(&self) -> u32 {
        self.index
    }

    fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }
}

impl Cause for Tick {
    fn index(&self) -> u32 {
        self.index
    }
}

/// Records of one partition, in its order; or ticks of a schedule, and then no record.
#[derive(Debug)]
pub struct Batch<P> {
    /// Those that are events. The others are already rejected in `reply`.
    pub records: Vec<Record<P>>,
    /// Only a component that declares schedules gets any.
    pub ticks: Vec<Tick>,
    /// What the handler returns, filled in on the way: a decoded record is done unless it says otherwise.
    pub reply: Reply,
}

/// What became of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its effects are in the transaction.
    Done,
    /// Not now; it has written nothing. The reason is for the log.
    Retry(String),
    /// Never: a dead letter with this reason.
    Reject(String),
}

/// An event to send once the batch is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emit {
    /// The index of the record that caused it.
    pub cause: u32,
    /// One of the topics that the trigger lists in `emits`.
    pub topic: Cow<'static, str>,
    /// What has the same key shares a partition.
    pub key: Vec<u8>,
    /// JSON, for events.
    pub value: Vec<u8>,
    /// CloudEvents attributes, for events.
    pub headers: Vec<Header>,
}

/// The answer to a batch.
#[derive(Debug)]
pub struct Reply {
    /// One for each message of the batch, in its order.
    pub outcomes: Vec<Outcome>,
    /// In the order in which they are to be sent.
    pub emits: Vec<Emit>,
    stamp: Option<Stamp>,
}

/// What the events of one reply share.
#[derive(Debug)]
struct Stamp {
    ids: time::Ids,
    time: String,
}

/// The batch as a whole failed; everything it wrote is rolled back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For the log and the dead letter.
    pub reason: String,
    /// The record at fault, where the function knows it.
    pub message: Option<u32>,
}

impl From<String> for Failure {
    /// Whichever record is at fault, if one is.
    fn from(reason: String) -> Self {
        Self { reason, message: None }
    }
}

impl From<crate::sql::SqlError> for Failure {
    fn from(error: crate::sql::SqlError) -> Self {
        error.to_string().into()
    }
}

impl<P: Payload> Batch<P> {
    /// Decodes a batch; what is no event is rejected with its reason.
    #[must_use]
    pub fn decode(messages: Vec<Message>) -> Self {
        let mut records = Vec::with_capacity(messages.len());
        let mut outcomes = Vec::with_capacity(messages.len());
        for (index, message) in (0..).zip(messages) {
            match decode(index, message) {
                Ok(record) => {
                    records.push(record);
                    outcomes.push(Outcome::Done);
                }
                Err(reason) => outcomes.push(Outcome::Reject(reason)),
            }
        }
        Self { records, ticks: Vec::new(), reply: Reply { outcomes, emits: Vec::new(), stamp: None } }
    }

    /// The ticks of a schedule: the key is its id, the value the time; what is none is rejected.
    #[must_use]
    pub fn of_ticks(messages: Vec<Message>) -> Self {
        let mut ticks = Vec::with_capacity(messages.len());
        let mut outcomes = Vec::with_capacity(messages.len());
        for (index, message) in (0..).zip(messages) {
            let text = |bytes: Option<Vec<u8>>| bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            match (text(message.key), text(message.value)) {
                (Some(schedule), Some(due)) => {
                    ticks.push(Tick { index, schedule, due });
                    outcomes.push(Outcome::Done);
                }
                _ => outcomes.push(Outcome::Reject("a tick has a schedule and a time".to_owned())),
            }
        }
        Self { records: Vec::new(), ticks, reply: Reply { outcomes, emits: Vec::new(), stamp: None } }
    }
}

impl Reply {
    /// This record is to be handed out again later. The function has written nothing for it and handles no later
    /// record of its key.
    pub fn retry(&mut self, record: &impl Cause, reason: impl Into<String>) {
        self.outcomes[record.index() as usize] = Outcome::Retry(reason.into());
    }

    /// This record becomes a dead letter. The function has written nothing for it.
    pub fn reject(&mut self, record: &impl Cause, reason: impl Into<String>) {
        self.outcomes[record.index() as usize] = Outcome::Reject(reason.into());
    }

    /// Sends `value` to `topic`, because of `cause`, which is done. It carries the cause's trace.
    pub fn send(
        &mut self,
        cause: &impl Cause,
        topic: impl Into<Cow<'static, str>>,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) {
        let trace = cause.traceparent().into_iter().map(|trace| (TRACEPARENT, trace.to_owned()));
        self.emits.push(Emit {
            cause: cause.index(),
            topic: topic.into(),
            key: key.into(),
            value: value.into(),
            headers: trace.map(header).collect(),
        });
    }

    /// Sends `event`, because of `cause`, which is done.
    pub fn emit(&mut self, cause: &impl Cause, event: &impl CloudEvent) {
        let stamp =
            self.stamp.get_or_insert_with(|| Stamp { ids: time::Ids::new(), time: time::now_rfc3339() });
        let id = stamp.ids.next().to_string();
        self.emits.push(Emit {
            cause: cause.index(),
            topic: event.topic().into(),
            key: event.key().into_bytes(),
            value: event.to_json(),
            headers: event::headers(event, id, stamp.time.clone(), cause.traceparent().map(str::to_owned))
                .map(header)
                .collect(),
        });
    }
}

fn header((name, value): (&str, String)) -> Header {
    Header { name: name.to_owned(), value: value.into_bytes() }
}

/// Decodes one message; the error is the dead letter's reason.
fn decode<P: Payload>(index: u32, message: Message) -> Result<Record<P>, String> {
    let event = P::read(&message)?;
    // A good event stays one, whatever these are: the id only has to be the same for every copy, and a trace that is none is ignored.
    let header = |name| message.headers.iter().find(|header| header.name == name);
    let event_id =
        header(CE_ID).map(|header| text(&header.value).map_or_else(|| escaped(&header.value), str::to_owned));
    let traceparent =
        header(TRACEPARENT).and_then(|header| trace_context::read(&header.value)).map(str::to_owned);
    let Message { attempt, last_attempt, .. } = message;
    Ok(Record { index, event, event_id, traceparent, attempt, last_attempt })
}

impl<T: DeserializeOwned> Payload for Json<T> {
    fn read(message: &Message) -> Result<Self, String> {
        let value = message.value.as_deref().ok_or("a tombstone has no JSON")?;
        let unfit = |error: String| format!("the value is not the JSON that is expected: {error}");
        let mut json = serde_json::Deserializer::from_slice(value);
        let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| unfit(error.to_string()))?;
        json.end().map_err(|error| unfit(error.to_string()))?;
        if let Some(path) = nul_check::find(value) {
            return Err(format!("{path} contains the character NUL, which no text column holds"));
        }
        Ok(Self { key: key_text(message), value: parsed })
    }
}

impl Payload for Text {
    fn read(message: &Message) -> Result<Self, String> {
        let value = message.value.as_deref().ok_or("a tombstone has no text")?;
        match std::str::from_utf8(value) {
            Ok(value) if !value.contains('\0') => {
                Ok(Self { key: key_text(message), value: value.to_owned() })
            }
            Ok(_) => Err("the value contains the character NUL, which no text column holds".to_owned()),
            Err(_) => Err("the value is no UTF-8".to_owned()),
        }
    }
}

fn key_text(message: &Message) -> Option<String> {
    text(message.key.as_deref()?).map(str::to_owned)
}

/// Bytes as a text that a column can hold.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

pub(crate) fn text_header<'a>(headers: &'a [Header], name: &str) -> Result<Option<&'a str>, String> {
    let Some(header) = headers.iter().find(|header| header.name == name) else {
        return Ok(None);
    };
    text(&header.value).map(Some).ok_or_else(|| format!("the header {name} is no text"))
}

#[cfg(test)]
#[path = "kafka_tests.rs"]
mod tests;
