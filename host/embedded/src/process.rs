//! One server process: started, awaited, watched, restarted, stopped.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::Error;
use super::account::Account;
use super::directory::write_file;
use super::leftover::{self, Trace};
use super::log::Output;

/// Failures in a row after which a server is given up.
const FAILURES_MAX: u32 = 10;
/// Wait before the second restart in a row; doubles up to [`BACK_OFF_MAX`]. The first one is not delayed.
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
/// Longest wait between two restarts.
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// A server that ran this long was healthy: its next failure counts as the first.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// Time the rest of the output of an ended server is waited for: a child of its own may hold the pipe.
const OUTPUT_DEADLINE: Duration = Duration::from_secs(1);
/// The environment the servers get. All else stays out: fnhost's own holds keys and passwords.
const ENVIRONMENT: [&str; 5] = ["PATH", "HOME", "TMPDIR", "TZ", "LD_LIBRARY_PATH"];

/// How a program is run.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// The name in messages.
    pub(super) name: &'static str,
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<OsString>,
    /// The account to change to, where it is not fnhost's own.
    pub(super) account: Option<Account>,
    pub(super) folder: PathBuf,
    pub(super) log: PathBuf,
    /// The signal that ends it in an orderly way; also sent by the kernel when its supervisor is gone.
    pub(super) stop: Signal,
}

impl Program {
    /// Runs the program to its end, with `input` on its standard input.
    pub(super) async fn run(&self, input: &str) -> Result<(), Error> {
        let (mut child, mut output) = self.spawn(Stdio::piped(), "")?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ended before it read everything is judged by its status.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let status = child.wait().await.map_err(Error::io(format!("wait for {}", self.name)))?;
        if status.success() { Ok(()) } else { Err(self.ended(status, &mut output).await) }
    }

    fn spawn(&self, stdin: Stdio, awaited: &'static str) -> Result<(Child, Output), Error> {
        let failed = || Error::io(format!("run {} as {}", self.name, self.path.display()));
        let (reader, writer) = io::pipe().map_err(failed())?;
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).current_dir(&self.folder);
        command.env_clear().envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.stdin(stdin).stdout(writer.try_clone().map_err(failed())?).stderr(writer);
        // A group of its own: Ctrl-C on the terminal must reach fnhost alone, which stops its servers after draining.
        command.process_group(0);
        if let Some(account) = self.account {
            // The standard library drops the supplementary groups of root together with its uid.
            command.gid(account.gid).uid(account.uid);
        }
        end_with_parent(&mut command, self.stop);
        let child = command.spawn().map_err(failed())?;
        // The command holds the pipe's other end open; without this the output would never end.
        drop(command);
        Ok((child, Output::collect(reader.into(), &self.log, awaited)?))
    }

    async fn ended(&self, status: ExitStatus, output: &mut Output) -> Error {
        let _ = timeout(OUTPUT_DEADLINE, output.ended()).await;
        Error::Ended {
            name: self.name,
            status,
            log: self.log.clone(),
            tail: output.tail(),
            address_in_use: output.address_in_use(),
        }
    }
}

/// Has the kernel send `signal` to the child when the thread that starts it ends.
#[allow(unsafe_code, reason = "the signal has to be requested by the child itself, between fork and exec")]
fn end_with_parent(command: &mut Command, signal: Signal) {
    let parent = rustix::process::getpid();
    let request = move || {
        rustix::process::set_parent_process_death_signal(Some(signal))?;
        // The parent may have died before the request; then nobody would ever stop this child.
        if rustix::process::getppid() == Some(parent) {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::NotFound))
        }
    };
    // SAFETY: `request` makes two system calls and neither allocates nor takes a lock, as is required after a fork.
    unsafe { command.pre_exec(request) };
}

/// What makes a program a server.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) program: Program,
    /// Part of the line it prints when it accepts connections.
    pub(super) ready_line: &'static str,
    /// Where its process id is kept.
    pub(super) pid_file: PathBuf,
    /// Whether it writes that file itself.
    pub(super) writes_pid_file: bool,
    /// An argument of its command line that no other process has.
    pub(super) argument: PathBuf,
}

/// A running server.
#[derive(Debug)]
pub(super) struct Server {
    /// Address for clients, `host:port`.
    pub(super) address: String,
    service: Service,
    child: Child,
}

impl Server {
    /// Starts the server and waits until it is ready.
    pub(super) async fn start(service: Service, address: String, deadline: Duration) -> Result<Self, Error> {
        let child = service.start(deadline).await?;
        Ok(Self { address, service, child })
    }

    /// Restarts the server whenever it ends, until `stop` is set or closed; then stops it. A server that fails
    /// [`FAILURES_MAX`] times in a row is reported to `lost`.
    pub(super) async fn keep(
        mut self,
        start_deadline: Duration,
        stop_deadline: Duration,
        mut stop: watch::Receiver<bool>,
        lost: mpsc::Sender<Error>,
    ) {
        let name = self.service.program.name;
        let mut failures = 0;
        loop {
            let since = Instant::now();
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break self.stop(stop_deadline).await,
                status = self.child.wait() => {
                    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                    fnhost_metrics::embedded_restart(name);
                    tracing::error!(status, "{name} died; restarting it");
                }
            }
            if since.elapsed() > HEALTHY_AFTER {
                failures = 0;
            }
            let restarted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {
                    // The process of the start just dropped is like one of an earlier run.
                    if let Err(error) = self.service.stop_leftover().await {
                        tracing::warn!(error = &error as &dyn std::error::Error, "cannot stop {name}");
                    }
                    break;
                }
                restarted = self.service.restart(start_deadline, &mut failures) => restarted,
            };
            match restarted {
                Ok(child) => self.child = child,
                Err(error) => {
                    // One message is enough for the caller to end; nobody may be listening any more.
                    let _ = lost.try_send(error);
                    break;
                }
            }
            tracing::info!("{name} is running again");
        }
    }

    /// Stops the server in an orderly way, or kills it at the deadline; returns when it is gone.
    pub(super) async fn stop(mut self, deadline: Duration) {
        let name = self.service.program.name;
        if !send(&self.child, self.service.program.stop) {
            return;
        }
        if timeout(deadline, self.child.wait()).await.is_err() {
            tracing::warn!(seconds = deadline.as_secs(), "{name} did not stop in time; killing it");
            // Fails only for a process that is gone, which is what is wanted.
            let _ = self.child.kill().await;
        }
    }
}

impl Service {
    /// Stops what an earlier run has left running. Comes before ports are chosen, since the left server holds them.
    pub(super) async fn stop_leftover(&self) -> Result<(), Error> {
        let Self { program, pid_file, argument, .. } = self;
        leftover::stop(Trace { name: program.name, pid_file, argument, stop: program.stop }).await
    }

    async fn start(&self, deadline: Duration) -> Result<Child, Error> {
        let program = &self.program;
        // A start that was given up at its deadline may still be on its way out.
        self.stop_leftover().await?;
        let (mut child, mut output) = program.spawn(Stdio::null(), self.ready_line)?;
        if let (false, Some(pid)) = (self.writes_pid_file, child.id()) {
            write_file(&self.pid_file, &format!("{pid}\n"), 0o644)?;
        }
        let started = timeout(deadline, async {
            tokio::select! {
                // An output that ends without the line is followed by the end of the process.
                true = output.awaited() => None,
                status = child.wait() => Some(status),
            }
        });
        match started.await {
            Ok(None) => Ok(child),
            Ok(Some(status)) => {
                let status = status.map_err(Error::io(format!("wait for {}", program.name)))?;
                Err(program.ended(status, &mut output).await)
            }
            Err(_) => {
                send(&child, program.stop);
                let (name, log) = (program.name, program.log.clone());
                Err(Error::NotReady { name, seconds: deadline.as_secs(), log, tail: output.tail() })
            }
        }
    }

    async fn restart(&self, deadline: Duration, failures: &mut u32) -> Result<Child, Error> {
        let name = self.program.name;
        let mut back_off = BACK_OFF_MIN * 2u32.saturating_pow(*failures).min(100);
        loop {
            if *failures > 0 {
                sleep(back_off.min(BACK_OFF_MAX)).await;
                back_off = back_off.saturating_mul(2);
            }
            *failures += 1;
            match self.start(deadline).await {
                Ok(child) => return Ok(child),
                Err(error) if *failures >= FAILURES_MAX => {
                    return Err(Error::KeepsDying { name, times: *failures, source: Box::new(error) });
                }
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    attempt = *failures,
                    "cannot restart {name}"
                ),
            }
        }
    }
}

/// False where the process is gone already.
fn send(child: &Child, signal: Signal) -> bool {
    let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    pid.is_some_and(|pid| rustix::process::kill_process(pid, signal).is_ok())
}

/// The program `name` in the folders of PATH.
pub(super) fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|found| is_file(found))
}

/// Whether there is a file (or a link to one).
pub(super) fn is_file(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file())
}
