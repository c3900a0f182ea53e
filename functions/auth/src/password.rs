//! Password hashes: Argon2id, in PHC form.
//!
//! One hash takes [`MEMORY_KIB`] and tens of milliseconds of a core. Nothing here limits how many run at once, because
//! every call has an instance of its own; the host limits the calls of the routes that hash, in `spin.toml`.

use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

/// Memory of one hash, in KiB: OWASP's second choice, which fits the memory limit of a call with room to spare.
pub const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over the memory.
pub const PASSES: u32 = 2;
/// Lanes; a component has one thread.
pub const LANES: u32 = 1;
/// Bytes of a salt, by RFC 9106.
pub const SALT_BYTES: usize = 16;

/// A hash that no password is known for, with the parameters of a real one: checked where there is no such account, so
/// that the time of the answer does not tell.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Why there is no hash; for the log.
pub type Error = String;

/// The hash of a new password, with a salt of its own.
///
/// # Errors
/// There is no memory or no randomness.
pub fn hash(password: &str) -> Result<String, Error> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|error| error.to_string())?;
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|error| error.to_string())?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash =
        argon2.hash_password_with_salt(password.as_bytes(), &salt).map_err(|error| error.to_string())?;
    Ok(hash.to_string())
}

/// Whether a hash has today's parameters. One that has not is replaced at the next login; until then the time of an
/// answer differs from that of an account with today's.
#[must_use]
pub fn is_current(hash: &str) -> bool {
    let version = u32::from(Version::V0x13);
    hash.starts_with(&format!("$argon2id$v={version}$m={MEMORY_KIB},t={PASSES},p={LANES}$"))
}

/// Whether this password belongs to this hash; for `None` it takes as long and is false.
#[must_use]
pub fn verify(password: &str, hash: Option<&str>) -> bool {
    // The parameters are those of the hash.
    let matches = Argon2::default().verify_password(password.as_bytes(), hash.unwrap_or(NOBODY)).is_ok();
    matches && hash.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_hash_fits_its_password_alone_and_carries_its_parameters() {
        let (one, two) = (hash("correct horse").unwrap(), hash("correct horse").unwrap());
        assert!(one.starts_with(&format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}$")), "{one}");
        assert!(is_current(&one) && is_current(NOBODY), "nobody takes as long as somebody");
        assert!(!is_current(&one.replace("t=2", "t=1")) && !is_current(&one.replace("argon2id", "argon2i")));
        assert_ne!(one, two, "each has its own salt");
        assert!(verify("correct horse", Some(&one)));
        assert!(!verify("correct horsf", Some(&one)));
        assert!(!verify("", Some(&one)));
        assert!(!verify("correct horse", Some("not a hash")));
    }

    #[test]
    fn nobody_costs_as_much_as_somebody() {
        let somebody = hash("correct horse").unwrap();
        let cost = |hash| {
            let start = Instant::now();
            assert!(!verify("wrong", hash));
            start.elapsed()
        };
        let (known, unknown) = (cost(Some(somebody.as_str())), cost(None));
        // A hash that cannot be parsed is refused in microseconds; a real one takes milliseconds.
        assert!(unknown * 20 > known, "{unknown:?} for nobody, {known:?} for somebody");
    }
}
