//! How committed messages stand in `fnhost.outbox`, and headers in `fnhost.parked` and `fnhost.dead`.
//!
//! A batch is one value: a format byte, the version that made it (absent where none did), then for each message its target
//! partition (4 bytes), topic, key, value and headers. Numbers are little endian; a byte string is its length (4 bytes) and its bytes; an absent one has the length
//! `u32::MAX`. Decoding borrows from the row's bytes.

use crate::wit::Header;

/// The first byte of headers, and of batches that hosts wrote before versions had names.
const FORMAT: u8 = 1;
/// The first byte of a batch with its version.
const FORMAT_VERSIONED: u8 = 2;
/// Length that stands for "absent".
const ABSENT: u32 = u32::MAX;

/// Messages of a stream with consecutive numbers.
pub struct Numbered<'a> {
    /// Number of the first message.
    pub first_seq: i64,
    /// The version that emitted them, as its short digest; empty where none did, as in a relay.
    pub version: &'a str,
    /// The messages in their order.
    pub messages: Vec<Outgoing<'a>>,
}

impl Numbered<'_> {
    /// Number of the last message; `first_seq - 1` where there is none.
    pub fn last_seq(&self) -> i64 {
        self.first_seq + self.messages.len() as i64 - 1
    }
}

/// A message with its target partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// Target topic.
    pub topic: &'a str,
    /// Target partition, fixed when the message was committed.
    pub partition: i32,
    /// Key bytes.
    pub key: Option<&'a [u8]>,
    /// Value bytes.
    pub value: Option<&'a [u8]>,
    /// Headers, without the host's stream and number.
    pub headers: Vec<HeaderRef<'a>>,
}

impl<'a> Outgoing<'a> {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.iter().find(|header| header.name == name).map(|header| header.value)
    }
}

/// A borrowed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderRef<'a> {
    /// Name.
    pub name: &'a str,
    /// Value bytes.
    pub value: &'a [u8],
}

impl HeaderRef<'_> {
    /// The header with bytes of its own.
    pub fn to_header(&self) -> Header {
        Header { name: self.name.to_owned(), value: self.value.to_vec() }
    }
}

impl<'a> From<&'a Header> for HeaderRef<'a> {
    fn from(header: &'a Header) -> Self {
        Self { name: &header.name, value: &header.value }
    }
}

/// A row of the outbox that Kafka may not have.
#[derive(Clone, Debug)]
pub struct Unsent {
    /// Number of its first message.
    pub first_seq: i64,
    /// Its messages, encoded.
    pub messages: Vec<u8>,
    /// The database's incarnation when it was committed; none for rows of hosts that knew none.
    pub incarnation: Option<String>,
}

/// An outbox row that this build cannot read.
#[derive(Debug, thiserror::Error)]
#[error("an encoded value ends early or has an unknown format; it was written by a newer fnhost")]
pub struct Unreadable;

/// Encodes the messages of a batch and the version that emitted them.
pub fn encode(version: &str, messages: &[Outgoing<'_>]) -> Vec<u8> {
    let size: usize = messages
        .iter()
        .map(|m| {
            let headers: usize = m.headers.iter().map(|h| 8 + h.name.len() + h.value.len()).sum();
            24 + m.topic.len() + m.key.map_or(0, <[u8]>::len) + m.value.map_or(0, <[u8]>::len) + headers
        })
        .sum();
    let mut out = Vec::with_capacity(5 + version.len() + size);
    out.push(FORMAT_VERSIONED);
    put(&mut out, (!version.is_empty()).then_some(version.as_bytes()));
    for message in messages {
        out.extend_from_slice(&message.partition.to_le_bytes());
        put(&mut out, Some(message.topic.as_bytes()));
        put(&mut out, message.key);
        put(&mut out, message.value);
        put_headers(&mut out, &message.headers);
    }
    out
}

/// Decodes what [`encode`] wrote.
///
/// # Errors
/// The bytes are not such a value.
pub fn decode(first_seq: i64, bytes: &[u8]) -> Result<Numbered<'_>, Unreadable> {
    let (mut rest, version) = match bytes.split_first() {
        Some((&FORMAT, rest)) => (rest, ""),
        Some((&FORMAT_VERSIONED, mut rest)) => {
            let version = take(&mut rest)?.unwrap_or_default();
            (rest, std::str::from_utf8(version).map_err(|_| Unreadable)?)
        }
        _ => return Err(Unreadable),
    };
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let (head, tail) = rest.split_at_checked(4).ok_or(Unreadable)?;
        rest = tail;
        let partition = i32::from_le_bytes(head.try_into().map_err(|_| Unreadable)?);
        let topic = take(&mut rest)?.ok_or(Unreadable)?;
        messages.push(Outgoing {
            topic: std::str::from_utf8(topic).map_err(|_| Unreadable)?,
            partition,
            key: take(&mut rest)?,
            value: take(&mut rest)?,
            headers: take_headers(&mut rest)?,
        });
    }
    Ok(Numbered { first_seq, version, messages })
}

/// Encodes a record's headers.
pub fn encode_headers(headers: &[Header]) -> Vec<u8> {
    let refs: Vec<HeaderRef<'_>> = headers.iter().map(HeaderRef::from).collect();
    let mut out = vec![FORMAT];
    put_headers(&mut out, &refs);
    out
}

/// Decodes what [`encode_headers`] wrote.
///
/// # Errors
/// The bytes are not such a value.
pub fn decode_headers(bytes: &[u8]) -> Result<Vec<Header>, Unreadable> {
    let Some((&FORMAT, mut rest)) = bytes.split_first() else { return Err(Unreadable) };
    let headers = take_headers(&mut rest)?;
    Ok(headers.iter().map(|h| Header { name: h.name.to_string(), value: h.value.to_vec() }).collect())
}

fn put(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.extend_from_slice(&bytes.map_or(ABSENT, |b| b.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes.unwrap_or_default());
}

fn put_headers(out: &mut Vec<u8>, headers: &[HeaderRef<'_>]) {
    out.extend_from_slice(&(headers.len() as u32).to_le_bytes());
    for header in headers {
        put(out, Some(header.name.as_bytes()));
        put(out, Some(header.value));
    }
}

fn take_length(rest: &mut &[u8]) -> Result<u32, Unreadable> {
    let (head, tail) = rest.split_at_checked(4).ok_or(Unreadable)?;
    *rest = tail;
    Ok(u32::from_le_bytes(head.try_into().map_err(|_| Unreadable)?))
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Unreadable> {
    let length = take_length(rest)?;
    if length == ABSENT {
        return Ok(None);
    }
    let (head, tail) = rest.split_at_checked(length as usize).ok_or(Unreadable)?;
    *rest = tail;
    Ok(Some(head))
}

fn take_headers<'a>(rest: &mut &'a [u8]) -> Result<Vec<HeaderRef<'a>>, Unreadable> {
    let count = take_length(rest)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = std::str::from_utf8(take(rest)?.ok_or(Unreadable)?).map_err(|_| Unreadable)?;
        headers.push(HeaderRef { name, value: take(rest)?.ok_or(Unreadable)? });
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let messages = vec![
            Outgoing {
                topic: "order-events",
                partition: 2,
                key: Some(b"k"),
                value: None,
                headers: vec![HeaderRef { name: "ce_type", value: b"order.confirmed" }],
            },
            Outgoing { topic: "t", partition: 0, key: None, value: Some(&[0, 255]), headers: vec![] },
        ];
        for version in ["0123456789ab", ""] {
            let bytes = encode(version, &messages);
            let decoded = decode(7, &bytes).unwrap();
            assert_eq!((decoded.first_seq, decoded.version, decoded.last_seq()), (7, version, 8));
            assert_eq!(decoded.messages, messages);
        }
        assert_eq!(decode(1, &encode("", &[])).unwrap().messages, vec![]);
        let former = [&[FORMAT], &encode("", &messages)[5..]].concat();
        assert_eq!(decode(1, &former).unwrap().messages, messages, "as hosts wrote it before");
    }

    #[test]
    fn a_value_cut_anywhere_is_refused_or_shorter_never_a_panic() {
        let message = Outgoing {
            topic: "topic",
            partition: 1,
            key: Some(b"key"),
            value: Some(b"value"),
            headers: vec![],
        };
        let whole = encode("", std::slice::from_ref(&message));
        for end in 0..whole.len() {
            let cut = decode(1, &whole[..end]);
            assert!(if end == 5 { cut.unwrap().messages.is_empty() } else { cut.is_err() }, "cut at {end}");
        }
        let headers = vec![Header { name: "a".into(), value: vec![1, 2, 3] }];
        let encoded = encode_headers(&headers);
        assert_eq!(decode_headers(&encoded).unwrap().len(), 1);
        assert!(decode_headers(&encoded[..encoded.len() - 1]).is_err());
    }
}
