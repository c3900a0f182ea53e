//! Why the private servers could not be started or kept. Every message says what to do about it.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// The cure for everything that is not installed.
pub(super) const SETUP: &str = "run `./dev setup`, which installs it";

/// An embedded server could not be started or kept running.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process holds the data directory.
    #[error(
        "another fnhost ({holder}) runs on the data directory {}: stop it, or choose another one with --data-dir",
        directory.display()
    )]
    InUse {
        /// The directory in question.
        directory: PathBuf,
        /// The holder as far as it is known, `pid N`.
        holder: String,
    },
    /// No fnhost holds the data directory, so its private servers do not run.
    #[error(
        "no fnhost with private servers runs on the data directory {}: start one with `fnhost up`, choose another directory with \
         --data-dir, or give addresses with --database and --kafka",
        directory.display()
    )]
    NotRunning {
        /// The directory in question.
        directory: PathBuf,
    },
    /// A program or file is not installed.
    #[error("{what} not found ({looked}): {SETUP}, or give the address of a running server")]
    Missing {
        /// Program or file that is missing, for the message.
        what: &'static str,
        /// Where it was looked for.
        looked: String,
    },
    /// An installed program does not fit.
    #[error("{what}")]
    Unsuitable {
        /// What does not fit, why, and the cure.
        what: String,
    },
    /// Both servers are missing something.
    #[error("{first}\n{second}")]
    Several {
        /// What is wrong with Postgres.
        first: Box<Error>,
        /// What is wrong with Kafka.
        second: Box<Error>,
    },
    /// A server ended instead of becoming ready, or a helper program failed.
    #[error("{name} ended while starting ({status}); its log is {}\n{tail}", log.display())]
    Ended {
        /// The server or helper program.
        name: &'static str,
        /// Exit status of the server.
        status: ExitStatus,
        /// The file with all its output.
        log: PathBuf,
        /// The last lines of its output.
        tail: String,
        /// Whether it complained that its port is taken.
        address_in_use: bool,
    },
    /// A server did not become ready in time.
    #[error("{name} was not ready after {seconds} s; its log is {}\n{tail}", log.display())]
    NotReady {
        /// Name of the private server, for example `postgres`.
        name: &'static str,
        /// The deadline, in seconds.
        seconds: u64,
        /// The file with all its output.
        log: PathBuf,
        /// The last lines of its output.
        tail: String,
    },
    /// A server of an earlier run cannot be stopped.
    #[error(
        "{name} of an earlier run still runs as pid {pid} and cannot be stopped; stop it with `kill {pid}`"
    )]
    Leftover {
        /// Name of the private server, for example `postgres`.
        name: &'static str,
        /// Process id of the server that still runs.
        pid: i32,
        /// Why the signal failed.
        source: std::io::Error,
    },
    /// A server died again and again.
    #[error("{name} died {times} times in a row; giving up")]
    KeepsDying {
        /// Name of the private server, for example `postgres`.
        name: &'static str,
        /// Failed restarts in a row.
        times: u32,
        /// The last failure.
        source: Box<Error>,
    },
    /// The file system or the operating system refused something.
    #[error("cannot {action}")]
    Io {
        /// What was being done.
        action: String,
        /// The refusal.
        source: std::io::Error,
    },
    /// The supervising thread is gone, and the servers with it.
    #[error("the supervisor of the private servers died")]
    SupervisorEnded,
}

impl Error {
    pub(super) fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    pub(super) fn at<'a>(action: &'a str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Self + 'a {
        move |source| Self::Io { action: format!("{action} {}", path.display()), source }
    }

    pub(super) fn several(first: Self, second: Self) -> Self {
        Self::Several { first: Box::new(first), second: Box::new(second) }
    }
}
