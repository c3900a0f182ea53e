//! Which tokens are accepted.

use super::*;
use crate::time::unix_seconds;
use base64ct::{Base64UrlUnpadded, Encoding};
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;
use uuid::Uuid;

pub(super) const EXPECTED: Expected = Expected { issuer: "issuer", audience: "audience" };
/// Further than any test's clock runs, in seconds.
const WHILE: u64 = 900;

/// What an application has in its tokens.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    iss: String,
    aud: String,
    sub: Uuid,
    role: Role,
    iat: u64,
    nbf: u64,
    exp: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Customer,
    Admin,
}

fn verify(token: &str, keys: &JwkSet) -> Result<Claims, Refused> {
    EXPECTED.verify(token, keys)
}

fn private_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn pem() -> String {
    private_key().to_pkcs8_pem(LineEnding::LF).unwrap().to_string()
}

pub(super) fn keys() -> JwkSet {
    let x = Base64UrlUnpadded::encode_string(private_key().verifying_key().as_bytes());
    let key = json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "test", "alg": "EdDSA", "use": "sig"});
    serde_json::from_value(json!({ "keys": [key] })).unwrap()
}

pub(super) fn own_key() -> EncodingKey {
    EncodingKey::from_ed_der(private_key().to_pkcs8_der().unwrap().as_bytes())
}

fn other_key() -> EncodingKey {
    EncodingKey::from_ed_der(SigningKey::from_bytes(&[8; 32]).to_pkcs8_der().unwrap().as_bytes())
}

/// The claims of a good token, some of them changed; null takes one away.
pub(super) fn claims(changes: Value) -> Value {
    let now = unix_seconds();
    let mut claims = json!({
        "iss": EXPECTED.issuer, "aud": EXPECTED.audience, "sub": Uuid::from_u128(1), "role": "customer",
        "iat": now, "nbf": now, "exp": now + WHILE,
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

pub(super) fn header(change: impl FnOnce(&mut Header)) -> Header {
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some("test".to_owned());
    change(&mut header);
    header
}

pub(super) fn signed(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    ed25519::install();
    jsonwebtoken::encode(header, claims, key).unwrap()
}

pub(super) fn good() -> String {
    signed(&header(|_| {}), &claims(json!({})), &own_key())
}

/// A part of a token, encoded.
fn part(json: &str) -> String {
    Base64UrlUnpadded::encode_string(json.as_bytes())
}

/// A good token under another header.
fn with_header(header: &str) -> String {
    format!("{}.{}", part(header), good().split_once('.').unwrap().1)
}

#[test]
fn a_good_token_brings_its_claims() {
    let now = unix_seconds();
    let signer = Signer::new(&pem(), &keys()).unwrap();
    for role in [Role::Customer, Role::Admin] {
        let (iss, aud) = (EXPECTED.issuer.to_owned(), EXPECTED.audience.to_owned());
        let claims = Claims { iss, aud, sub: Uuid::from_u128(7), role, iat: now, nbf: now, exp: now + WHILE };
        assert_eq!(verify(&signer.sign(&claims).unwrap(), &keys()), Ok(claims));
    }
    assert_eq!(verify(&good(), &keys()).unwrap().sub, Uuid::from_u128(1));
}

/// Tokens that are not well formed or not well signed: name, token and why it is refused.
fn forged() -> Vec<(&'static str, String, Refused)> {
    let good = good();
    let [head, payload, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let admin = part(&claims(json!({"role": "admin"})).to_string());
    // What a verifier that let the token choose would check against the public key as a secret.
    let AlgorithmParameters::OctetKeyPair(public) = &keys().keys[0].algorithm else { panic!("not our key") };
    let bytes = verifying_key(&keys().keys[0]).unwrap().try_get_as_bytes().unwrap().to_vec();
    let swapped = |secret: &[u8]| {
        let signed = format!("{}.{payload}", part(r#"{"alg":"HS256","kid":"test","typ":"JWT"}"#));
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
        mac.update(signed.as_bytes());
        format!("{signed}.{}", Base64UrlUnpadded::encode_string(&mac.finalize().into_bytes()))
    };
    let own = own_key();
    let cut = &signature[..84];
    vec![
        ("empty", String::new(), Refused::Malformed),
        ("two parts", format!("{head}.{payload}"), Refused::Malformed),
        ("four parts", format!("a.{good}"), Refused::Malformed),
        ("padded", format!("{good}="), Refused::Malformed),
        ("huge", format!("{good}{}", "A".repeat(TOKEN_LIMIT_BYTES)), Refused::Malformed),
        ("alg none", with_header(r#"{"alg":"none","kid":"test"}"#), Refused::Malformed),
        ("alg none, unsigned", format!("{}.{payload}.", part(r#"{"alg":"none"}"#)), Refused::Malformed),
        ("alg HS256", with_header(r#"{"alg":"HS256","kid":"test"}"#), Refused::Algorithm),
        ("HS256 with the public key", swapped(public.x.as_bytes()), Refused::Algorithm),
        ("HS256 with the public key's bytes", swapped(&bytes), Refused::Algorithm),
        ("no kid", with_header(r#"{"alg":"EdDSA"}"#), Refused::Malformed),
        (
            "unknown kid",
            signed(&header(|h| h.kid = Some("two".into())), &claims(json!({})), &own),
            Refused::UnknownKey,
        ),
        (
            "crit",
            signed(&header(|h| h.crit = Some(vec!["b64".into()])), &claims(json!({})), &own),
            Refused::Malformed,
        ),
        ("header changed", with_header(r#"{"alg":"EdDSA","kid":"test","typ":"at"}"#), Refused::Signature),
        ("other key", signed(&header(|_| {}), &claims(json!({})), &other_key()), Refused::Signature),
        ("no signature", format!("{head}.{payload}."), Refused::Signature),
        ("signature cut", format!("{head}.{payload}.{cut}"), Refused::Signature),
        ("payload changed", format!("{head}.{admin}.{signature}"), Refused::Signature),
    ]
}

/// Claims that are well signed and do not hold here and now.
fn not_for_us() -> Vec<(&'static str, Value, Refused)> {
    let now = unix_seconds();
    vec![
        ("other issuer", json!({"iss": "x"}), Refused::Claims),
        ("other audience", json!({"aud": "x"}), Refused::Claims),
        ("expired", json!({"exp": now - CLOCK_LEEWAY_SECONDS - 1}), Refused::Expired),
        ("early", json!({"nbf": now + WHILE}), Refused::NotYetValid),
        ("exp is no number", json!({"exp": "tomorrow"}), Refused::Malformed),
        ("no issuer", json!({"iss": null}), Refused::Malformed),
        ("no audience", json!({"aud": null}), Refused::Malformed),
        ("no exp", json!({"exp": null}), Refused::Malformed),
        ("no nbf", json!({"nbf": null}), Refused::Malformed),
        ("no subject", json!({"sub": null}), Refused::Malformed),
        ("a role that does not exist", json!({"role": "root"}), Refused::Malformed),
    ]
}

#[test]
fn every_other_token_is_refused() {
    let own = own_key();
    let signed = not_for_us()
        .into_iter()
        .map(|(name, changes, refused)| (name, signed(&header(|_| {}), &claims(changes), &own), refused));
    for (name, token, refused) in forged().into_iter().chain(signed) {
        assert_eq!(verify(&token, &keys()), Err(refused), "{name}");
    }
}

#[test]
fn clocks_may_differ_a_little() {
    let own = own_key();
    let now = unix_seconds();
    for changes in [json!({"exp": now - 1}), json!({"nbf": now + 2})] {
        assert!(verify(&signed(&header(|_| {}), &claims(changes), &own), &keys()).is_ok());
    }
}

#[test]
fn published_keys_of_another_kind_check_nothing() {
    for key in [
        json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "kid": "test"}),
        json!({"kty": "OKP", "crv": "P-256", "x": "A".repeat(43), "kid": "test"}),
        json!({"kty": "oct", "k": "AAAA", "kid": "test"}),
        json!({"kty": "RSA", "n": "AAAA", "e": "AQAB", "kid": "test"}),
        json!({"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA", "kid": "test"}),
    ] {
        let keys: JwkSet = serde_json::from_value(json!({"keys": [key]})).unwrap();
        assert_eq!(verify(&good(), &keys), Err(Refused::UnknownKey), "{key}");
    }
}

#[test]
fn a_signer_is_of_a_published_key() {
    let none = JwkSet { keys: vec![] };
    for (pem, keys, reason) in [
        (pem().as_str(), &none, "not in token_public_keys"),
        ("", &keys(), "PEM"),
        (&pem().replace("PRIVATE", "PUBLIC"), &keys(), "PEM"),
    ] {
        let error = Signer::new(pem, keys).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}
