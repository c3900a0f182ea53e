//! `./dev up`: builds everything and becomes `fnhost up`, with the keys that sign tokens.

use crate::checkout::Checkout;
use crate::process::exec;
use crate::{builds, keys};
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::Command;

/// The data directory where nobody names one, as for fnhost.
pub const DATA_DIR: &str = ".fnhost";

/// Builds, makes the keys of the data directory where they are missing, and becomes `fnhost up FLAGS`. Keys that come from the
/// environment are taken as they are.
///
/// # Errors
/// Something does not build, the keys can be neither made nor read, or fnhost cannot be started.
pub fn up(checkout: &Checkout, flags: &[OsString]) -> anyhow::Result<Infallible> {
    builds::build(checkout, &[])?;
    let mut command = Command::new(checkout.program("fnhost"));
    command.arg("up").args(flags);
    if std::env::var_os(keys::PRIVATE_KEY).is_none_or(|key| key.is_empty()) {
        let data_dir = data_dir(flags, std::env::var_os("FNHOST_DATA_DIR"));
        command.envs(keys::ensure(&data_dir)?.pairs());
    }
    exec(&mut command)
}

/// Which directory fnhost will take: the last `--data-dir` counts, then the environment.
fn data_dir(flags: &[OsString], environment: Option<OsString>) -> PathBuf {
    const FLAG: &str = "--data-dir";
    let mut given = None;
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        if flag == FLAG {
            given = flags.next().cloned();
        } else if let Some(value) = flag.as_bytes().strip_prefix(FLAG.as_bytes())
            && let Some(value) = value.strip_prefix(b"=")
        {
            given = Some(OsStr::from_bytes(value).to_owned());
        }
    }
    let set = |value: Option<OsString>| value.filter(|value| !value.is_empty());
    set(given).or_else(|| set(environment)).unwrap_or_else(|| DATA_DIR.into()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_those_of_the_directory_that_fnhost_takes() {
        for (flags, environment, expected) in [
            ("", None, ".fnhost"),
            ("", Some(""), ".fnhost"),
            ("--watch", Some("/env"), "/env"),
            ("--data-dir /a --listen 127.0.0.1:1", Some("/env"), "/a"),
            ("--data-dir=/a", None, "/a"),
            ("--data-dir /a --data-dir=/b", None, "/b"),
            ("--data-dir=/a --data-dir /b", None, "/b"),
            ("--data-directory=/a", None, ".fnhost"),
            // fnhost says what is wrong with it.
            ("--data-dir", Some("/env"), "/env"),
        ] {
            let words: Vec<OsString> = flags.split_whitespace().map(OsString::from).collect();
            let found = data_dir(&words, environment.map(OsString::from));
            assert_eq!(found, PathBuf::from(expected), "{flags:?} {environment:?}");
        }
    }
}
