//! A function that does what the host's tests ask it to: behave, or misbehave in one named way.
//!
//! Over HTTP the path names the behaviour, over Kafka the value of the batch's first message.

mod http;
mod kafka;

use std::hint::black_box;

/// Bytes taken at a time by a behaviour that takes memory without end.
const BITE_BYTES: usize = 1 << 20;

/// Behaviours that end the call by force; returns where the name is none of them.
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
        "exit" => std::process::exit(3),
        _ => {}
    }
}
