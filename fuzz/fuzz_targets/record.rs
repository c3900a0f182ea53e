//! A record with any headers is read, and nobody guesses a MAC.
#![no_main]

use fuzz::record::{HOST_HEADER_PREFIX, MAC_HEADER, NumberClaim, Record, SEQ_HEADER, STREAM_HEADER};
use fuzz::stream_keys::{StreamKey, StreamKeys};
use fuzz::trace_context::{Context, TRACEPARENT};
use fuzz::wit::Header;
use fuzz::{take, take_string};
use libfuzzer_sys::fuzz_target;

/// Headers that mean something to the host.
const NAMES: [&str; 6] = [STREAM_HEADER, SEQ_HEADER, MAC_HEADER, TRACEPARENT, "ce_type", HOST_HEADER_PREFIX];

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let mut headers = Vec::new();
    while !data.is_empty() {
        let name = usize::from(take(&mut data, 1)[0]);
        let name = match NAMES.get(name) {
            Some(name) => (*name).to_owned(),
            None => String::from_utf8_lossy(take_string(&mut data)).into_owned(),
        };
        headers.push(Header { name, value: take_string(&mut data).to_vec() });
    }
    let mut record = Record { offset: 0, timestamp_ms: 0, key: None, value: None, headers };
    if let Some(value) = record.header(TRACEPARENT) {
        let read = Context::parse(value);
        assert!(read.is_none_or(|context| context.to_string().as_bytes() == value));
        assert_eq!(record.trace_id().is_some(), read.is_some());
        assert!(Context::may_be_sampled(value) || !read.is_some_and(Context::is_sampled));
    }
    let keys = StreamKeys::default();
    keys.replace(vec![StreamKey { id: 7, secret: vec![3; 32], settled: true }]);
    let claims = record.header(STREAM_HEADER).is_some() || record.header(SEQ_HEADER).is_some();
    let claim = record.keep_number_of(&keys, ("t", 0));
    assert_eq!(claim, if claims { NumberClaim::Forged } else { NumberClaim::None });
    assert!(record.stream().is_none());
});
