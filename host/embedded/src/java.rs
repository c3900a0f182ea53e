//! An installed Java that is new enough for Kafka.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Error;
use super::error::SETUP;
use super::process::{in_path, is_file};

/// The oldest Java that runs the broker.
const JAVA_MIN: u32 = 17;

/// The program `java` of JAVA_HOME or PATH, and its version.
pub(super) fn find() -> Result<(PathBuf, String), Error> {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    let Some(java) = home.filter(|java| is_file(java)).or_else(|| in_path("java")) else {
        return Err(Error::Missing { what: "a Java 17 or newer", looked: "JAVA_HOME, PATH".into() });
    };
    let version = version_of(&java)?;
    match major(&version) {
        Some(major) if major >= JAVA_MIN => Ok((java, version)),
        _ => Err(Error::Unsuitable {
            what: format!(
                "{} is Java {version}, and Kafka needs {JAVA_MIN} or newer: {}, or point JAVA_HOME to it",
                java.display(),
                SETUP
            ),
        }),
    }
}

/// The version of a Java: from the file next to it, since asking the program costs a JVM's start.
fn version_of(java: &Path) -> Result<String, Error> {
    let real = java.canonicalize().map_err(Error::at("open", java))?;
    let release = real.ancestors().nth(2).map(|home| home.join("release"));
    if let Some(version) =
        release.and_then(|file| fs::read_to_string(file).ok()).and_then(|text| quoted(&text))
    {
        return Ok(version);
    }
    let output = Command::new(java).arg("-version").output().map_err(Error::at("run", java))?;
    // `openjdk version "17.0.15" 2025-04-15`, on standard error.
    quoted(&String::from_utf8_lossy(&output.stderr)).ok_or_else(|| Error::Unsuitable {
        what: format!(
            "{} does not print its version; point JAVA_HOME to a Java {JAVA_MIN} or newer",
            java.display()
        ),
    })
}

/// The quoted version in `JAVA_VERSION="17.0.15"` or `openjdk version "17.0.15" 2025-04-15`.
fn quoted(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("JAVA_VERSION=") || line.contains(" version \""))?;
    line.split('"').nth(1).map(str::to_owned)
}

/// `17.0.15` is 17, `1.8.0_402` is 8, `25-ea` is 25.
fn major(version: &str) -> Option<u32> {
    let mut numbers = version.split(|character: char| !character.is_ascii_digit());
    match numbers.next()?.parse().ok()? {
        1 => numbers.next()?.parse().ok(),
        major => Some(major),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions_of_java() {
        for (text, version, number) in [
            ("IMPLEMENTOR=\"Debian\"\nJAVA_VERSION=\"17.0.15\"\n", "17.0.15", 17),
            ("openjdk version \"25-ea\" 2025-09-16\n", "25-ea", 25),
            ("java version \"1.8.0_402\"\n", "1.8.0_402", 8),
        ] {
            assert_eq!(quoted(text).as_deref(), Some(version));
            assert_eq!(major(version), Some(number));
        }
        assert_eq!(quoted("not java"), None);
    }
}
