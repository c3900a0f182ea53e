//! Says to a component that the edge has checked the access token of a request.
//!
//! A component that is served by Spin too checks the token itself, which takes WebAssembly 0.3 ms for an Ed25519 signature. Here the
//! edge has done that already. So that the component can believe it, the edge adds a MAC of what the signature covers, under a
//! secret that the host gives this component alone, as a variable. Under Spin there is no such variable.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use std::fmt;

/// The variable with the secret, in unpadded base64url.
pub const TOKEN_SECRET_VARIABLE: &str = "fnhost_token_secret";
/// The header with the MAC: HMAC-SHA-256 (RFC 2104) of the token's `header.claims`, in unpadded base64url. One that a client sends
/// is taken away.
pub const TOKEN_MAC_HEADER: &str = "fnhost-token-mac";

/// Bytes of the secret.
const SECRET_BYTES: usize = 32;

/// The secret between the edge and one version of a component. It lives as long as the version is loaded.
pub(super) struct Voucher {
    secret: [u8; SECRET_BYTES],
    key: hmac::Key,
}

impl Voucher {
    pub fn new() -> Self {
        let random = ring::rand::generate::<[u8; SECRET_BYTES]>(&SystemRandom::new());
        let secret = random.expect("the system has random numbers").expose();
        Self { secret, key: hmac::Key::new(hmac::HMAC_SHA256, &secret) }
    }

    pub fn secret(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.secret)
    }

    pub fn mac(&self, signed: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, signed))
    }
}

impl fmt::Debug for Voucher {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Voucher")
    }
}
