//! Any request to any function gets an answer or a problem.
#![no_main]

use any_input::{Function, Sent, send};
use fuzz::{take, take_string};
use libfuzzer_sys::fuzz_target;

/// Headers that a function reads.
const HEADERS: [&str; 6] = [
    "idempotency-key",
    "traceparent",
    "cache-control",
    "x-forwarded-for",
    "content-encoding",
    "if-none-match",
];

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let [function, call, shape] = take(&mut data, 3) else { return };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut sent = Sent { call: usize::from(*call), ..Sent::default() };
    if shape & 1 != 0 {
        sent.query = text(take_string(&mut data));
    }
    if shape & 2 != 0 {
        let name = HEADERS[usize::from(shape >> 3) % HEADERS.len()];
        sent.headers.push((name.to_owned(), take_string(&mut data).to_vec()));
    }
    if shape & 4 != 0 {
        sent.path = Some(format!("/{}", text(take_string(&mut data))));
    }
    sent.body = data.to_vec();
    send(Function::ALL[usize::from(*function) % Function::ALL.len()], sent);
});
