//! Any record gets an outcome from each function that consumes.
#![no_main]

use any_input::kafka::{TYPES, deliver, message};
use fuzz::{take, take_string};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let [kind, shape] = take(&mut data, 2) else { return };
    let key = (shape & 1 != 0).then(|| take_string(&mut data).to_vec());
    let value = (shape & 2 != 0).then(|| data.to_vec());
    deliver(&[message(TYPES[usize::from(*kind) % TYPES.len()], key, value)]);
});
