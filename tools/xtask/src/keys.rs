//! The key pair that signs access tokens: one for each data directory, `keys/private.pem` for `auth` alone and
//! `keys/public.json`, a JWK set, for everybody.
//!
//! It is made here and not by fnhost, which never signs: the host reads the public keys from whatever variable a manifest names,
//! and the private one is an ordinary variable of one application. `./dev compose` needs a pair as well, without building the host.

use crate::files::{open_folder, private_folder, read, write_private};
use crate::process::say;
use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longer than a token is good: what lies at least between two rotations, since the second takes away the key of the first.
const ROTATION_MIN: Duration = Duration::from_secs(60 * 60);
/// Bytes of a raw Ed25519 key.
const RAW_KEY_BYTES: usize = 32;
/// What stands before the raw key in its DER form: a `PrivateKeyInfo` of version 0 (RFC 8410), which every reader takes, those
/// that know nothing of version 1 included.
const DER_HEAD: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// An Ed25519 key pair.
pub struct KeyPair {
    private_pem: String,
    x: String,
}

impl std::fmt::Debug for KeyPair {
    /// Without the private part.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair").field("x", &self.x).finish_non_exhaustive()
    }
}

impl KeyPair {
    /// A new one, from the operating system's randomness.
    ///
    /// # Errors
    /// The system has none to give.
    pub fn generate() -> anyhow::Result<Self> {
        Self::from_raw(&random::<RAW_KEY_BYTES>()?)
    }

    fn from_raw(raw: &[u8; RAW_KEY_BYTES]) -> anyhow::Result<Self> {
        let der = STANDARD.encode([&DER_HEAD[..], raw].concat());
        Self::from_pem(&format!("{PEM_BEGIN}\n{der}\n{PEM_END}\n"))
    }

    /// The pair of a private key in PKCS#8 PEM.
    ///
    /// # Errors
    /// It is not an Ed25519 key in that form. The error has nothing of the text.
    pub fn from_pem(pem: &str) -> anyhow::Result<Self> {
        let base64: String = pem
            .split_once(PEM_BEGIN)
            .and_then(|(_, rest)| rest.split_once(PEM_END))
            .map(|(between, _)| between.split_whitespace().collect())
            .context("it has no PEM block PRIVATE KEY")?;
        let der = STANDARD.decode(base64).ok().context("its PEM block is not base64")?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)
            .map_err(|refused| anyhow::anyhow!("it is not an Ed25519 key in PKCS#8 ({refused})"))?;
        Ok(Self { private_pem: pem.to_owned(), x: URL_SAFE_NO_PAD.encode(pair.public_key()) })
    }

    /// The private key, PKCS#8 PEM.
    #[must_use]
    pub fn private_pem(&self) -> &str {
        &self.private_pem
    }

    /// The public key as a JWK. Its id, `kid`, is the thumbprint of RFC 7638.
    #[must_use]
    pub fn public_jwk(&self) -> Value {
        // Exactly these members, in this order and without spaces: that is what the RFC hashes.
        let hashed = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, self.x);
        let kid = URL_SAFE_NO_PAD.encode(digest(&SHA256, hashed.as_bytes()));
        json!({ "kty": "OKP", "crv": "Ed25519", "x": self.x, "kid": kid, "alg": "EdDSA", "use": "sig" })
    }

    /// A JWK set of this public key alone.
    #[must_use]
    pub fn public_jwks(&self) -> String {
        jwk_set(&[self.public_jwk()])
    }
}

fn jwk_set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// Bytes of the operating system's randomness.
///
/// # Errors
/// The system has none to give.
pub(crate) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok().context("the operating system gives no random bytes")?;
    Ok(bytes)
}

/// The variables by which the order system takes its keys, `SPIN_VARIABLE_…`.
pub struct Variables {
    /// What signs: PKCS#8 PEM, for auth alone.
    pub private_key: String,
    /// What is good: a JWK set.
    pub public_keys: String,
}

impl std::fmt::Debug for Variables {
    /// Without the private part.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Variables").field("public_keys", &self.public_keys).finish_non_exhaustive()
    }
}

impl Variables {
    /// Their names and values.
    #[must_use]
    pub fn pairs(&self) -> [(&'static str, &str); 2] {
        [(PRIVATE_KEY, &self.private_key), (PUBLIC_KEYS, &self.public_keys)]
    }
}

/// The name of [`Variables::private_key`].
pub const PRIVATE_KEY: &str = "SPIN_VARIABLE_TOKEN_PRIVATE_KEY";
/// The name of [`Variables::public_keys`].
pub const PUBLIC_KEYS: &str = "SPIN_VARIABLE_TOKEN_PUBLIC_KEYS";

/// The keys of a data directory: made at the first call, kept from then on.
///
/// # Errors
/// The directory or its files cannot be made or read.
pub fn ensure(data_dir: &Path) -> anyhow::Result<Variables> {
    let folder = folder(data_dir);
    // Others may enter the data directory itself: the account that runs Postgres has to.
    open_folder(data_dir)?;
    private_folder(&folder)?;
    let _alone = lock(&folder)?;
    let (private, public) = (folder.join("private.pem"), folder.join("public.json"));
    if !has_text(&public) {
        let pair = KeyPair::generate()?;
        // The public key last: that it is there says that both are.
        write_private(&private, pair.private_pem())?;
        write_private(&public, &format!("{}\n", pair.public_jwks()))?;
        say(format_args!("made the key pair that signs tokens, in {}", folder.display()));
    }
    let text = |path| anyhow::Ok(read(path)?.trim_end().to_owned());
    Ok(Variables { private_key: text(&private)?, public_keys: text(&public)? })
}

/// Makes a new key, which signs from the next start on and stands first. The one before it is kept, so that its tokens are good
/// until they expire; an older one goes, which is why an hour has to lie between two rotations unless it has to be `now`.
///
/// # Errors
/// There are no keys, they do not belong together, the last rotation is less than an hour ago, or a file cannot be written.
/// What signed before still does, and its tokens are good.
pub fn rotate(data_dir: &Path, now: bool) -> anyhow::Result<()> {
    let keys = folder(data_dir);
    let (private, public) = (keys.join("private.pem"), keys.join("public.json"));
    anyhow::ensure!(has_text(&public), "there are no keys in {}: `./dev up` makes them", keys.display());
    let _alone = lock(&keys)?;
    let made = public.metadata()?.modified()?;
    // A time in the future has no age: the clock was wrong then or is now, so nothing says that an hour has passed.
    let ripe = made.elapsed().is_ok_and(|age| age >= ROTATION_MIN);
    anyhow::ensure!(
        now || ripe,
        "the keys in {} are less than an hour old: tokens of the key before could still be good (--now does it)",
        keys.display()
    );
    let signing =
        KeyPair::from_pem(&read(&private)?).with_context(|| format!("cannot use {}", private.display()))?;
    let previous = published(&read(&public)?, &signing)
        .with_context(|| format!("{} does not fit {}", public.display(), private.display()))?;
    let next = KeyPair::generate()?;
    // The public keys first: whatever starts in between finds the key that it signs with among them.
    write_private(&public, &format!("{}\n", jwk_set(&[next.public_jwk(), previous])))?;
    write_private(&private, next.private_pem())?;
    say(format_args!("made a new key that signs tokens, in {}; restart what runs with them", keys.display()));
    Ok(())
}

/// The JWK of a pair in a JWK set, as it stands there: the id in it is the one that tokens name.
fn published(jwk_set: &str, pair: &KeyPair) -> anyhow::Result<Value> {
    let set: Value = serde_json::from_str(jwk_set).context("it is not JSON")?;
    let mut keys = set["keys"].as_array().into_iter().flatten();
    keys.find(|key| key["x"] == pair.x.as_str()).cloned().context("it does not have the public part of it")
}

fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("keys")
}

fn has_text(path: &Path) -> bool {
    path.metadata().is_ok_and(|about| about.len() > 0)
}

/// Waits until nobody else makes keys in this folder. The lock ends with the value.
fn lock(folder: &Path) -> anyhow::Result<File> {
    let lock = || {
        let opened = File::open(folder)?;
        opened.lock()?;
        Ok::<_, std::io::Error>(opened)
    };
    lock().with_context(|| format!("cannot lock {}", folder.display()))
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
