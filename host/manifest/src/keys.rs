//! The public keys that tokens are checked with.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// Bytes of a public key.
const KEY_BYTES: usize = 32;

/// A public key and its id.
type Named = (String, [u8; KEY_BYTES]);

/// Public keys by their ids. With a new one beside the old one, tokens of both are good. Clones share what [`Keys::replace`] changes.
#[derive(Clone, Debug)]
pub struct Keys(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    keys: RwLock<Box<[Named]>>,
    generation: AtomicU64,
}

impl Keys {
    /// Reads a JSON Web Key Set (RFC 7517); keys of other kinds are left out.
    ///
    /// # Errors
    /// It is none, or has no key that can be used; the text is for who configured it.
    pub fn parse(json: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Key>,
        }
        #[derive(Deserialize)]
        struct Key {
            kty: String,
            #[serde(default)]
            crv: String,
            #[serde(default)]
            kid: String,
            #[serde(default)]
            x: String,
        }
        let set: Set = serde_json::from_str(json).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!("not a JSON Web Key Set, as in {{\"keys\":[…]}} (line {line}, column {column})")
        })?;
        let usable = |key: Key| {
            let bytes = URL_SAFE_NO_PAD.decode(&key.x).ok()?.try_into().ok()?;
            let fits = key.kty == "OKP" && key.crv == "Ed25519" && !key.kid.is_empty();
            fits.then_some((key.kid, bytes))
        };
        let keys: Box<[_]> = set.keys.into_iter().filter_map(usable).collect();
        if keys.is_empty() {
            return Err("no key with kty \"OKP\", crv \"Ed25519\" and a kid in it".to_owned());
        }
        Ok(Self(Arc::new(Shared { keys: RwLock::new(keys), generation: AtomicU64::new(0) })))
    }

    /// The key of this id.
    pub fn find(&self, id: &str) -> Option<[u8; KEY_BYTES]> {
        // Nothing panics while it is held.
        let keys = self.0.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().find(|(known, _)| known == id).map(|(_, key)| *key)
    }

    /// Puts other keys in place of these, for all clones. Tokens that were found good before are checked again.
    pub fn replace(&self, other: &Self) {
        let keys = other.0.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut own = self.0.keys.write().unwrap_or_else(PoisonError::into_inner);
        if *own != keys {
            *own = keys;
            self.0.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// How often they were replaced.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_set_without_a_key_of_ours_is_refused() {
        let x = URL_SAFE_NO_PAD.encode([1; 32]);
        let rsa = json!({ "keys": [{ "kty": "RSA", "kid": "a", "n": "AQ", "e": "AQAB" }] }).to_string();
        let unnamed = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x }] }).to_string();
        let short =
            json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "AQ" }] }).to_string();
        for bad in ["", "secret", "{}", r#"{"keys":[]}"#, &rsa, &unnamed, &short] {
            let said = Keys::parse(bad).unwrap_err();
            assert!(!said.contains("secret"), "{said}");
        }
        let key = |kid: &str| json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x });
        let two = Keys::parse(&json!({ "keys": [key("a"), key("b")] }).to_string()).unwrap();
        assert!(two.find("a").is_some() && two.find("b").is_some() && two.find("c").is_none());
        let (clone, one) = (two.clone(), Keys::parse(&json!({ "keys": [key("c")] }).to_string()).unwrap());
        two.replace(&one);
        assert!(clone.find("c").is_some() && clone.find("a").is_none());
        two.replace(&one);
        assert_eq!(clone.generation(), 1, "the same keys are no change");
    }
}
