//! A function that does what the host's tests ask it to: behave, or misbehave in one named way.
//!
//! Over HTTP the path names the behaviour, over Kafka the value of the batch's first message.

mod http;
mod kafka;

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes taken at a time by a behaviour that takes memory without end.
const BITE_BYTES: usize = 1 << 20;

/// Words that a call finds as it leaves them only if it has the memory of another one: 1 MiB, more than the host keeps
/// resident between calls.
static LEFT: [AtomicU32; 1 << 18] = [const { AtomicU32::new(0) }; 1 << 18];
/// Words from one that is written to the next: a page in two is left alone.
const STEP: usize = 2048;

/// Writes to the memory; a word that was written before is another call's.
fn leave_something() {
    for word in LEFT.iter().step_by(STEP) {
        assert_eq!(word.fetch_add(1, Ordering::Relaxed), 0, "the memory of another call");
    }
}

/// Behaviours that end the call by force, or would if the host was wrong; returns where the name is none of them.
fn misbehave(name: &str) {
    match name {
        "panic" => panic!("asked to panic"),
        "loop" => loop {
            black_box(());
        },
        "memory" => {
            let mut taken = Vec::new();
            loop {
                taken.push(vec![1u8; BITE_BYTES]);
                black_box(&taken);
            }
        }
        "leave" => leave_something(),
        "exit" => std::process::exit(3),
        _ => {}
    }
}
