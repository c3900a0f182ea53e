//! W3C trace context: the header `traceparent` that ties a request to all that follows from it.
//!
//! The host makes one for each HTTP request, or goes on with the client's; functions put it on what they emit, and the host gives
//! each hop a span id of its own.

use crate::engine::kafka::Header;

/// The header's name.
pub const TRACEPARENT: &str = "traceparent";
/// Bytes of a header of version 00: version, trace id, span id and flags with dashes between.
const TRACEPARENT_BYTES: usize = 55;

/// A place in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    text: String,
}

impl Context {
    /// Begins a trace; not sampled, which leaves it to whoever records.
    pub fn begin() -> Self {
        let trace = uuid::Uuid::new_v4().simple();
        Self { text: format!("00-{trace}-{}-00", span_id()) }
    }

    /// Reads a header; none where it is not a valid one of version 00.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok().filter(|text| text.len() == TRACEPARENT_BYTES)?;
        let mut parts = text.split('-');
        let mut part = |length: usize| {
            let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            parts.next().filter(|part| part.len() == length && part.bytes().all(hex))
        };
        let (version, trace, span, _flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let is_zero = |id: &str| id.bytes().all(|byte| byte == b'0');
        (version == "00" && !is_zero(trace) && !is_zero(span)).then(|| Self { text: text.to_owned() })
    }

    /// The next hop of the same trace: a new span id.
    #[must_use]
    pub fn next(&self) -> Self {
        let (trace, flags) = (self.trace_id(), &self.text[53..]);
        Self { text: format!("00-{trace}-{}-{flags}", span_id()) }
    }

    /// The trace's id, 32 hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        &self.text[3..35]
    }

    /// The header's value.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// The trace id of a header; none where it is not a valid one.
pub fn trace_id(value: &[u8]) -> Option<&str> {
    Context::parse(value)?;
    std::str::from_utf8(&value[3..35]).ok()
}

/// Gives a message the next hop of the trace that its function put on it, if any.
pub fn next_hop(headers: &mut [Header]) {
    for header in headers.iter_mut().filter(|header| header.name == TRACEPARENT) {
        if let Some(context) = Context::parse(&header.value) {
            header.value = context.next().text.into_bytes();
        }
    }
}

/// 16 random hexadecimal digits that are not all zero.
fn span_id() -> String {
    // The version bits of a UUID are among these, so it is never zero.
    format!("{:016x}", (uuid::Uuid::new_v4().as_u128() >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_goes_on_with_another_span() {
        let first = Context::begin();
        let next = first.next();
        assert_eq!(Context::parse(next.as_str().as_bytes()), Some(next.clone()));
        assert_eq!(next.trace_id(), first.trace_id());
        assert_ne!(next, first);
        assert_eq!(trace_id(first.as_str().as_bytes()), Some(first.trace_id()));
    }

    #[test]
    fn flags_are_kept_and_what_is_no_context_is_refused() {
        let sampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(Context::parse(sampled.as_bytes()).is_some_and(|c| c.next().as_str().ends_with("-01")));
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
        ] {
            assert_eq!(Context::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
