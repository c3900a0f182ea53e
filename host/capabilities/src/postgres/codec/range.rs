//! Ranges in Postgres' binary form: a byte of flags, then the bounds that exist.

use super::super::wit::RangeBoundKind;
use super::array::take_value;
use super::encode::put_length_prefixed;

const EMPTY: u8 = 0x01;
const LOWER_INCLUSIVE: u8 = 0x02;
const UPPER_INCLUSIVE: u8 = 0x04;
const LOWER_INFINITE: u8 = 0x08;
const UPPER_INFINITE: u8 = 0x10;

type Bound<T> = Option<(T, RangeBoundKind)>;

/// Writes a range whose bounds `put` writes; nothing where a bound does not fit.
pub(super) fn encode<T>(
    (lower, upper): &(Bound<T>, Bound<T>),
    out: &mut Vec<u8>,
    put: impl Fn(&T, &mut Vec<u8>) -> Option<()>,
) -> Option<()> {
    let flag = |bound: &Bound<T>, inclusive: u8, infinite: u8| match bound {
        Some((_, RangeBoundKind::Inclusive)) => inclusive,
        Some((_, RangeBoundKind::Exclusive)) => 0,
        None => infinite,
    };
    out.push(flag(lower, LOWER_INCLUSIVE, LOWER_INFINITE) | flag(upper, UPPER_INCLUSIVE, UPPER_INFINITE));
    for (value, _) in [lower, upper].into_iter().flatten() {
        put_length_prefixed(out, |out| put(value, out))?;
    }
    Some(())
}

/// The bounds of a range, which `get` reads. Nothing for broken bytes and for the empty range: the interface has no
/// form for it, and without bounds it would look like the range of everything.
pub(super) fn decode<T>(bytes: &[u8], get: impl Fn(&[u8]) -> Option<T>) -> Option<(Bound<T>, Bound<T>)> {
    let (&flags, mut bytes) = bytes.split_first()?;
    if flags & EMPTY != 0 {
        return None;
    }
    let mut bound = |inclusive: u8, infinite: u8| {
        if flags & infinite != 0 {
            return Some(None);
        }
        let kind = if flags & inclusive != 0 { RangeBoundKind::Inclusive } else { RangeBoundKind::Exclusive };
        Some(Some((get(take_value(&mut bytes)??)?, kind)))
    };
    Some((bound(LOWER_INCLUSIVE, LOWER_INFINITE)?, bound(UPPER_INCLUSIVE, UPPER_INFINITE)?))
}

/// Bytes of the heap that the bounds take, `of` each.
pub(super) fn heap_bytes(bytes: &[u8], of: impl Fn(&[u8]) -> usize) -> usize {
    let mut bounds = bytes.get(1..).unwrap_or_default();
    std::iter::from_fn(|| take_value(&mut bounds)).flatten().map(of).sum()
}
