//! Which numbered messages come from this deployment: a MAC in each of them, under keys that only its hosts have.
//!
//! A number in a header is believed for good: what is not above the highest accepted number of its stream is refused as a duplicate.
//! Without a MAC anybody who may write to a topic could name a high number, and every later message of that stream would be
//! lost. The MAC is HMAC-SHA-256 (RFC 2104), truncated to 128 bits, over stream, number, topic and partition. It says whose the number is; it
//! does not vouch for the message's content.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::sync::{Arc, PoisonError, RwLock};

/// Bytes of a MAC.
const MAC_BYTES: usize = 16;

/// A key as it stands in `fnhost.stream_key`.
#[derive(Clone)]
pub struct StreamKey {
    /// Its number, which each MAC names.
    pub id: i32,
    /// The secret, 32 bytes.
    pub secret: Vec<u8>,
    /// Whether every host of the deployment knows it by now, so that it may sign.
    pub settled: bool,
}

/// The present keys of a deployment; all clones see the same.
#[derive(Clone, Default)]
pub struct StreamKeys(Arc<RwLock<Keys>>);

#[derive(Default)]
struct Keys {
    known: Vec<(i32, Hmac<Sha256>)>,
    /// Index of the one that signs.
    signs: Option<usize>,
}

/// What a message says of its number.
#[derive(Clone, Copy)]
pub struct Claim<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// Number on it.
    pub seq: i64,
    /// Topic that the message is in.
    pub topic: &'a str,
    /// Partition that it is in.
    pub partition: i32,
}

impl StreamKeys {
    /// Puts these keys in place of the former ones. The latest settled one signs; where none has settled, the oldest does.
    pub fn replace(&self, mut keys: Vec<StreamKey>) {
        keys.sort_by_key(|key| key.id);
        let signs = keys.iter().rposition(|key| key.settled).or((!keys.is_empty()).then_some(0));
        let known = keys.iter().map(|key| (key.id, begin(&key.secret))).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Keys { known, signs };
    }

    /// The MAC of a claim, as text for a header: the key's number and 32 hex digits. None where there is no key.
    pub fn sign(&self, claim: Claim<'_>) -> Option<String> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (id, key) = &keys.known[keys.signs?];
        let mac = over(key.clone(), claim).finalize().into_bytes();
        Some(mac[..MAC_BYTES].iter().fold(format!("{id}:"), |mut text, byte| {
            text.push(hex_digit(byte >> 4));
            text.push(hex_digit(byte & 15));
            text
        }))
    }

    /// Whether the MAC is one of this deployment for that claim. Takes the same time for every wrong one.
    pub fn verify(&self, mac: &[u8], claim: Claim<'_>) -> bool {
        let Some((id, given)) = parse(mac) else { return false };
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.known.iter().find(|(known, _)| *known == id);
        key.is_some_and(|(_, key)| over(key.clone(), claim).verify_truncated_left(&given).is_ok())
    }
}

fn begin(secret: &[u8]) -> Hmac<Sha256> {
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret) else {
        unreachable!("HMAC takes a key of any length")
    };
    mac
}

/// Lengths stand before what has one, so that no two claims have the same bytes.
fn over(mut mac: Hmac<Sha256>, Claim { stream, seq, topic, partition }: Claim<'_>) -> Hmac<Sha256> {
    for text in [stream, topic] {
        mac.update(&(text.len() as u64).to_be_bytes());
        mac.update(text.as_bytes());
    }
    mac.update(&seq.to_be_bytes());
    mac.update(&partition.to_be_bytes());
    mac
}

fn parse(mac: &[u8]) -> Option<(i32, [u8; MAC_BYTES])> {
    let (id, hex) = std::str::from_utf8(mac).ok()?.split_once(':')?;
    if hex.len() != MAC_BYTES * 2 || !hex.is_ascii() {
        return None;
    }
    let mut bytes = [0; MAC_BYTES];
    for (byte, digits) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some((id.parse().ok()?, bytes))
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM: Claim<'_> =
        Claim { stream: "orders/1/order:events", seq: 7, topic: "order-events", partition: 3 };

    fn key(id: i32, settled: bool) -> StreamKey {
        StreamKey { id, secret: vec![id as u8; 32], settled }
    }

    #[test]
    fn a_mac_is_good_for_its_claim_alone() {
        let keys = StreamKeys::default();
        assert!(keys.sign(CLAIM).is_none() && !keys.verify(b"1:00", CLAIM), "no key, no number");
        keys.replace(vec![key(1, true)]);
        let mac = keys.sign(CLAIM).unwrap();
        assert_eq!(mac.len(), "1:".len() + 32);
        assert!(keys.verify(mac.as_bytes(), CLAIM));
        for other in [
            Claim { stream: "orders/1/order:event", ..CLAIM },
            Claim { seq: 8, ..CLAIM },
            Claim { topic: "order-event", ..CLAIM },
            Claim { partition: 2, ..CLAIM },
            Claim { stream: "orders/1/order:eventso", topic: "rder-events", ..CLAIM },
        ] {
            assert!(!keys.verify(mac.as_bytes(), other));
        }
        for bad in [
            "",
            "1",
            "1:",
            "2:00000000000000000000000000000000",
            "x:é",
            &mac[..mac.len() - 2],
            &format!("{mac}00"),
        ] {
            assert!(!keys.verify(bad.as_bytes(), CLAIM), "{bad}");
        }
        assert!(!keys.verify(b"\xff", CLAIM));
    }

    #[test]
    fn a_new_key_is_known_before_it_signs_and_an_old_one_after() {
        let keys = StreamKeys::default();
        keys.replace(vec![key(2, false), key(1, true)]);
        let old = keys.sign(CLAIM).unwrap();
        assert!(old.starts_with("1:"));
        keys.replace(vec![key(1, true), key(2, true)]);
        assert!(keys.sign(CLAIM).unwrap().starts_with("2:"));
        assert!(keys.verify(old.as_bytes(), CLAIM));
        keys.replace(vec![key(2, true)]);
        assert!(!keys.verify(old.as_bytes(), CLAIM), "a key that was taken away is nobody's");
    }
}
