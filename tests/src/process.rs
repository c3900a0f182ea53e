//! A child process that cannot outlive the test process, and the folder it works in.

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Time that private servers have to follow the fnhost that ended.
const SERVERS_DEADLINE: Duration = Duration::from_secs(20);
/// Pause between two looks at processes that are on their way out.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Begins the name of every folder, and is followed by the test process's id.
const FOLDER_PREFIX: &str = "fnhost-tests-";

/// Starts `command` so that the kernel kills it when this process ends, in whatever way.
///
/// The kernel watches the thread that started it, and a test's thread ends with its test, so one thread that never ends
/// starts them all. `setpriv` (util-linux) asks for the signal and then becomes the program.
///
/// # Errors
/// It could not be started.
pub(crate) fn spawn(program: &Path, configure: impl FnOnce(&mut Command)) -> anyhow::Result<Child> {
    type Request = (Command, mpsc::Sender<std::io::Result<Child>>);
    static STARTER: LazyLock<mpsc::Sender<Request>> = LazyLock::new(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, answer) in requests {
                // Whoever asked waits for this.
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    configure(&mut command);
    let (answer, child) = mpsc::channel();
    STARTER.clone().send((command, answer)).ok().context("the starting thread ended")?;
    child.recv()?.context("run setpriv, which is part of util-linux")
}

/// Sends a signal; false where the process has ended.
pub(crate) fn signal(child: &Child, signal: Signal) -> bool {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
}

/// Kills a child, frozen or not, and waits for its end.
pub(crate) fn kill(child: &mut Child) -> std::io::Result<ExitStatus> {
    child.kill()?;
    child.wait()
}

/// A folder for one fnhost, removed when dropped.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes a new one, in the system's folder for such, which the account that runs Postgres can reach.
    pub(crate) fn new() -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static SWEEP: LazyLock<()> = LazyLock::new(remove_left_folders);
        LazyLock::force(&SWEEP);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("{FOLDER_PREFIX}{}-{number}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Folder {
    /// Moves what is in it to another folder, which stays.
    pub(crate) fn keep(&self, to: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(to)?;
        // Across file systems, with owners and modes.
        let moved = Command::new("cp").args(["-a", "."]).arg(to).current_dir(&self.0).output()?;
        anyhow::ensure!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Removes the folders of test processes that ended without doing so: what a static holds is never dropped.
fn remove_left_folders() {
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(FOLDER_PREFIX));
        let Some(pid) = rest.and_then(|rest| rest.split('-').next()) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Waits until no process works with `data_dir` any more: the private servers end by themselves after their fnhost.
/// Those that do not are killed.
///
/// # Errors
/// One of them is still there.
pub(crate) fn wait_for_servers(data_dir: &Path) -> anyhow::Result<()> {
    let end = Instant::now() + SERVERS_DEADLINE;
    loop {
        let left = servers_of(data_dir);
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= end {
            for pid in &left {
                let _ = kill_process(*pid, Signal::KILL);
            }
            anyhow::bail!("{left:?} still ran on {} after {SERVERS_DEADLINE:?}", data_dir.display());
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

/// Kills the one server of `data_dir` that has `argument` on its command line.
///
/// # Errors
/// There is not exactly one.
pub(crate) fn kill_server(data_dir: &Path, argument: &str) -> anyhow::Result<()> {
    let has_argument = |pid: &Pid| {
        let line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes())
    };
    let found: Vec<Pid> = servers_of(data_dir).into_iter().filter(has_argument).collect();
    let [pid] = found[..] else { anyhow::bail!("{found:?} have the argument {argument}") };
    kill_process(pid, Signal::KILL)?;
    Ok(())
}

/// The processes that were started with a path below `data_dir` as an argument, and are no fnhost.
pub(crate) fn servers_of(data_dir: &Path) -> Vec<Pid> {
    let needle = data_dir.as_os_str().as_encoded_bytes();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let works_there = line.windows(needle.len()).any(|window| window == needle);
        if works_there && !line.starts_with(b"setpriv") && !is_fnhost(&line) {
            found.extend(Pid::from_raw(pid));
        }
    }
    found
}

fn is_fnhost(command_line: &[u8]) -> bool {
    let program = command_line.split(|byte| *byte == 0).next().unwrap_or_default();
    program.ends_with(b"/fnhost")
}
