//! One-dimensional arrays in Postgres' binary form.

use super::encode::put_length_prefixed;

/// Before the elements of an array of one dimension: how many, whether some are null, their type, the length, the lower bound.
const HEAD_BYTES: usize = 5 * 4;

/// Writes an array of `elements`, each of which `put` writes; nothing where an element does not fit.
pub(super) fn encode<T>(
    elements: &[Option<T>],
    element_type: u32,
    out: &mut Vec<u8>,
    mut put: impl FnMut(&T, &mut Vec<u8>) -> Option<()>,
) -> Option<()> {
    let dimensions = i32::from(!elements.is_empty());
    out.extend_from_slice(&dimensions.to_be_bytes());
    out.extend_from_slice(&i32::from(elements.iter().any(Option::is_none)).to_be_bytes());
    out.extend_from_slice(&element_type.to_be_bytes());
    if dimensions == 1 {
        const LOWER_BOUND: i32 = 1;
        out.extend_from_slice(&i32::try_from(elements.len()).ok()?.to_be_bytes());
        out.extend_from_slice(&LOWER_BOUND.to_be_bytes());
    }
    for element in elements {
        match element {
            Some(element) => put_length_prefixed(out, |out| put(element, out))?,
            None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
        }
    }
    Some(())
}

/// The elements of an array, each of which `get` reads; nothing where it has several dimensions or is broken.
pub(super) fn decode<T>(bytes: &[u8], get: impl Fn(&[u8]) -> Option<T>) -> Option<Vec<Option<T>>> {
    let mut bytes = bytes;
    let dimensions = take_i32(&mut bytes)?;
    let (_has_null, _element_type) = (take_i32(&mut bytes)?, take_i32(&mut bytes)?);
    if dimensions == 0 {
        return Some(Vec::new());
    }
    if dimensions != 1 {
        return None;
    }
    let length = usize::try_from(take_i32(&mut bytes)?).ok()?;
    let _lower_bound = take_i32(&mut bytes)?;
    // An element takes four bytes at least, so a broken length reserves no memory.
    let mut elements = Vec::with_capacity(length.min(bytes.len() / 4));
    for _ in 0..length {
        elements.push(match take_value(&mut bytes)? {
            Some(element) => Some(get(element)?),
            None => None,
        });
    }
    Some(elements)
}

/// Bytes of the heap that the array of such elements takes, where each has `of` bytes beside its own size.
pub(super) fn heap_bytes<T>(bytes: &[u8], of: impl Fn(&[u8]) -> usize) -> usize {
    let mut rest = bytes.get(HEAD_BYTES..).unwrap_or_default();
    let mut held = 0_usize;
    while let Some(element) = take_value(&mut rest) {
        held = held.saturating_add(size_of::<Option<T>>()).saturating_add(element.map_or(0, &of));
    }
    held
}

/// A value with its length before it; the length -1 is null.
pub(super) fn take_value<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = take_i32(bytes)?;
    if length == -1 {
        return Some(None);
    }
    let (value, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(Some(value))
}

fn take_i32(bytes: &mut &[u8]) -> Option<i32> {
    let (value, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(i32::from_be_bytes(*value))
}
