//! W3C trace context: the header `traceparent`.

/// The header's name.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// A header's value where it is a trace context; any other is ignored, as W3C asks, and whoever traces begins a new trace.
pub(crate) fn read(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let mut parts = text.split('-');
    let mut part = |digits| parts.next().filter(|part| part.len() == digits && part.bytes().all(digit));
    let (version, trace, span, _flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    let is_some = |id: &str| id.bytes().any(|digit| digit != b'0');
    let whole = version == "00" && parts.next().is_none();
    (whole && is_some(trace) && is_some(span)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trace_context_is_read() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(read(good.as_bytes()), Some(good));
        for bad in [
            "",
            "00-1-2-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
        ] {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(read(b"\xff"), None);
    }
}
