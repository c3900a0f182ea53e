//! Any bytes are a decimal or refused, and any text that is one comes back in one spelling.
#![no_main]

use fuzz::codec::{decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = decode(data);
    if let Some(bytes) = std::str::from_utf8(data).ok().and_then(encode) {
        let read = decode(&bytes).expect("what was written");
        assert_eq!(encode(&read), Some(bytes), "{read}");
    }
});
