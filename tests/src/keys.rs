//! The key pair that signs tokens: one for all systems of a test process, made as `./dev up` makes its own.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// Bytes of a raw Ed25519 key, which ends the DER form of a public one.
const RAW_KEY_BYTES: usize = 32;

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
/// `openssl` is not installed.
pub fn keys() -> &'static Keys {
    static KEYS: LazyLock<Keys> = LazyLock::new(|| generate().expect("openssl makes a key pair"));
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
    let pem = openssl(&["genpkey", "-algorithm", "ed25519"], &[])?;
    let der = openssl(&["pkey", "-pubout", "-outform", "DER"], &pem)?;
    let raw = der.last_chunk::<RAW_KEY_BYTES>().context("the public key is too short")?;
    let x = URL_SAFE_NO_PAD.encode(raw);
    let public_jwks = serde_json::json!({
        "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": "tests", "alg": "EdDSA", "use": "sig" }],
    });
    Ok(Keys { private_pem: String::from_utf8(pem)?, public_jwks: public_jwks.to_string() })
}

fn openssl(arguments: &[&str], input: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut child =
        Command::new("openssl").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    child.stdin.take().context("a pipe")?.write_all(input)?;
    let output = child.wait_with_output()?;
    anyhow::ensure!(output.status.success(), "openssl {arguments:?}: {}", output.status);
    Ok(output.stdout)
}
