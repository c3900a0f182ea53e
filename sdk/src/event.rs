//! Typed events: [CloudEvents](https://cloudevents.io) in Kafka's binary mode, with the attributes in headers and the payload as
//! JSON in the value.
//!
//! An application lists its events in a type of its own, mostly an enum, and implements [`CloudEvent`] for it. Then
//! [`kafka::Batch<E>`](crate::kafka::Batch) holds them, [`Reply::emit`](crate::kafka::Reply::emit) sends them with the commit of
//! a batch, and [`OutgoingEvents`](crate::outgoing::OutgoingEvents) from an HTTP handler.
//!
//! ```
//! use fnhost_sdk::event::{CloudEvent, DecodeError};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Visited {
//!     page: String,
//! }
//!
//! impl CloudEvent for Visited {
//!     const KEY: &'static str = "page";
//!
//!     fn event_type(&self) -> &'static str {
//!         "page.visited"
//!     }
//!
//!     fn topic(&self) -> &'static str {
//!         "visits"
//!     }
//!
//!     fn source(&self) -> &'static str {
//!         "/site"
//!     }
//!
//!     fn key(&self) -> String {
//!         self.page.clone()
//!     }
//!
//!     fn to_json(&self) -> Vec<u8> {
//!         serde_json::to_vec(self).unwrap_or_default()
//!     }
//!
//!     fn from_json(event_type: &str, payload: &[u8]) -> Result<Self, DecodeError> {
//!         match event_type {
//!             "page.visited" => serde_json::from_slice(payload).map_err(DecodeError::Payload),
//!             other => Err(DecodeError::UnknownType(other.to_owned())),
//!         }
//!     }
//! }
//!
//! let visited = Visited::from_json("page.visited", br#"{"page":"/start"}"#).unwrap();
//! assert_eq!(visited.key(), "/start");
//! ```

use crate::kafka::{CE_ID, CE_TYPE, Message, Payload, text_header};
use crate::nul_check;
use crate::trace_context::TRACEPARENT;
use std::fmt;

/// The events of an application. See the [module](self) for an example.
pub trait CloudEvent: Sized {
    /// What the key is, in words, for the reason of a dead letter with another one: `page`.
    const KEY: &'static str;

    /// The CloudEvents type, the header `ce_type`.
    fn event_type(&self) -> &'static str;

    /// The topic it belongs to.
    fn topic(&self) -> &'static str;

    /// The CloudEvents source, the header `ce_source`: who sends it.
    fn source(&self) -> &'static str;

    /// What it is about: the record's key and the header `ce_subject`. What has the same key shares a partition.
    fn key(&self) -> String;

    /// The payload as JSON, the record's value.
    fn to_json(&self) -> Vec<u8>;

    /// The event of this `ce_type` with this payload.
    ///
    /// # Errors
    /// No event has this type, or the payload does not fit it.
    fn from_json(event_type: &str, payload: &[u8]) -> Result<Self, DecodeError>;
}

impl<E: CloudEvent> Payload for E {
    fn read(message: &Message) -> Result<Self, String> {
        let event_type = text_header(&message.headers, CE_TYPE)?.ok_or("the header ce_type is missing")?;
        let key = message.key.as_deref().ok_or("the key is missing")?;
        let value = message.value.as_deref().ok_or("a tombstone is no event")?;
        let event = Self::from_json(event_type, value).map_err(|error| error.to_string())?;
        if let Some(path) = nul_check::find(value) {
            return Err(format!("{path} contains the character NUL, which no text column holds"));
        }
        let expected = event.key();
        if key != expected.as_bytes() {
            return Err(format!("the key is not the {} {expected}", Self::KEY));
        }
        Ok(event)
    }
}

/// The headers of CloudEvents' binary mode for Kafka, and the trace.
pub(crate) fn headers<E: CloudEvent>(
    event: &E,
    id: String,
    time: String,
    traceparent: Option<String>,
) -> impl Iterator<Item = (&'static str, String)> + use<E> {
    [
        ("ce_specversion", "1.0".to_owned()),
        (CE_ID, id),
        (CE_TYPE, event.event_type().to_owned()),
        ("ce_source", event.source().to_owned()),
        ("ce_time", time),
        ("ce_subject", event.key()),
        ("content-type", "application/json".to_owned()),
    ]
    .into_iter()
    .chain(traceparent.map(|value| (TRACEPARENT, value)))
}

/// Why a payload is no event.
#[derive(Debug)]
pub enum DecodeError {
    /// Nobody knows this `ce_type`.
    UnknownType(String),
    /// Not JSON, or not the JSON of this type.
    Payload(serde_json::Error),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType(name) => write!(f, "unknown event type {name:?}"),
            Self::Payload(error) if error.is_data() => {
                write!(f, "the value does not fit the event type: {error}")
            }
            Self::Payload(error) => write!(f, "the value is broken JSON: {error}"),
        }
    }
}

impl std::error::Error for DecodeError {}
