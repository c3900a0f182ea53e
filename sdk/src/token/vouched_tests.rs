//! Whom the edge vouches for.

use super::super::tests::{Claims, EXPECTED, claims, good, header, keys, own_key, signed};
use super::*;
use crate::http::Body;
use crate::{Row, Sql, SqlError, Value};
use serde_json::json;

const SECRET: [u8; BYTES] = [9; BYTES];

/// A host that checks tokens at its edge where it has a secret.
struct Served {
    secret: Option<[u8; BYTES]>,
}

impl Sql for Served {
    async fn query(&self, statement: &'static str, _: Vec<Value>) -> std::result::Result<Vec<Row>, SqlError> {
        panic!("the database was asked: {statement}")
    }

    async fn execute(&self, statement: &'static str, _: Vec<Value>) -> std::result::Result<u64, SqlError> {
        panic!("the database was asked: {statement}")
    }
}

impl Host for Served {
    async fn variable(&self, name: &str) -> std::result::Result<String, String> {
        match (name, self.secret) {
            (SECRET_VARIABLE, Some(secret)) => Ok(Base64UrlUnpadded::encode_string(&secret)),
            ("token_public_keys", _) => Ok(serde_json::to_string(&keys()).unwrap()),
            _ => Err(format!("there is no variable {name}")),
        }
    }
}

fn mac(secret: &[u8], token: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(token.rsplit_once('.').unwrap().0.as_bytes());
    Base64UrlUnpadded::encode_string(&mac.finalize().into_bytes())
}

fn accepted(secret: Option<[u8; BYTES]>, token: &str, mac: &str) -> bool {
    let headers = [("authorization", format!("Bearer {token}")), (MAC_HEADER, mac.to_owned())];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.into_bytes())).into();
    let request = Request {
        method: "GET".to_owned(),
        path: "/".to_owned(),
        query: String::new(),
        headers,
        body: Body::Read(Vec::new()),
    };
    let served = Served { secret };
    let claims = EXPECTED.claims::<Claims>(&served, &request);
    let mut claims = std::pin::pin!(claims);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match claims.as_mut().poll(&mut context) {
        std::task::Poll::Ready(claims) => claims.is_ok(),
        std::task::Poll::Pending => panic!("nothing here waits"),
    }
}

/// A good token with another signature: whoever accepts it has not checked that.
fn unsigned() -> String {
    format!("{}.{}", good().rsplit_once('.').unwrap().0, Base64UrlUnpadded::encode_string(&[1; 64]))
}

#[test]
fn the_edges_word_is_taken_for_the_signature() {
    let token = unsigned();
    assert!(accepted(Some(SECRET), &token, &mac(&SECRET, &token)));
}

#[test]
fn without_its_word_the_signature_counts() {
    let (good, unsigned) = (good(), unsigned());
    let right = mac(&SECRET, &unsigned);
    for (secret, mac) in [
        // Under Spin a client may send what it likes.
        (None, right.as_str()),
        (Some(SECRET), &mac(&[8; BYTES], &unsigned)),
        (Some(SECRET), &mac(&SECRET, "another.one.")),
        (Some(SECRET), ""),
        (Some(SECRET), "not base64"),
        (Some(SECRET), &right[1..]),
    ] {
        assert!(!accepted(secret, &unsigned, mac), "{mac}");
        assert!(accepted(secret, &good, mac), "{mac}");
    }
}

#[test]
fn its_word_covers_nothing_but_the_signature() {
    let good_header = header(|_| {});
    for changes in [
        json!({"exp": 1}),
        json!({"nbf": crate::time::unix_seconds() + 900}),
        json!({"iss": "another"}),
        json!({"aud": "another"}),
        json!({"sub": null}),
        json!({"role": "root"}),
    ] {
        let token = signed(&good_header, &claims(changes.clone()), &own_key());
        assert!(!accepted(Some(SECRET), &token, &mac(&SECRET, &token)), "{changes}");
    }
    let claims = claims(json!({}));
    let other = Base64UrlUnpadded::encode_string(br#"{"alg":"HS256","kid":"test"}"#);
    let token = format!("{other}.{}.AA", Base64UrlUnpadded::encode_string(claims.to_string().as_bytes()));
    assert!(!accepted(Some(SECRET), &token, &mac(&SECRET, &token)), "another algorithm");
}
