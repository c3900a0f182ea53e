//! The form of log lines, which every part of the host that writes lines for people asks for.

use std::sync::OnceLock;

/// What a log line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Plain lines for people.
    #[default]
    Human,
    /// For programs: a JSON object in each line.
    Json,
}

static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Sets the format of the log, once, before anything is logged. A later call changes nothing.
pub fn set_format(format: LogFormat) {
    FORMAT.get_or_init(|| format);
}

/// The format of the log; for people where nobody set it.
pub fn format() -> LogFormat {
    FORMAT.get().copied().unwrap_or_default()
}
