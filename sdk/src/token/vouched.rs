//! Tokens whose signature the edge has checked.
//!
//! To check an Ed25519 signature takes WebAssembly 0.3 ms, and under fnhost the edge has done it before the function is called. It
//! says so by a MAC of what the signature covers, under a secret that only it and this component have. To the JWT library that
//! is one more kind of key, so that everything else about a token is checked by the same code. Under Spin there is no secret,
//! and what a client sends in its place is not looked at.

use crate::Host;
use crate::http::Request;
use base64ct::{Base64UrlUnpadded, Encoding as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::crypto::JwtVerifier;
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey};
use sha2::Sha256;

/// The variable with the secret, in unpadded base64url; fnhost gives it to every component.
const SECRET_VARIABLE: &str = "fnhost_token_secret";
/// The header with the MAC: HMAC-SHA-256 (RFC 2104) of the token's `header.claims`, in unpadded base64url.
const MAC_HEADER: &str = "fnhost-token-mac";
/// Bytes of secret and MAC, each.
const BYTES: usize = 32;

/// The key of the token that a request brings, where the edge vouches for it: the secret, then the MAC.
pub(super) async fn key(host: &impl Host, request: &Request) -> Option<DecodingKey> {
    let mac = request.header(MAC_HEADER).ok()??;
    let secret = host.variable(SECRET_VARIABLE).await.ok()?;
    let mut both = [0; 2 * BYTES];
    let (first, second) = both.split_at_mut(BYTES);
    for (text, part) in [(secret.as_str(), first), (mac, second)] {
        let decoded = Base64UrlUnpadded::decode(text, part).ok()?;
        if decoded.len() != BYTES {
            return None;
        }
    }
    Some(DecodingKey::from_secret(&both))
}

/// Checks the MAC in the place of the signature.
pub(super) struct Vouched {
    secret: [u8; BYTES],
    mac: [u8; BYTES],
}

impl Vouched {
    pub fn new(key: &DecodingKey) -> Result<Self> {
        let (secret, mac) = key.try_get_as_bytes()?.split_first_chunk().ok_or(ErrorKind::InvalidKeyFormat)?;
        Ok(Self { secret: *secret, mac: mac.try_into().map_err(|_| ErrorKind::InvalidKeyFormat)? })
    }
}

impl Verifier<Vec<u8>> for Vouched {
    fn verify(&self, signed: &[u8], _: &Vec<u8>) -> std::result::Result<(), Error> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).map_err(|_| Error::new())?;
        mac.update(signed);
        mac.verify_slice(&self.mac).map_err(|_| Error::new())
    }
}

impl JwtVerifier for Vouched {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

#[cfg(test)]
#[path = "vouched_tests.rs"]
mod tests;
