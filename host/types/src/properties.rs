//! Properties of what is read from Kafka and Postgres: whatever the bytes are, they are read or refused.

use crate::outbox::{HeaderRef, Outgoing, decode, decode_headers, encode, encode_headers};
use crate::record::{MAC_HEADER, NumberClaim, Record, SEQ_HEADER, STREAM_HEADER};
use crate::stream_keys::{Claim, StreamKey, StreamKeys};
use crate::trace_context::{self, Context, TRACEPARENT, TraceId};
use crate::wit::Header;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn config() -> ProptestConfig {
    // Nothing is written into the checkout: the smallest case that fails is printed.
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..12).prop_map(String::from_iter)
}

fn headers() -> impl Strategy<Value = Vec<Header>> {
    vec((text(), bytes()).prop_map(|(name, value)| Header { name, value }), 0..4)
}

/// Topic, partition, key, value and headers of a message.
type Parts = (String, i32, Option<Vec<u8>>, Option<Vec<u8>>, Vec<Header>);

fn message() -> impl Strategy<Value = Parts> {
    (text(), any::<i32>(), option::of(bytes()), option::of(bytes()), headers())
}

fn outgoing((topic, partition, key, value, headers): &Parts) -> Outgoing<'_> {
    Outgoing {
        topic,
        partition: *partition,
        key: key.as_deref(),
        value: value.as_deref(),
        headers: headers.iter().map(HeaderRef::from).collect(),
    }
}

fn pairs(headers: &[Header]) -> Vec<(&str, &[u8])> {
    headers.iter().map(|header| (header.name.as_str(), header.value.as_slice())).collect()
}

/// Names of the host's headers and others, with values that often are of the right form.
fn host_header() -> impl Strategy<Value = Header> {
    let name = prop_oneof![
        4 => select(vec![STREAM_HEADER, SEQ_HEADER, MAC_HEADER, TRACEPARENT, "ce_type", "ce_id"])
            .prop_map(str::to_owned),
        1 => text(),
    ];
    let value = prop_oneof![
        bytes(),
        any::<i64>().prop_map(|seq| seq.to_string().into_bytes()),
        "[0-9]{1,3}:[0-9a-f]{32}".prop_map(String::into_bytes),
        "00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]".prop_map(String::into_bytes),
        text().prop_map(String::into_bytes),
    ];
    (name, value).prop_map(|(name, value)| Header { name, value })
}

fn keys() -> StreamKeys {
    let keys = StreamKeys::default();
    keys.replace(vec![StreamKey { id: 7, secret: vec![3; 32], settled: true }]);
    keys
}

fn record(headers: Vec<Header>, key: Option<Vec<u8>>) -> Record {
    Record { offset: 0, timestamp_ms: 0, key, value: None, headers }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn an_outbox_row_is_read_as_it_was_written(
        version in "[0-9a-f]{0,12}", first_seq in 1..i64::MAX / 2, messages in vec(message(), 0..5)
    ) {
        let messages: Vec<Outgoing<'_>> = messages.iter().map(outgoing).collect();
        let row = encode(&version, &messages);
        let read = decode(first_seq, &row).expect("what was written");
        prop_assert_eq!((read.first_seq, read.version), (first_seq, version.as_str()));
        prop_assert_eq!(read.last_seq(), first_seq + messages.len() as i64 - 1);
        prop_assert_eq!(&read.messages, &messages);
    }

    #[test]
    fn any_row_is_read_or_refused_and_what_is_read_is_written_the_same(row in prop_oneof![
        bytes(),
        // The start of a real row, with a byte changed.
        (vec(message(), 1..4), any::<prop::sample::Index>(), any::<u8>(), any::<prop::sample::Index>()).prop_map(
            |(messages, at, byte, end)| {
                let mut row = encode("0123", &messages.iter().map(outgoing).collect::<Vec<_>>());
                let at = at.index(row.len());
                row[at] = byte;
                row.truncate(end.index(row.len() + 1));
                row
            }
        ),
    ]) {
        if let Ok(read) = decode(1, &row) {
            let again = encode(read.version, &read.messages);
            let second = decode(1, &again).expect("what was written");
            prop_assert_eq!(second.messages, read.messages);
            prop_assert_eq!(second.version, read.version);
        }
        let _ = decode_headers(&row);
    }

    #[test]
    fn headers_are_read_as_they_were_written_and_never_cut(headers in headers(), end in any::<prop::sample::Index>()) {
        let row = encode_headers(&headers);
        let read = decode_headers(&row).expect("what was written");
        prop_assert_eq!(pairs(&read), pairs(&headers));
        prop_assert!(decode_headers(&row[..end.index(row.len())]).is_err());
    }

    #[test]
    fn a_record_with_any_headers_is_read(headers in vec(host_header(), 0..6), key in option::of(bytes())) {
        let mut record = record(headers, key);
        if let Some(trace) = record.trace_id() {
            prop_assert!(trace.len() == 32 && TraceId::parse(trace.as_bytes()).is_some());
        }
        let _ = (record.key_text(), record.size());
        let claims = record.header(STREAM_HEADER).is_some() || record.header(SEQ_HEADER).is_some();
        let claim = record.keep_number_of(&keys(), ("t", 0));
        // Nobody guesses a MAC.
        prop_assert_eq!(claim, if claims { NumberClaim::Forged } else { NumberClaim::None });
        prop_assert!(record.stream().is_none());
    }

    #[test]
    fn a_number_is_good_at_its_place_alone(
        stream in text(), seq in any::<i64>(), topic in text(), partition in any::<i32>(), other in (text(), any::<i32>())
    ) {
        let keys = keys();
        let mac = keys.sign(Claim { stream: &stream, seq, topic: &topic, partition }).expect("a key");
        let header = |name: &str, value: &str| Header { name: name.to_owned(), value: value.into() };
        let headers = vec![
            header(STREAM_HEADER, &stream), header(SEQ_HEADER, &seq.to_string()), header(MAC_HEADER, &mac),
        ];
        let mut own = record(headers.clone(), None);
        prop_assert_eq!(own.keep_number_of(&keys, (&topic, partition)), NumberClaim::Good);
        prop_assert_eq!(own.stream(), Some((stream.as_str(), seq)));
        if other != (topic, partition) {
            let mut moved = record(headers, None);
            prop_assert_eq!(moved.keep_number_of(&keys, (&other.0, other.1)), NumberClaim::Forged);
        }
    }

    #[test]
    fn no_bytes_are_a_mac(mac in prop_oneof![bytes(), "-?[0-9]{1,12}:[ -~é]{0,40}".prop_map(String::into_bytes)]) {
        let claim = Claim { stream: "s", seq: 1, topic: "t", partition: 0 };
        prop_assert!(!keys().verify(&mac, claim));
    }

    #[test]
    fn a_trace_context_is_what_is_written_the_same(value in prop_oneof![
        bytes(),
        "00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}".prop_map(String::into_bytes),
        "[0-9a-fA-F-]{55}".prop_map(String::into_bytes),
        vec(any::<char>(), 20..55).prop_map(|chars| String::from_iter(chars).into_bytes()),
    ]) {
        let read = Context::parse(&value);
        let written = read.map(|context| context.to_string().into_bytes());
        prop_assert!(written.is_none_or(|written| written == value));
        prop_assert_eq!(trace_context::trace_id(&value).is_some(), read.is_some());
        // The cheap look never misses a sampled one.
        prop_assert!(Context::may_be_sampled(&value) || !read.is_some_and(Context::is_sampled));
    }
}
