//! Access tokens: JSON Web Tokens signed with Ed25519, and nothing else.
//!
//! An application says whose tokens it [expects](Expected) and what their claims are; the claims are a type of its own.
//! There is one algorithm and one curve, so the token's own `alg` chooses nothing: any other is refused before a key is
//! looked up, and again by the library when it checks the signature.

mod ed25519;
mod vouched;

use crate::problem::Problem;
use crate::{Host, http::Request};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

pub use jsonwebtoken::jwk::JwkSet;

/// How far the clocks of two hosts may differ, in seconds.
pub const CLOCK_LEEWAY_SECONDS: u64 = 5;
/// The largest token that is looked at, in bytes.
pub const TOKEN_LIMIT_BYTES: usize = 4096;

/// The component variable with the public keys: a JWK set.
pub const PUBLIC_KEYS_VARIABLE: &str = "token_public_keys";

/// Whose tokens are accepted.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The `iss` that a token has to have: who made it.
    pub issuer: &'static str,
    /// The `aud` that a token has to have: for whom it was made.
    pub audience: &'static str,
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

/// The public keys that tokens are checked with, from the variable [`PUBLIC_KEYS_VARIABLE`].
///
/// # Errors
/// 500 where the variable is missing or holds no key set.
pub async fn public_keys(host: &impl Host) -> Result<JwkSet, Problem> {
    let json = host.variable(PUBLIC_KEYS_VARIABLE).await.map_err(Problem::internal)?;
    serde_json::from_str(&json).map_err(|error| Problem::internal(format!("{PUBLIC_KEYS_VARIABLE}: {error}")))
}

impl Expected {
    /// The claims of the token that this request brings, which was checked: its signature by the edge where that vouches for it,
    /// as it does under fnhost, and here otherwise; everything else here.
    ///
    /// # Errors
    /// 401 without a token that is accepted; 500 where the public keys are not configured.
    pub async fn claims<C: DeserializeOwned>(
        self,
        host: &impl Host,
        request: &Request,
    ) -> Result<C, Problem> {
        let token = request.bearer()?;
        // A token that is not accepted so is looked at again, for the reason.
        if let Some(key) = vouched::key(host, request).await
            && let Ok(claims) = self.decode(token, &key)
        {
            return Ok(claims);
        }
        let keys = public_keys(host).await?;
        self.verify(token, &keys).map_err(|refused| Problem::unauthorized(refused.to_string()))
    }

    /// The claims of a token, where it is signed with one of the keys and holds here and now. It has an expiry (`exp`), a
    /// beginning (`nbf`) and a subject (`sub`), beside issuer and audience.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn verify<C: DeserializeOwned>(self, token: &str, keys: &JwkSet) -> Result<C, Refused> {
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
        Ok(self.decode(token, &key)?)
    }

    fn decode<C: DeserializeOwned>(self, token: &str, key: &DecodingKey) -> Result<C, Error> {
        ed25519::install();
        Ok(jsonwebtoken::decode::<C>(token, key, &self.validation())?.claims)
    }

    fn validation(self) -> Validation {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.set_issuer(&[self.issuer]);
        validation.set_audience(&[self.audience]);
        validation.validate_nbf = true;
        validation.leeway = CLOCK_LEEWAY_SECONDS;
        validation
    }
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
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, String> {
        ed25519::install();
        jsonwebtoken::encode(&self.header, claims, &self.key).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests;
