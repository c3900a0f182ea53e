//! Servers that outlived the fnhost that started them.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;

use super::Error;

/// Time a left server has to stop in an orderly way before it is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// How a server of an earlier run is recognised.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trace<'a> {
    pub(super) name: &'static str,
    /// File whose first line is the server's process id.
    pub(super) pid_file: &'a Path,
    /// An argument of its command line that no other process has.
    pub(super) argument: &'a Path,
    pub(super) stop: Signal,
}

/// Stops the server the pid file names, if it still runs, and waits for its end.
///
/// A pid file of a process that ended is left alone. One whose number now belongs to another process is removed, since
/// Postgres would take that process for itself; the data directory's lock makes sure that nobody else starts it.
pub(super) async fn stop(trace: Trace<'_>) -> Result<(), Error> {
    let Some(pid) = read_pid(trace.pid_file) else {
        return Ok(());
    };
    // The handle is taken before the process is looked at: it cannot come to mean another one in between.
    let Ok(handle) = pidfd_open(pid, PidfdFlags::NONBLOCK) else {
        return Ok(());
    };
    let raw = pid.as_raw_nonzero().get();
    if !has_argument(raw, trace.argument) {
        return fs::remove_file(trace.pid_file).map_err(Error::at("remove", trace.pid_file));
    }
    tracing::info!(pid = raw, "{} of an earlier run still runs; stopping it", trace.name);
    let handle = watch(handle)?;
    signal(trace, raw, &handle, trace.stop)?;
    if tokio::time::timeout(STOP_DEADLINE, handle.readable()).await.is_err() {
        tracing::warn!(pid = raw, "{} of an earlier run does not stop; killing it", trace.name);
        signal(trace, raw, &handle, Signal::KILL)?;
        let _gone = handle.readable().await.map_err(Error::io("watch a process"))?;
    }
    Ok(())
}

/// A handle that becomes readable when its process ends.
#[allow(
    unsafe_code,
    reason = "registration of a descriptor relies on its type for a promise that the compiler cannot check"
)]
fn watch(handle: OwnedFd) -> Result<AsyncFd<OwnedFd>, Error> {
    // SAFETY: an `OwnedFd` gives the same open descriptor for as long as it lives.
    let registered = unsafe { AsyncFd::register(handle) };
    registered.map_err(|error| Error::io("watch a process")(error.into_parts().1))
}

fn signal(trace: Trace<'_>, pid: i32, handle: &AsyncFd<OwnedFd>, signal: Signal) -> Result<(), Error> {
    match pidfd_send_signal(handle.get_ref(), signal) {
        // It ended by itself meanwhile.
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(Error::Leftover { name: trace.name, pid, source: error.into() }),
    }
}

fn read_pid(file: &Path) -> Option<Pid> {
    let text = fs::read_to_string(file).ok()?;
    Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
}

/// Whether the process was started with this argument. One that ended but is not yet reaped has no arguments left.
fn has_argument(pid: i32, argument: &Path) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).any(|found| found == argument.as_os_str().as_encoded_bytes())
}
