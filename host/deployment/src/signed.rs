//! Code that is run only if one of the declared keys has signed it, in the form of minisign.

use minisign_verify::{PublicKey, Signature};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a file's name ends with that holds the signature of the file of the same name without it.
pub const EXTENSION: &str = "minisig";
/// Bytes of a signature: minisign's have a few hundred.
const SIGNATURE_BYTES_MAX: usize = 4 << 10;

/// The keys one of which must have signed what runs; without a key anything runs.
#[derive(Clone, Default)]
pub struct Signers(Arc<[PublicKey]>);

impl fmt::Debug for Signers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl Signers {
    /// These public keys, as `minisign -G` prints them: `RW` and 54 more characters.
    ///
    /// # Errors
    /// One of them is no such key.
    pub fn new(keys: &[String]) -> Result<Self, String> {
        let key = |text: &String| {
            PublicKey::from_base64(text.trim()).map_err(|error| {
                format!(
                    "\"{text}\" is no public key of minisign ({error}): pass the line that begins with RW"
                )
            })
        };
        Ok(Self(keys.iter().map(key).collect::<Result<_, _>>()?))
    }

    /// Whether this code may run.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn check(&self, wasm: &[u8], signature: Option<&str>) -> Result<(), String> {
        if self.0.is_empty() {
            return Ok(());
        }
        let Some(text) = signature else {
            return Err(format!("it is not signed; sign it with minisign -S, which makes FILE.{EXTENSION}"));
        };
        if text.len() > SIGNATURE_BYTES_MAX {
            return Err(format!("its signature has more than {SIGNATURE_BYTES_MAX} bytes"));
        }
        let signature =
            Signature::decode(text).map_err(|error| format!("its signature cannot be read: {error}"))?;
        // Over the hash of the bytes, or over the bytes themselves, as older programs sign.
        let good = self.0.iter().any(|key| key.verify(wasm, &signature, true).is_ok());
        good.then_some(()).ok_or_else(|| {
            "its signature is of other bytes, or of a key that is not declared with --code-key".to_owned()
        })
    }
}

/// The signature beside a file, where there is one.
///
/// # Errors
/// It cannot be read.
pub async fn beside(file: &Path) -> std::io::Result<Option<String>> {
    let mut name = OsString::from(file);
    name.push(format!(".{EXTENSION}"));
    match tokio::fs::read_to_string(PathBuf::from(name)).await {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key made for this test, and what it signed: the four bytes `code`.
    const KEY: &str = "RWQBAgMEBQYHCOtd2PAww2DfSsT6yuOlYNkk4aw6GbyW0V/lhz0l+B2B";
    /// Over their BLAKE2b hash.
    const HASHED: [&str; 2] = [
        "RUQBAgMEBQYHCArAf80VEMsoSkCrhHvsTtcsNxwQakCRh0SKHZJKd0Z/DElsKsxyC1B3bx3zeBC2ds0WxozTCH5oz7k2J0hWBgM=",
        "RmY4VEpoaGVfYhVMyFCvtIbNwV3DhgAVRvojppBDboKLPE3dsJCNUdCuFpCa5VKunkec851Oqzu7k9pH5vsUAw==",
    ];
    /// Over themselves.
    const PLAIN: [&str; 2] = [
        "RWQBAgMEBQYHCHPki4CyLmDdOWWE7Hc7zm/LfyRaihfta+TS7XVZxPHAKSot1aHEoveLjOVKYy8f+lVtiaSpoxyJWp2/eyJkOgg=",
        "WlKYEezw3LYI+kftHxjaSy8a32FiCg6ltdcL8yFtenP9Zp3FrIV39F1HhWrzUalPRrelBcRMvQfDu33/ZC5HDw==",
    ];
    /// Another key: of the same number, with other bytes.
    const OTHER_KEY: &str = "RWQBAgMEBQYHCNdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";

    fn text([signature, global]: [&str; 2], comment: &str) -> String {
        format!("untrusted comment: any\n{signature}\ntrusted comment: {comment}\n{global}\n")
    }

    fn signers(keys: &[&str]) -> Signers {
        Signers::new(&keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>()).expect("keys")
    }

    #[test]
    fn only_what_a_declared_key_has_signed_may_run() {
        let comment = "timestamp:1800000000\tfile:code.wasm";
        let (hashed, plain) = (text(HASHED, comment), text(PLAIN, comment));
        let [known, other, both] = [&[KEY][..], &[OTHER_KEY], &[OTHER_KEY, KEY]].map(signers);
        for (signers, wasm, signature, refused) in [
            (&known, b"code", Some(hashed.as_str()), None),
            (&known, b"code", Some(&plain), None),
            (&both, b"code", Some(&hashed), None),
            (&other, b"code", Some(&hashed), Some("of other bytes, or of a key")),
            (&known, b"codf", Some(&hashed), Some("of other bytes")),
            (&known, b"code", Some(&text(HASHED, "timestamp:1900000000")), Some("of other bytes")),
            (&known, b"code", Some("signed"), Some("cannot be read")),
            (&known, b"code", Some(&"x".repeat(SIGNATURE_BYTES_MAX + 1)), Some("more than")),
            (&known, b"code", None, Some("not signed")),
            (&Signers::default(), b"code", None, None),
        ] {
            let checked = signers.check(wasm, signature);
            match refused {
                None => assert_eq!(checked, Ok(()), "{signature:?}"),
                Some(part) => assert!(checked.clone().is_err_and(|said| said.contains(part)), "{checked:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for key in ["", "hunter2", &KEY[2..]] {
            assert!(Signers::new(&[key.to_owned()]).is_err(), "{key}");
        }
    }
}
