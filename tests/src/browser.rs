//! The pages in a real browser: `web/tests` run by Node against a running system.

use anyhow::Context as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// Where Debian, Fedora and Google put it, in the order that they are tried.
const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// Time for all tests in the browser, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(420);

/// A browser, with what drives it.
#[derive(Debug)]
pub struct Browser {
    node: PathBuf,
    chromium: PathBuf,
    tests: PathBuf,
}

impl Browser {
    /// What this machine has.
    ///
    /// # Errors
    /// Something is missing; the text names it and says how to get it.
    pub fn find() -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let tests = root.join("web/tests");
        let node = on_path("node").ok_or("`node` is not on PATH; install Node.js 20 or newer")?;
        let chromium =
            CHROMIUM.into_iter().find_map(on_path).ok_or("no `chromium` is on PATH; install it")?;
        if !tests.join("node_modules/playwright-core").exists() {
            return Err("web/tests/node_modules is missing; `./dev test-web` fetches it".to_owned());
        }
        Ok(Self { node, chromium, tests })
    }

    /// Runs these files of `web/tests`, or all of them, against the system at `address`, `host:port`.
    ///
    /// # Errors
    /// A test failed; what Node said is on the standard output.
    pub async fn run(&self, address: &str, files: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(&self.node);
        // One at a time: they measure, and share a machine with everything that they drive.
        command.args(["--test", "--test-concurrency=1", "--test-reporter=spec"]).args(files);
        command.current_dir(&self.tests).stdin(Stdio::null()).kill_on_drop(true);
        command.env("WEB_URL", format!("http://{address}")).env("WEB_CHROMIUM", &self.chromium);
        let output = tokio::time::timeout(DEADLINE, command.output());
        let output =
            output.await.context("the tests in the browser do not end")?.context("cannot run node")?;
        println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        anyhow::ensure!(output.status.success(), "the pages do not pass their tests: {}", output.status);
        Ok(())
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}
