//! W3C trace context: the header `traceparent`.

use std::fmt;

/// The header's name.
pub const TRACEPARENT: &str = "traceparent";
/// Bytes of a header of version 00: version, trace id, span id and flags with dashes between.
const TRACEPARENT_BYTES: usize = 55;
/// The flag of a trace that is recorded.
const SAMPLED: u8 = 1;

/// A place in a trace: the span that comes before what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    trace: u128,
    span: u64,
    flags: u8,
}

/// A trace's id; shown as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(u128);

impl Context {
    /// Begins a trace, recorded or not.
    pub fn begin(sampled: bool) -> Self {
        Self::begin_as(TraceId::new(), sampled)
    }

    /// Begins the trace of this id, recorded or not.
    pub fn begin_as(id: TraceId, sampled: bool) -> Self {
        Self { trace: id.0, span: fastrand::u64(1..), flags: u8::from(sampled) }
    }

    /// Reads a header; none where it is not a valid one of version 00.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok().filter(|text| text.len() == TRACEPARENT_BYTES)?;
        let mut parts = text.split('-');
        let mut part = |length: usize| {
            let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            parts.next().filter(|part| part.len() == length && part.bytes().all(hex))
        };
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let context = Self {
            trace: u128::from_str_radix(trace, 16).ok()?,
            span: u64::from_str_radix(span, 16).ok()?,
            flags: u8::from_str_radix(flags, 16).ok()?,
        };
        (version == "00" && context.trace != 0 && context.span != 0).then_some(context)
    }

    /// The next hop of the same trace: a new span id.
    #[must_use]
    pub fn next(self) -> Self {
        Self { span: fastrand::u64(1..), ..self }
    }

    /// Whether a header has to be read: its last digit says that it is sampled, or it is no context and a trace may begin in its
    /// place. Of those that are not sampled no more is looked at.
    pub fn may_be_sampled(value: &[u8]) -> bool {
        let unsampled = |digit: &u8| char::from(*digit).to_digit(16).is_some_and(|flags| flags & 1 == 0);
        value.len() != TRACEPARENT_BYTES || !value.last().is_some_and(unsampled)
    }

    /// Whether whoever began the trace wants it recorded.
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The trace's id.
    pub fn trace_id(self) -> TraceId {
        TraceId(self.trace)
    }

    /// The trace's id as OTLP has it.
    pub fn trace_bytes(self) -> Vec<u8> {
        self.trace.to_be_bytes().to_vec()
    }

    /// The id of the span.
    pub fn span(self) -> u64 {
        self.span
    }

    /// The flags byte.
    pub fn flags(self) -> u8 {
        self.flags
    }

    /// Writes the context over a header's value, which is one already.
    pub fn write_over(self, value: &mut Vec<u8>) {
        use std::io::Write as _;
        value.clear();
        // A vector takes everything.
        let _ = write!(value, "{self}");
    }
}

impl TraceId {
    /// One that nobody has.
    #[expect(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Self {
        Self(fastrand::u128(1..))
    }

    /// Reads 32 lower-case hexadecimal digits that are not all zero.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let hex = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        let digits =
            std::str::from_utf8(text).ok().filter(|t| t.len() == 32 && t.bytes().all(|b| hex(&b)))?;
        u128::from_str_radix(digits, 16).ok().filter(|id| *id != 0).map(Self)
    }
}

/// The header's value.
impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The trace id of a header, as it stands there; none where it is not a valid one.
pub fn trace_id(value: &[u8]) -> Option<&str> {
    Context::parse(value)?;
    std::str::from_utf8(&value[3..35]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_goes_on_with_another_span() {
        let first = Context::begin(false);
        let next = first.next();
        let mut header = first.to_string().into_bytes();
        assert_eq!(trace_id(&header), Some(first.trace_id().to_string().as_str()));
        next.write_over(&mut header);
        assert_eq!(Context::parse(&header), Some(next));
        assert_eq!(next.trace_id(), first.trace_id());
        assert_ne!(next, first);
        assert!(!next.is_sampled() && Context::begin(true).next().is_sampled());
    }

    #[test]
    fn flags_are_kept_and_what_is_no_context_is_refused() {
        let sampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(Context::parse(sampled.as_bytes()).is_some_and(|c| c.next().to_string().ends_with("-01")));
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
        let unsampled = sampled.replace("-01", "-00");
        for (header, may_be) in [(sampled, true), (unsampled.as_str(), false), ("none-00", true), ("", true)]
        {
            assert_eq!(Context::may_be_sampled(header.as_bytes()), may_be, "{header}");
        }
    }
}
