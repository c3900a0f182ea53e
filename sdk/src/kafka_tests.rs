//! What is decoded, what is rejected, and what an emitted event carries.

use super::*;
use crate::event::DecodeError;
use serde::{Deserialize, Serialize};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What happens to parcels.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Lost(Parcel),
    Found(Parcel),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Parcel {
    parcel_id: u32,
    reason: String,
}

impl CloudEvent for Event {
    const KEY: &'static str = "parcel id";

    fn event_type(&self) -> &'static str {
        match self {
            Self::Lost(_) => "parcel.lost",
            Self::Found(_) => "parcel.found",
        }
    }

    fn topic(&self) -> &'static str {
        "parcel-events"
    }

    fn source(&self) -> &'static str {
        "/parcel"
    }

    fn key(&self) -> String {
        let (Self::Lost(parcel) | Self::Found(parcel)) = self;
        parcel.parcel_id.to_string()
    }

    fn to_json(&self) -> Vec<u8> {
        let (Self::Lost(parcel) | Self::Found(parcel)) = self;
        serde_json::to_vec(parcel).unwrap()
    }

    fn from_json(event_type: &str, payload: &[u8]) -> Result<Self, DecodeError> {
        let of = |kind: fn(Parcel) -> Self| {
            serde_json::from_slice(payload).map(kind).map_err(DecodeError::Payload)
        };
        match event_type {
            "parcel.lost" => of(Self::Lost),
            "parcel.found" => of(Self::Found),
            other => Err(DecodeError::UnknownType(other.to_owned())),
        }
    }
}

fn header(name: &str, value: &str) -> Header {
    Header { name: name.to_owned(), value: value.into() }
}

fn message(event: &Event) -> Message {
    Message {
        key: Some(event.key().into_bytes()),
        value: Some(event.to_json()),
        headers: vec![header(CE_TYPE, event.event_type()), header(TRACEPARENT, TRACE)],
        attempt: 1,
        last_attempt: false,
    }
}

fn lost(reason: &str) -> Event {
    Event::Lost(Parcel { parcel_id: 7, reason: reason.to_owned() })
}

/// What is no event, and how the reason begins.
fn broken(good: &Message) -> [(Message, &'static str); 9] {
    [
        (Message { headers: vec![], ..good.clone() }, "the header ce_type is missing"),
        (Message { key: None, ..good.clone() }, "the key is missing"),
        (Message { value: None, ..good.clone() }, "a tombstone is no event"),
        (Message { value: Some(b"{".to_vec()), ..good.clone() }, "the value is broken JSON"),
        (Message { value: Some(b"{}".to_vec()), ..good.clone() }, "the value does not fit the event type"),
        (Message { value: Some(b"\xff".to_vec()), ..good.clone() }, "the value is broken JSON"),
        (Message { headers: vec![header(CE_TYPE, "x.y")], ..good.clone() }, "unknown event type \"x.y\""),
        (Message { key: Some(b"8".to_vec()), ..good.clone() }, "the key is not the parcel id 7"),
        (message(&lost("a\0b")), "reason contains the character NUL"),
    ]
}

#[test]
fn what_is_no_event_is_rejected_with_its_reason_and_the_rest_is_decoded() {
    let good = message(&lost("no address"));
    for (message, reason) in broken(&good) {
        let batch = Batch::<Event>::decode(vec![good.clone(), message, good.clone()]);
        assert_eq!(batch.records.iter().map(|record| record.index).collect::<Vec<_>>(), [0, 2]);
        let Outcome::Reject(found) = &batch.reply.outcomes[1] else { panic!("{reason}: not rejected") };
        assert!(found.starts_with(reason), "{found}");
    }
}

#[test]
fn an_id_or_a_trace_that_is_none_makes_no_good_record_a_bad_one() {
    let good = message(&lost("no address"));
    let with = |name: &str, value: &[u8]| {
        let given = Header { name: name.to_owned(), value: value.to_vec() };
        Message { headers: vec![header(CE_TYPE, "parcel.lost"), given], ..good.clone() }
    };
    for (message, event_id, traceparent) in [
        (with(CE_ID, b"a-1"), Some("a-1"), None),
        (with(CE_ID, b"a\xff\0"), Some("a\\xff\\x00"), None),
        (with(TRACEPARENT, TRACE.as_bytes()), None, Some(TRACE)),
        (with(TRACEPARENT, b"\xff"), None, None),
        (with(TRACEPARENT, b"00-no-trace-01"), None, None),
    ] {
        let batch = Batch::<Event>::decode(vec![message]);
        let [record] = &batch.records[..] else { panic!("{:?}", batch.reply.outcomes) };
        assert_eq!((record.event_id.as_deref(), record.traceparent.as_deref()), (event_id, traceparent));
    }
}

#[test]
fn an_emit_carries_its_cause_key_trace_and_attributes() {
    let mut batch = Batch::<Event>::decode(vec![message(&lost("no address"))]);
    let event = Event::Found(Parcel { parcel_id: 7, reason: "a call".to_owned() });
    batch.reply.emit(&batch.records[0], &event);
    batch.reply.emit(&batch.records[0], &event);
    let [first, second] = &batch.reply.emits[..] else { panic!("two emits") };
    assert_eq!((first.cause, &*first.topic), (0, "parcel-events"));
    assert_eq!(first.key, b"7");
    let get = |emit: &Emit, name| text_header(&emit.headers, name).unwrap().map(str::to_owned);
    assert_eq!(get(first, "ce_source").as_deref(), Some("/parcel"));
    assert_eq!(get(first, "traceparent").as_deref(), Some(TRACE));
    assert_ne!(get(first, CE_ID), get(second, CE_ID));
    let again =
        Message { headers: first.headers.clone(), value: Some(first.value.clone()), ..message(&event) };
    assert_eq!(Batch::<Event>::decode(vec![again]).records[0].event, event);
}

#[test]
fn a_record_may_be_retried_or_rejected() {
    let messages = vec![message(&lost("no address")), message(&lost("no name"))];
    let mut batch = Batch::<Event>::decode(messages);
    batch.reply.retry(&batch.records[0], "later");
    batch.reply.reject(&batch.records[1], "never");
    let expected = [Outcome::Retry("later".to_owned()), Outcome::Reject("never".to_owned())];
    assert_eq!(batch.reply.outcomes, expected);
}

#[test]
fn values_without_a_convention_are_json_or_text() {
    let plain = |key: &str, value: &[u8]| Message {
        key: Some(key.into()),
        value: Some(value.to_vec()),
        headers: vec![header(TRACEPARENT, TRACE)],
        attempt: 1,
        last_attempt: false,
    };
    let tombstone = Message { value: None, ..plain("k", b"") };
    let messages = vec![
        plain("k", b"[1, 2]"),
        plain("k", b"[1, \"x\"]"),
        plain("k", b"[1] rest"),
        plain("k", b"\xff"),
        tombstone,
    ];
    let told = |outcomes: &[Outcome]| {
        let word = |outcome: &Outcome| match outcome {
            Outcome::Done => "done".to_owned(),
            Outcome::Retry(reason) | Outcome::Reject(reason) => reason.clone(),
        };
        outcomes.iter().map(word).collect::<Vec<_>>()
    };
    let mut batch = Batch::<Json<Vec<u32>>>::decode(messages.clone());
    assert_eq!(batch.records[0].event, Json { key: Some("k".to_owned()), value: vec![1, 2] });
    let outcomes = told(&batch.reply.outcomes);
    assert_eq!((batch.records.len(), outcomes[0].as_str()), (1, "done"));
    assert!(
        outcomes[1].starts_with("the value is not the JSON that is expected: [1]: invalid type"),
        "{outcomes:?}"
    );
    assert!(outcomes[2].contains("trailing characters"), "{outcomes:?}");
    batch.reply.send(&batch.records[0], format!("{}-out", "numbers"), "k", "3");
    let sent = &batch.reply.emits[0];
    assert_eq!((sent.cause, &*sent.topic, sent.value.as_slice()), (0, "numbers-out", &b"3"[..]));
    assert_eq!(sent.headers, [header(TRACEPARENT, TRACE)], "the trace goes on");

    let batch = Batch::<Text>::decode(messages);
    assert_eq!(batch.records[1].event.value, "[1, \"x\"]");
    let outcomes = told(&batch.reply.outcomes);
    assert_eq!(outcomes, ["done", "done", "done", "the value is no UTF-8", "a tombstone has no text"]);
}
