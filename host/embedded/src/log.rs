//! The output of a server: kept in a bounded file, its last lines at hand for messages, one line awaited as readiness.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::Error;

/// Size at which the file is renamed to `<name>.log.1` and begun anew, in bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Lines quoted when a server fails.
const TAIL_LINES: usize = 12;
/// The operating system's text for EADDRINUSE, which both servers quote.
const ADDRESS_IN_USE: &str = "Address already in use";

/// What has been read so far from one run of a server.
#[derive(Debug, Clone)]
pub(super) struct Output {
    tail: Arc<Mutex<VecDeque<String>>>,
    seen: watch::Receiver<bool>,
    address_in_use: Arc<AtomicBool>,
}

impl Output {
    /// Reads `pipe` to its end in a task of its own, and looks for a line that contains `awaited`.
    pub(super) fn collect(reader: OwnedFd, path: &Path, awaited: &'static str) -> Result<Self, Error> {
        let reader =
            pipe::Receiver::from_owned_fd(reader).map_err(Error::io("read the output of a server"))?;
        let mut file = Rotating::open(path)?;
        let tail = Arc::new(Mutex::new(VecDeque::with_capacity(TAIL_LINES)));
        let (found, seen) = watch::channel(false);
        let lines = Arc::clone(&tail);
        let address_in_use = Arc::new(AtomicBool::new(false));
        let in_use = Arc::clone(&address_in_use);
        tokio::spawn(async move {
            let mut reader = BufReader::new(reader);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).await.is_ok_and(|length| length > 0) {
                file.write(&line);
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                if text.contains(awaited) {
                    found.send_replace(true);
                }
                if text.contains(ADDRESS_IN_USE) {
                    in_use.store(true, Ordering::Relaxed);
                }
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.len() == TAIL_LINES {
                    lines.pop_front();
                }
                lines.push_back(text);
            }
        });
        Ok(Self { tail, seen, address_in_use })
    }

    /// Waits for the awaited line; false where the output ended without it.
    pub(super) async fn awaited(&mut self) -> bool {
        self.seen.wait_for(|seen| *seen).await.is_ok()
    }

    /// Waits for the end of the output, which follows the end of the server and all its children.
    pub(super) async fn ended(&mut self) {
        while self.seen.changed().await.is_ok() {}
    }

    /// Whether the server said that its port is taken.
    pub(super) fn address_in_use(&self) -> bool {
        self.address_in_use.load(Ordering::Relaxed)
    }

    /// The last lines, indented for a message.
    pub(super) fn tail(&self) -> String {
        let lines = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
    }
}

/// A log file that never takes more than twice [`FILE_BYTES_MAX`].
#[derive(Debug)]
struct Rotating {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Rotating {
    fn open(path: &Path) -> Result<Self, Error> {
        let file =
            OpenOptions::new().create(true).append(true).open(path).map_err(Error::at("open", path))?;
        let bytes = file.metadata().map_err(Error::at("open", path))?.len();
        Ok(Self { path: path.to_owned(), file, bytes })
    }

    /// A log that cannot be written (disk full) must not take its server down, so failures end here.
    fn write(&mut self, line: &[u8]) {
        if self.bytes >= FILE_BYTES_MAX
            && fs::rename(&self.path, self.path.with_extension("log.1")).is_ok()
            && let Ok(fresh) = Self::open(&self.path)
        {
            *self = fresh;
        }
        if self.file.write_all(line).is_ok() {
            self.bytes += line.len() as u64;
        }
    }
}
