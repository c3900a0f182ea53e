//! The key pair that signs tokens: one for all systems of a test process, made as `./dev up` makes its own.

use std::sync::LazyLock;
use xtask::keys::KeyPair;

/// An Ed25519 key pair in the forms that the order system takes.
#[derive(Debug)]
pub struct Keys {
    /// PKCS#8 PEM, for auth alone.
    pub private_pem: String,
    /// A JWK set.
    pub public_jwks: String,
}

/// The key pair of this process.
///
/// # Panics
/// The operating system has no randomness to give.
pub fn keys() -> &'static Keys {
    static KEYS: LazyLock<Keys> = LazyLock::new(|| generate().expect("a key pair"));
    &KEYS
}

/// A token with the first letter of its signature changed. Not the last one: some of that letter's bits are no part of the
/// signature, so that one token in four would stay what it is.
#[must_use]
pub fn tampered(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap_or(("", token));
    let first = if signature.starts_with('A') { "B" } else { "A" };
    format!("{signed}.{first}{}", signature.get(1..).unwrap_or_default())
}

fn generate() -> anyhow::Result<Keys> {
    let pair = KeyPair::generate()?;
    Ok(Keys { private_pem: pair.private_pem().to_owned(), public_jwks: pair.public_jwks() })
}
