//! Which tokens are accepted.

use super::*;

const NOW: u64 = 1_800_000_000;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn keys() -> KeySet {
    KeySet { keys: vec![Key::new(&key().verifying_key(), "one")] }
}

fn claims() -> Claims {
    Claims {
        iss: ISSUER.to_owned(),
        aud: AUDIENCE.to_owned(),
        sub: Uuid::from_u128(1),
        role: Role::Customer,
        iat: NOW,
        nbf: NOW,
        exp: NOW + 900,
    }
}

fn with_header(header: &str) -> String {
    let token = sign(&claims(), &key(), "one");
    let rest = token.split_once('.').unwrap().1;
    format!("{}.{rest}", Base64UrlUnpadded::encode_string(header.as_bytes()))
}

#[test]
fn a_good_token_names_the_caller() {
    let caller = Caller { user_id: Uuid::from_u128(1), role: Role::Customer };
    assert_eq!(verify(&sign(&claims(), &key(), "one"), &keys(), NOW), Ok(caller));
    let admin = Claims { role: Role::Admin, ..claims() };
    assert_eq!(verify(&sign(&admin, &key(), "one"), &keys(), NOW).unwrap().role, Role::Admin);
    assert_eq!(keys().key_of(&key()).unwrap().kid, "one");
    assert_eq!(keys().key_of(&SigningKey::from_bytes(&[8; 32])), None);
}

/// Tokens that are not well formed or not well signed: name, token and why it is refused.
fn forged() -> [(&'static str, String, Refused); 13] {
    let good = sign(&claims(), &key(), "one");
    let (head, tail) = good.rsplit_once('.').unwrap();
    let forged = encode(&Claims { role: Role::Admin, ..claims() });
    let header = good.split('.').next().unwrap();
    [
        ("empty", String::new(), Refused::Malformed),
        ("two parts", head.to_owned(), Refused::Malformed),
        ("four parts", format!("a.{good}"), Refused::Malformed),
        ("padded", format!("{good}="), Refused::Malformed),
        ("huge", format!("{good}{}", "A".repeat(TOKEN_LIMIT_BYTES)), Refused::Malformed),
        ("alg none", with_header(r#"{"alg":"none","kid":"one"}"#), Refused::Algorithm),
        ("alg HS256", with_header(r#"{"alg":"HS256","kid":"one"}"#), Refused::Algorithm),
        ("no kid", with_header(r#"{"alg":"EdDSA"}"#), Refused::Malformed),
        ("header changed", with_header(r#"{"alg":"EdDSA","kid":"one" }"#), Refused::Signature),
        ("unknown kid", sign(&claims(), &key(), "two"), Refused::UnknownKey),
        ("other key", sign(&claims(), &SigningKey::from_bytes(&[8; 32]), "one"), Refused::Signature),
        ("no signature", format!("{head}."), Refused::Malformed),
        ("payload changed", format!("{header}.{forged}.{tail}"), Refused::Signature),
    ]
}

/// Tokens that are well signed and do not hold here and now.
fn not_for_us() -> [(&'static str, String, Refused); 4] {
    let signed = |claims: Claims| sign(&claims, &key(), "one");
    let [issuer, audience, expired, early] = [(); 4].map(|()| claims());
    let exp = NOW - CLOCK_LEEWAY_SECONDS;
    let nbf = NOW + CLOCK_LEEWAY_SECONDS + 1;
    [
        ("other issuer", signed(Claims { iss: "x".into(), ..issuer }), Refused::Claims),
        ("other audience", signed(Claims { aud: "x".into(), ..audience }), Refused::Claims),
        ("expired", signed(Claims { exp, ..expired }), Refused::Expired),
        ("early", signed(Claims { nbf, ..early }), Refused::NotYetValid),
    ]
}

#[test]
fn every_other_token_is_refused() {
    for (name, token, refused) in forged().into_iter().chain(not_for_us()) {
        assert_eq!(verify(&token, &keys(), NOW), Err(refused), "{name}");
    }
}
