//! Any outbox row is read or refused, and what is read is written the same.
#![no_main]

use fuzz::outbox::{decode, decode_headers, encode, encode_headers};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|row: &[u8]| {
    if let Ok(read) = decode(1, row) {
        let again = encode(read.version, &read.messages);
        let second = decode(1, &again).expect("what was written");
        assert_eq!((second.version, second.messages), (read.version, read.messages));
    }
    if let Ok(headers) = decode_headers(row) {
        assert_eq!(decode_headers(&encode_headers(&headers)).expect("what was written"), headers);
    }
});
