//! Certificates made for a test, by the program `openssl`, which `./dev test` installs.

use crate::wait::{Look, until};
use anyhow::Context as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Days that certificates hold.
const DAYS: u32 = 2;
/// How a key is made.
const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
/// Time until a certificate of no length has expired.
const EXPIRY_DEADLINE: Duration = Duration::from_secs(30);

/// A certificate authority, with its files and those of what it signs in one folder.
#[derive(Clone, Debug)]
pub struct Authority {
    folder: PathBuf,
    name: String,
}

impl Authority {
    /// A new one: NAME`.pem` and NAME`.key`.
    ///
    /// # Errors
    /// There is no openssl, or it refuses.
    pub fn new(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let authority = Self { folder: folder.to_owned(), name: name.to_owned() };
        let files = format!("-keyout {name}.key -out {name}.pem");
        authority.openssl(&format!("req -x509 {KEY} -days {DAYS} -subj /CN=tests-{name} {files}"))?;
        Ok(authority)
    }

    /// Path of the authority's own certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.join(format!("{}.pem", self.name))
    }

    /// Signs a new certificate, NAME`.pem` and NAME`.key`, for hosts as they are written in X.509: `DNS:localhost,IP:127.0.0.1`.
    ///
    /// # Errors
    /// openssl refuses.
    pub fn issue(&self, name: &str, hosts: &str) -> anyhow::Result<()> {
        self.sign(name, hosts, DAYS)
    }

    /// The same, and waits until it has expired.
    ///
    /// # Errors
    /// openssl refuses.
    pub async fn issue_expired(&self, name: &str, hosts: &str) -> anyhow::Result<()> {
        self.sign(name, hosts, 0)?;
        until("the certificate to expire", EXPIRY_DEADLINE, async || {
            let good = self.openssl(&format!("x509 -in {name}.pem -noout -checkend 0")).is_ok();
            Ok(Look::from_bool(!good, "it is still good"))
        })
        .await
    }

    fn sign(&self, name: &str, hosts: &str, days: u32) -> anyhow::Result<()> {
        let subject = format!("-subj /CN=tests -addext subjectAltName={hosts}");
        self.openssl(&format!("req {KEY} {subject} -keyout {name}.key -out {name}.csr"))?;
        let by = format!("-CA {0}.pem -CAkey {0}.key -CAcreateserial -days {days}", self.name);
        self.openssl(&format!("x509 -req -in {name}.csr {by} -copy_extensions copy -out {name}.pem"))
    }

    fn openssl(&self, line: &str) -> anyhow::Result<()> {
        let mut command = Command::new("openssl");
        command.current_dir(&self.folder).args(line.split_whitespace());
        succeed(command)
    }
}

/// Runs a command to its end.
///
/// # Errors
/// It cannot be run, or fails; the error has what it said.
pub(crate) fn succeed(mut command: Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("run {:?}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    Ok(())
}
