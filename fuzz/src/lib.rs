//! Sources of the host that stand by themselves, compiled from where they are: their crates need Wasmtime, which takes long to build
//! under a sanitizer.

#![allow(missing_docs, dead_code, unexpected_cfgs, reason = "a part of other crates")]

/// In place of the contract's generated types.
pub mod wit {
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Header {
        pub name: String,
        pub value: Vec<u8>,
    }
}

#[path = "../../host/types/src/guard.rs"]
pub mod guard;
#[path = "../../host/types/src/outbox.rs"]
pub mod outbox;
#[path = "../../host/types/src/record.rs"]
pub mod record;
#[path = "../../host/types/src/stream_keys.rs"]
pub mod stream_keys;
#[path = "../../host/types/src/trace_context.rs"]
pub mod trace_context;

#[path = "../../host/capabilities/src/postgres/codec/numeric.rs"]
mod numeric;

/// A part of the Postgres codec.
pub mod codec {
    use crate::numeric;

    /// The text of a numeric value.
    pub fn decode(bytes: &[u8]) -> Option<String> {
        numeric::decode(bytes)
    }

    /// The bytes of a decimal.
    pub fn encode(text: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        numeric::encode(text, &mut bytes).map(|()| bytes)
    }
}

/// Takes so many bytes from the front, or what is left.
pub fn take<'a>(data: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (head, rest) = data.split_at(count.min(data.len()));
    *data = rest;
    head
}

/// Takes a byte string whose length is in the byte before it.
pub fn take_string<'a>(data: &mut &'a [u8]) -> &'a [u8] {
    let length = take(data, 1).first().copied().unwrap_or_default();
    take(data, usize::from(length))
}
