//! Another program beside an fnhost.

use super::{STOP_DEADLINE, print_log, token_variables};
use crate::process;
use crate::wait::{Look, until};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};

/// Another program beside an fnhost, run by a shell script, in a process group of its own, as a terminal's job is. Ends with this
/// value, and everything that it has started with it.
#[derive(Debug)]
pub struct Companion {
    child: Child,
    log: PathBuf,
}

impl Companion {
    /// Runs `script` with the keys of the tests and these variables.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn run(
        script: &str,
        environment: impl IntoIterator<Item = (String, String)>,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let output = OpenOptions::new().create(true).append(true).open(log)?;
        let errors = output.try_clone()?;
        let child = process::spawn(Path::new("sh"), |command| {
            command.args(["-c", script]).stdin(Stdio::null()).stdout(output).stderr(errors);
            command.envs(token_variables()).envs(environment).process_group(0);
        })?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Sends it a signal, and does not wait.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        anyhow::ensure!(process::signal(&self.child, signal), "it has ended");
        Ok(())
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// It still runs after [`STOP_DEADLINE`].
    pub async fn wait_end(&mut self) -> anyhow::Result<ExitStatus> {
        let ended = until("the end of the program", STOP_DEADLINE, async || {
            Ok(Look::from_option(self.child.try_wait()?, "it is running"))
        });
        ended.await
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// # Errors
    /// It has ended; the error has its log.
    pub fn check_runs(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            anyhow::bail!("it ended: {status}\n{}", std::fs::read_to_string(&self.log)?);
        }
        Ok(())
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        if let Some(group) = self.child.id().try_into().ok().and_then(Pid::from_raw) {
            // Gone already where all of it has ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = process::kill(&mut self.child);
        if std::thread::panicking() {
            print_log(&std::fs::read_to_string(&self.log).unwrap_or_default(), &self.log);
        }
    }
}
