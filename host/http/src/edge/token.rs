//! Access tokens at the edge: JSON Web Signatures in compact form, made with Ed25519 and nothing else.
//!
//! There is one algorithm, so that a token's own `alg` chooses nothing. What is checked is what any application can ask: a known
//! key, the signature, `iss`, `aud`, `exp`, `nbf`, and that there is a `sub`. The function checks again, and what only it knows.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::bounded::{Bounded, Until};
use fnhost_manifest::keys::Keys;

/// The largest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 4096;
/// How far the clocks of two hosts may differ, in seconds.
pub const CLOCK_LEEWAY_S: u64 = 5;
/// Tokens that are remembered as good, until they expire; 56 bytes each.
pub const REMEMBERED_TOKENS: usize = 16_384;
/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Missing,
    Malformed,
    Algorithm,
    UnknownKey,
    Signature,
    Claims,
    Expired,
    NotYetValid,
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Missing => "send the header authorization: Bearer ACCESS_TOKEN",
            Self::Malformed => "the token is malformed",
            Self::Algorithm => "the token is not signed with EdDSA",
            Self::UnknownKey => "the token is signed with a key that is not known here",
            Self::Signature => "the token's signature is wrong",
            Self::Claims => "the token was not made for this application",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
        })
    }
}

/// A token that was good when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Good {
    /// Hash of the subject.
    subject: u64,
    /// When it ceases to be, leeway included, in seconds since 1970.
    until: u64,
    /// Of the keys that it was good under.
    generation: u64,
}

impl Until for Good {
    fn until(&self) -> u64 {
        self.until
    }
}

/// Checks tokens, and remembers the good ones for as long as they are.
pub(super) struct Tokens {
    keys: Keys,
    issuer: String,
    audience: String,
    good: Bounded<[u8; 32], Good>,
    hasher: RandomState,
}

impl Tokens {
    pub fn new(keys: Keys, issuer: &str, audience: &str) -> Self {
        Self {
            keys,
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            good: Bounded::new(REMEMBERED_TOKENS),
            hasher: RandomState::new(),
        }
    }

    /// The hashed subject of the token that a request brings.
    ///
    /// # Errors
    /// There is none, or it is not good.
    pub fn check(&self, headers: &HeaderMap) -> Result<u64, Refused> {
        let token = bearer(headers)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| Refused::NotYetValid)?.as_secs();
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let generation = self.keys.generation();
        if let Some(good) = self.good.get(&digest).filter(|good| good.generation == generation) {
            return if now < good.until { Ok(good.subject) } else { Err(Refused::Expired) };
        }
        // Read before the keys are: what is found good under older ones is checked again.
        let good = Good { generation, ..self.verify(token, now)? };
        // Whatever stood there in its place: it can be verified again.
        let _ = self.good.update(&digest, |_| Ok::<_, ()>(((), good)));
        Ok(good.subject)
    }

    fn verify(&self, token: &str, now: u64) -> Result<Good, Refused> {
        #[derive(Deserialize)]
        struct Header {
            alg: String,
            kid: Option<String>,
            crit: Option<serde::de::IgnoredAny>,
        }
        // One audience and no list of them: who is among many could use the token at the others.
        #[derive(Deserialize)]
        struct Claims {
            iss: String,
            aud: String,
            sub: String,
            exp: u64,
            nbf: u64,
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Refused::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Refused::Malformed)?;
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| Refused::Malformed)?;
        if header.alg != "EdDSA" {
            return Err(Refused::Algorithm);
        }
        // RFC 7515: what `crit` names must be understood, and nothing is.
        if header.crit.is_some() {
            return Err(Refused::Malformed);
        }
        let key = self.keys.find(&header.kid.ok_or(Refused::Malformed)?).ok_or(Refused::UnknownKey)?;
        UnparsedPublicKey::new(&ED25519, key)
            .verify(signed.as_bytes(), &decode(signature)?)
            .map_err(|_| Refused::Signature)?;
        // Only now is anything in it believed.
        let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| Refused::Claims)?;
        if claims.iss != self.issuer || claims.aud != self.audience || claims.sub.is_empty() {
            return Err(Refused::Claims);
        }
        let until = claims.exp.saturating_add(CLOCK_LEEWAY_S);
        if now >= until {
            return Err(Refused::Expired);
        }
        if claims.nbf > now.saturating_add(CLOCK_LEEWAY_S) {
            return Err(Refused::NotYetValid);
        }
        Ok(Good { subject: self.hasher.hash_one(&claims.sub), until, generation: 0 })
    }
}

/// The token of a request. Two headers are refused: the function might read the other one.
pub(in crate::edge) fn bearer(headers: &HeaderMap) -> Result<&str, Refused> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(Refused::Missing)?;
    if values.next().is_some() {
        return Err(Refused::Malformed);
    }
    let (scheme, token) =
        value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or(Refused::Missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refused::Missing);
    }
    Some(token.trim()).filter(|token| token.len() <= MAX_TOKEN_BYTES).ok_or(Refused::Malformed)
}

fn decode(part: &str) -> Result<Vec<u8>, Refused> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Refused::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    use serde_json::{Value, json};

    const NOW: u64 = 1_800_000_000;

    fn pair(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    fn set(seeds: &[(&str, u8)]) -> String {
        let key = |(kid, seed): &(&str, u8)| {
            let x = URL_SAFE_NO_PAD.encode(pair(*seed).public_key());
            json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": x })
        };
        json!({ "keys": seeds.iter().map(key).collect::<Vec<_>>() }).to_string()
    }

    fn tokens(seeds: &[(&str, u8)]) -> Tokens {
        Tokens::new(Keys::parse(&set(seeds)).unwrap(), "us", "ours")
    }

    fn sign(header: &Value, claims: &Value, seed: u8) -> String {
        let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let signature = URL_SAFE_NO_PAD.encode(pair(seed).sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn claims(changes: Value) -> Value {
        let mut claims = json!({ "iss": "us", "aud": "ours", "sub": "ada", "nbf": NOW, "exp": NOW + 60 });
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        claims
    }

    #[test]
    fn only_a_token_of_a_known_key_for_us_and_now_is_good() {
        let tokens = tokens(&[("old", 1), ("new", 2)]);
        let head = json!({ "alg": "EdDSA", "kid": "new" });
        let good = sign(&head, &claims(json!({})), 2);
        let [header, payload, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
        let flipped = if signature.starts_with('A') { "B" } else { "A" };
        let with_head = |head: Value, seed| sign(&head, &claims(json!({})), seed);
        let with_claims = |change: Value| sign(&head, &claims(change), 2);
        let root = URL_SAFE_NO_PAD.encode(claims(json!({ "sub": "root" })).to_string());
        let cases: Vec<(&str, String, Option<Refused>)> = vec![
            ("good", good.clone(), None),
            ("of the key before", with_head(json!({ "alg": "EdDSA", "kid": "old" }), 1), None),
            ("empty", String::new(), Some(Refused::Malformed)),
            ("two parts", format!("{header}.{payload}"), Some(Refused::Malformed)),
            ("four parts", format!("a.{good}"), Some(Refused::Malformed)),
            ("padded", format!("{good}="), Some(Refused::Malformed)),
            ("alg none", with_head(json!({ "alg": "none", "kid": "new" }), 2), Some(Refused::Algorithm)),
            ("alg HS256", with_head(json!({ "alg": "HS256", "kid": "new" }), 2), Some(Refused::Algorithm)),
            ("no alg", with_head(json!({ "kid": "new" }), 2), Some(Refused::Malformed)),
            ("no kid", with_head(json!({ "alg": "EdDSA" }), 2), Some(Refused::Malformed)),
            (
                "crit",
                with_head(json!({ "alg": "EdDSA", "kid": "new", "crit": [] }), 2),
                Some(Refused::Malformed),
            ),
            ("unknown key", with_head(json!({ "alg": "EdDSA", "kid": "x" }), 2), Some(Refused::UnknownKey)),
            (
                "another's name",
                with_head(json!({ "alg": "EdDSA", "kid": "old" }), 2),
                Some(Refused::Signature),
            ),
            ("another key", with_head(head.clone(), 3), Some(Refused::Signature)),
            ("another payload", format!("{header}.{root}.{signature}"), Some(Refused::Signature)),
            ("unsigned", format!("{header}.{payload}."), Some(Refused::Signature)),
            ("flipped", format!("{header}.{payload}.{flipped}{}", &signature[1..]), Some(Refused::Signature)),
            ("issuer", with_claims(json!({ "iss": "them" })), Some(Refused::Claims)),
            ("audience", with_claims(json!({ "aud": "theirs" })), Some(Refused::Claims)),
            ("audiences", with_claims(json!({ "aud": ["ours", "theirs"] })), Some(Refused::Claims)),
            ("no subject", with_claims(json!({ "sub": null })), Some(Refused::Claims)),
            ("no expiry", with_claims(json!({ "exp": null })), Some(Refused::Claims)),
            ("no start", with_claims(json!({ "nbf": null })), Some(Refused::Claims)),
            ("expired", with_claims(json!({ "exp": NOW - CLOCK_LEEWAY_S })), Some(Refused::Expired)),
            ("just not", with_claims(json!({ "exp": NOW - CLOCK_LEEWAY_S + 1 })), None),
            ("early", with_claims(json!({ "nbf": NOW + CLOCK_LEEWAY_S + 1 })), Some(Refused::NotYetValid)),
            ("just in time", with_claims(json!({ "nbf": NOW + CLOCK_LEEWAY_S })), None),
        ];
        for (name, token, refused) in cases {
            assert_eq!(tokens.verify(&token, NOW).err(), refused, "{name}");
        }
    }

    fn headers(values: &[&str]) -> HeaderMap {
        let value = |value: &&str| (header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        values.iter().map(value).collect()
    }

    #[test]
    fn a_good_token_is_remembered_until_it_expires_and_a_bad_one_never_is() {
        let tokens = tokens(&[("new", 2)]);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let head = json!({ "alg": "EdDSA", "kid": "new" });
        let signed = |until: u64| sign(&head, &claims(json!({ "nbf": now, "exp": until })), 2);
        let good = signed(now + 600);
        let first = tokens.check(&headers(&[&format!("Bearer {good}")])).unwrap();
        assert_eq!(tokens.check(&headers(&[&format!("bearer  {good}")])), Ok(first));
        assert_eq!(tokens.good.size().0, 1);
        assert!(tokens.check(&headers(&[&format!("Bearer {}", signed(now - 60))])).is_err());
        assert!(tokens.check(&headers(&[&format!("Bearer {good}x")])).is_err());
        assert_eq!(tokens.good.size().0, 1);
        // What is remembered has an end too.
        let digest: [u8; 32] = Sha256::digest(good.as_bytes()).into();
        let ended = Good { subject: first, until: now, generation: 0 };
        tokens.good.update(&digest, |_| Ok::<_, ()>(((), ended))).unwrap();
        assert_eq!(tokens.check(&headers(&[&format!("Bearer {good}")])), Err(Refused::Expired));
    }

    #[test]
    fn keys_that_are_replaced_count_at_once_and_those_that_are_gone_no_more() {
        let keys = Keys::parse(&set(&[("old", 1)])).unwrap();
        let tokens = Tokens::new(keys.clone(), "us", "ours");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let bearer = |kid: &str, seed: u8| {
            let claims = claims(json!({ "nbf": now, "exp": now + 600 }));
            headers(&[&format!("Bearer {}", sign(&json!({ "alg": "EdDSA", "kid": kid }), &claims, seed))])
        };
        let (old, new) = (bearer("old", 1), bearer("new", 2));
        assert!(tokens.check(&old).is_ok() && tokens.check(&new) == Err(Refused::UnknownKey));
        keys.replace(&Keys::parse(&set(&[("new", 2), ("old", 1)])).unwrap());
        assert!(tokens.check(&old).is_ok() && tokens.check(&new).is_ok());
        keys.replace(&Keys::parse(&set(&[("new", 2)])).unwrap());
        // It was remembered as good.
        assert!(tokens.check(&old) == Err(Refused::UnknownKey) && tokens.check(&new).is_ok());
    }

    #[test]
    fn what_is_no_single_bearers_token_is_none() {
        let tokens = tokens(&[("new", 2)]);
        let huge = format!("Bearer {}", "a".repeat(MAX_TOKEN_BYTES + 1));
        let cases: [(&[&str], Refused); 6] = [
            (&[], Refused::Missing),
            (&[""], Refused::Missing),
            (&["Basic YTpi"], Refused::Missing),
            (&["Bearer a.b.c"], Refused::Malformed),
            (&["Bearer a.b.c", "Bearer a.b.c"], Refused::Malformed),
            (&[&huge], Refused::Malformed),
        ];
        for (values, refused) in cases {
            assert_eq!(tokens.check(&headers(values)), Err(refused), "{values:?}");
        }
    }
}
