//! `./dev compose`: `docker compose` with generated passwords and keys, made once, in `.env`.

use crate::files::{read, write_private};
use crate::keys::{self, random};
use crate::process::{exec, say};
use std::convert::Infallible;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// What docker compose reads by itself.
const FILE: &str = ".env";
/// The data directory whose keys the containers get.
const DATA_DIR: &str = ".fnhost/compose";
/// Came later than the others, so that files of before lack them.
const LATER: [&str; 3] = [WEBHOOK_SECRET, "REDIS_PASSWORD", ADMIN_TOKEN];
const WEBHOOK_SECRET: &str = "PAYMENT_WEBHOOK_SECRET";
const ADMIN_TOKEN: &str = "FNHOST_ADMIN_TOKEN";
/// Bytes of a password, written in twice as many hex digits.
const PASSWORD_BYTES: usize = 32;

/// Makes what is missing of the secrets and becomes `docker compose ARGS`.
///
/// # Errors
/// The files can be neither made nor read, or docker cannot be started.
pub fn compose(arguments: &[OsString]) -> anyhow::Result<Infallible> {
    secrets(Path::new(FILE), Path::new(DATA_DIR))?;
    exec(Command::new("docker").arg("compose").args(arguments))
}

/// Makes the file of secrets where it is not there yet; of one that is, every line stays.
fn secrets(file: &Path, data_dir: &Path) -> anyhow::Result<()> {
    let before = if file.exists() { read(file)? } else { String::new() };
    let mut text = before.clone();
    if text.is_empty() {
        say(format_args!("making passwords and keys for docker compose, in {}", file.display()));
        text = first(&keys::ensure(data_dir)?)?;
    }
    for wanted in LATER {
        if text.lines().any(|line| line.split_once('=').is_some_and(|(name, _)| name == wanted)) {
            continue;
        }
        if !text.ends_with('\n') {
            text.push('\n');
        }
        writeln!(text, "{wanted}={}", password()?)?;
    }
    if text == before {
        return Ok(());
    }
    write_private(file, &text)
}

fn first(keys: &keys::Variables) -> anyhow::Result<String> {
    let mut text = String::new();
    for name in ["POSTGRES_PASSWORD", "FNHOST_ROLE_SECRET"] {
        writeln!(text, "{name}={}", password()?)?;
    }
    // PEM has lines, which only double quotes hold together; JSON has double quotes.
    writeln!(text, "{}=\"{}\"", keys::PRIVATE_KEY, keys.private_key)?;
    writeln!(text, "{}='{}'", keys::PUBLIC_KEYS, keys.public_keys)?;
    Ok(text)
}

fn password() -> anyhow::Result<String> {
    Ok(random::<PASSWORD_BYTES>()?.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyPair;
    use crate::scratch::Scratch;
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;

    /// The variables of a file without quotes inside of values.
    fn variables(text: &str) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut rest = text;
        while let Some((name, after)) = rest.split_once('=') {
            let quote = after.chars().next().filter(|letter| ['"', '\''].contains(letter));
            let (value, after) = match quote {
                Some(quote) => after[1..].split_once(quote).expect("a quote at the end"),
                None => after.split_once('\n').expect("a line"),
            };
            found.insert(name.trim().to_owned(), value.to_owned());
            rest = after;
        }
        found
    }

    #[test]
    fn secrets_are_made_once() {
        let scratch = Scratch::new();
        let (file, data_dir) = (scratch.path().join(".env"), scratch.path().join("compose"));
        secrets(&file, &data_dir).expect("they are made");
        let text = read(&file).expect("it is there");
        let found = variables(&text);
        let passwords = ["POSTGRES_PASSWORD", "FNHOST_ROLE_SECRET", LATER[0], LATER[1], LATER[2]]
            .map(|name| &found[name]);
        for password in passwords {
            assert!(password.len() == 64 && password.bytes().all(|b| b.is_ascii_hexdigit()), "{password}");
        }
        let different: std::collections::BTreeSet<_> = passwords.iter().collect();
        assert_eq!(different.len(), passwords.len(), "{passwords:?}");
        let pair = KeyPair::from_pem(&found[keys::PRIVATE_KEY]).expect("a pair");
        assert_eq!(found[keys::PUBLIC_KEYS], pair.public_jwks());
        assert_eq!(found.len(), 7, "{:?}", found.keys());
        assert_eq!(file.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
        secrets(&file, &data_dir).expect("nothing is to be done");
        assert_eq!(read(&file).expect("it is there"), text);
    }

    #[test]
    fn what_a_file_of_before_lacks_is_added() {
        let scratch = Scratch::new();
        let file = scratch.path().join(".env");
        let kept = "# mine\nPOSTGRES_PASSWORD=chosen\n# PAYMENT_WEBHOOK_SECRET=\nPORT=1";
        std::fs::write(&file, kept).expect("a file");
        secrets(&file, scratch.path()).expect("it is added");
        let text = read(&file).expect("it is there");
        let added = text.strip_prefix(kept).expect("every line stays");
        let lines: Vec<(&str, &str)> = added.lines().filter_map(|line| line.split_once('=')).collect();
        assert_eq!(lines.iter().map(|(name, _)| *name).collect::<Vec<_>>(), LATER, "{added:?}");
        assert!(lines.iter().all(|(_, value)| value.len() == 64), "{added:?}");
        assert!(!scratch.path().join("keys").exists(), "keys are not made for a file that has others");
        secrets(&file, scratch.path()).expect("nothing is to be done");
        assert_eq!(read(&file).expect("it is there"), text);
    }
}
