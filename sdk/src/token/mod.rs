//! Access tokens: JSON Web Tokens signed with Ed25519, and nothing else.
//!
//! There is one algorithm and one curve, so the token's own `alg` chooses nothing: any other is refused before a key is
//! looked up, and again by the library when it checks the signature.

mod ed25519;

use crate::problem::Problem;
use crate::{Host, http::Request};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

pub use jsonwebtoken::jwk::JwkSet;

/// The `iss` of our tokens.
pub const ISSUER: &str = "orders-auth";
/// The `aud` of our tokens.
pub const AUDIENCE: &str = "orders";
/// How far the clocks of two hosts may differ, in seconds.
pub const CLOCK_LEEWAY_SECONDS: u64 = 5;
/// The largest token that is looked at, in bytes.
pub const TOKEN_LIMIT_BYTES: usize = 4096;

const PUBLIC_KEYS_VARIABLE: &str = "token_public_keys";

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidAlgorithm => Self::Algorithm,
            ErrorKind::InvalidSignature => Self::Signature,
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::NotYetValid,
            ErrorKind::InvalidIssuer
            | ErrorKind::InvalidAudience
            | ErrorKind::MissingRequiredClaim(_)
            | ErrorKind::InvalidClaimFormat(_) => Self::Claims,
            _ => Self::Malformed,
        }
    }
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
    let token = bearer(request)?;
    let keys = public_keys(host).await?;
    verify(token, &keys).map_err(|refused| Problem::unauthorized(refused.to_string()))
}

/// The token that the request brings, unchecked.
///
/// # Errors
/// 401 where it brings none.
pub fn bearer(request: &Request) -> Result<&str, Problem> {
    let header = request.header("authorization")?.unwrap_or_default();
    match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(Problem::unauthorized("send the header authorization: Bearer ACCESS_TOKEN")),
    }
}

/// The public keys that tokens are checked with, as in `/.well-known/jwks.json`.
///
/// # Errors
/// 500 where the variable is missing or holds no key set.
pub async fn public_keys(host: &impl Host) -> Result<JwkSet, Problem> {
    let json = host.variable(PUBLIC_KEYS_VARIABLE).await.map_err(Problem::internal)?;
    serde_json::from_str(&json).map_err(|error| Problem::internal(format!("{PUBLIC_KEYS_VARIABLE}: {error}")))
}

/// Checks a token against the public keys, now.
///
/// # Errors
/// Why it is not accepted.
pub fn verify(token: &str, keys: &JwkSet) -> Result<Caller, Refused> {
    if token.len() > TOKEN_LIMIT_BYTES {
        return Err(Refused::Malformed);
    }
    let header = jsonwebtoken::decode_header(token)?;
    if header.alg != Algorithm::EdDSA {
        return Err(Refused::Algorithm);
    }
    // RFC 7515: what `crit` names must be understood, and nothing is.
    if header.crit.is_some() {
        return Err(Refused::Malformed);
    }
    let key_id = header.kid.ok_or(Refused::Malformed)?;
    let key = keys.find(&key_id).and_then(verifying_key).ok_or(Refused::UnknownKey)?;
    ed25519::install();
    let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation())?.claims;
    Ok(Caller { user_id: claims.sub, role: claims.role })
}

fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.validate_nbf = true;
    validation.leeway = CLOCK_LEEWAY_SECONDS;
    validation
}

/// The key of a published one; none where it is not of our kind.
fn verifying_key(published: &Jwk) -> Option<DecodingKey> {
    let AlgorithmParameters::OctetKeyPair(pair) = &published.algorithm else { return None };
    let key = DecodingKey::from_ed_components(&pair.x).ok()?;
    (pair.curve == EllipticCurve::Ed25519 && ed25519::public_key(&key).is_ok()).then_some(key)
}

/// The private key that tokens are signed with, and the name under which its public part is published.
#[derive(Debug)]
pub struct Signer {
    key: EncodingKey,
    header: Header,
}

impl Signer {
    /// The signer of a private key: PKCS#8 in PEM, as OpenSSL writes it. Its public part is one of `keys`.
    ///
    /// # Errors
    /// It is no such key, or its public part is not published; the text is for the log.
    pub fn new(pem: &str, keys: &JwkSet) -> Result<Self, String> {
        let key = SigningKey::from_pkcs8_pem(pem.trim()).map_err(|error| error.to_string())?;
        let der = key.to_pkcs8_der().map_err(|error| error.to_string())?;
        let is_ours = |published: &&Jwk| {
            let public = verifying_key(published).and_then(|key| ed25519::public_key(&key).ok());
            public == Some(key.verifying_key())
        };
        let published = keys.keys.iter().find(is_ours);
        let published =
            published.ok_or_else(|| format!("its public part is not in {PUBLIC_KEYS_VARIABLE}"))?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid =
            Some(published.common.key_id.clone().ok_or("its public part is published without a kid")?);
        Ok(Self { key: EncodingKey::from_ed_der(der.as_bytes()), header })
    }

    /// Makes a token.
    ///
    /// # Errors
    /// The library could not; the text is for the log.
    pub fn sign(&self, claims: &Claims) -> Result<String, String> {
        ed25519::install();
        jsonwebtoken::encode(&self.header, claims, &self.key).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests;
