//! Access tokens: JSON Web Tokens signed with Ed25519, and nothing else.
//!
//! There is one algorithm and one curve, so the token's own `alg` chooses nothing: any other is refused before a key is
//! looked up. That is also why this is a page of code and not a JWT library, all of which bring RSA and the NIST curves.

use crate::problem::Problem;
use crate::{Host, http::Request, time};
use base64ct::{Base64UrlUnpadded, Encoding};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// The `iss` of our tokens.
pub const ISSUER: &str = "orders-auth";
/// The `aud` of our tokens.
pub const AUDIENCE: &str = "orders";
/// How far the clocks of two hosts may differ, in seconds.
pub const CLOCK_LEEWAY_SECONDS: u64 = 5;
/// The largest token that is looked at, in bytes.
pub const TOKEN_LIMIT_BYTES: usize = 4096;

const ALGORITHM: &str = "EdDSA";
const PUBLIC_KEYS_VARIABLE: &str = "token_public_keys";

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Orders for themselves.
    Customer,
    /// Also keeps the stock.
    Admin,
}

/// Who is calling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The account.
    pub user_id: Uuid,
    /// As it was when the token was made.
    pub role: Role,
}

/// The payload of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the registered claim names of RFC 7519; times in seconds since 1970")]
pub struct Claims {
    pub iss: String,
    pub aud: String,
    pub sub: Uuid,
    pub role: Role,
    pub iat: u64,
    pub nbf: u64,
    pub exp: u64,
}

/// The public keys, as in `/.well-known/jwks.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "RFC 7517's name")]
pub struct KeySet {
    pub keys: Vec<Key>,
}

/// One public key of RFC 8037.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "RFC 7517's and RFC 8037's names")]
pub struct Key {
    pub kty: String,
    pub crv: String,
    pub x: String,
    pub kid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    pub usage: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "told by Display")]
pub enum Refused {
    Malformed,
    Algorithm,
    UnknownKey,
    Signature,
    Claims,
    Expired,
    NotYetValid,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the token is malformed",
            Self::Algorithm => "the token is not signed with EdDSA",
            Self::UnknownKey => "the token is signed with a key that is not known here",
            Self::Signature => "the token's signature is wrong",
            Self::Claims => "the token was not made for this system",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
        })
    }
}

/// Who makes this request.
///
/// # Errors
/// 401 without a token that is accepted; 500 where the public keys are not configured.
pub async fn caller(host: &impl Host, request: &Request) -> Result<Caller, Problem> {
    let header = request.header("authorization")?.unwrap_or_default();
    let token = match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => {
            return Err(Problem::unauthorized("send the header authorization: Bearer ACCESS_TOKEN"));
        }
    };
    let keys = public_keys(host).await?;
    verify(token, &keys, time::unix_seconds()).map_err(|refused| Problem::unauthorized(refused.to_string()))
}

/// The public keys that tokens are checked with.
///
/// # Errors
/// 500 where the variable is missing or holds no key set.
pub async fn public_keys(host: &impl Host) -> Result<KeySet, Problem> {
    let json = host.variable(PUBLIC_KEYS_VARIABLE).await.map_err(Problem::internal)?;
    serde_json::from_str(&json).map_err(|error| Problem::internal(format!("{PUBLIC_KEYS_VARIABLE}: {error}")))
}

/// Checks a token against the public keys, at `now` in seconds since 1970.
///
/// # Errors
/// Why it is not accepted.
pub fn verify(token: &str, keys: &KeySet, now: u64) -> Result<Caller, Refused> {
    if token.len() > TOKEN_LIMIT_BYTES {
        return Err(Refused::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Refused::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(Refused::Malformed)?;
    let header: Header = part(header)?;
    if header.alg != ALGORITHM {
        return Err(Refused::Algorithm);
    }
    let key = keys.keys.iter().find(|key| key.kid == header.kid && key.kty == "OKP" && key.crv == "Ed25519");
    let key = key.and_then(Key::verifying).ok_or(Refused::UnknownKey)?;
    let signature = Base64UrlUnpadded::decode_vec(signature).map_err(|_| Refused::Malformed)?;
    let signature = Signature::from_slice(&signature).map_err(|_| Refused::Malformed)?;
    key.verify_strict(signed.as_bytes(), &signature).map_err(|_| Refused::Signature)?;

    let claims: Claims = part(payload)?;
    if claims.iss != ISSUER || claims.aud != AUDIENCE {
        return Err(Refused::Claims);
    }
    if now >= claims.exp.saturating_add(CLOCK_LEEWAY_SECONDS) {
        return Err(Refused::Expired);
    }
    if now.saturating_add(CLOCK_LEEWAY_SECONDS) < claims.nbf {
        return Err(Refused::NotYetValid);
    }
    Ok(Caller { user_id: claims.sub, role: claims.role })
}

/// Makes a token. `key` is the private part of the key that is published as `kid`.
#[must_use]
pub fn sign(claims: &Claims, key: &SigningKey, kid: &str) -> String {
    let header = encode(&Header { alg: ALGORITHM.to_owned(), kid: kid.to_owned() });
    let signed = format!("{header}.{}", encode(claims));
    let signature = key.sign(signed.as_bytes());
    format!("{signed}.{}", Base64UrlUnpadded::encode_string(&signature.to_bytes()))
}

impl KeySet {
    /// The published key that belongs to this private one.
    #[must_use]
    pub fn key_of(&self, private: &SigningKey) -> Option<&Key> {
        self.keys.iter().find(|key| key.verifying() == Some(private.verifying_key()))
    }
}

impl Key {
    /// The published form of a key.
    #[must_use]
    pub fn new(key: &VerifyingKey, kid: &str) -> Self {
        Self {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            x: Base64UrlUnpadded::encode_string(key.as_bytes()),
            kid: kid.to_owned(),
            alg: Some(ALGORITHM.to_owned()),
            usage: Some("sig".to_owned()),
        }
    }

    fn verifying(&self) -> Option<VerifyingKey> {
        let mut bytes = [0; 32];
        let decoded = Base64UrlUnpadded::decode(&self.x, &mut bytes).ok()?;
        VerifyingKey::from_bytes(decoded.try_into().ok()?).ok()
    }
}

fn part<T: serde::de::DeserializeOwned>(encoded: &str) -> Result<T, Refused> {
    let json = Base64UrlUnpadded::decode_vec(encoded).map_err(|_| Refused::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| Refused::Malformed)
}

fn encode(part: &impl Serialize) -> String {
    // Structs of strings and numbers: writing them into memory cannot fail.
    Base64UrlUnpadded::encode_string(&serde_json::to_vec(part).unwrap_or_default())
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
