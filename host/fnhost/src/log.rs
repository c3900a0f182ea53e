//! Sets up the log: lines for people, or a JSON object each for programs. It goes to stderr; results go to stdout.

use clap::ValueEnum;
use fnhost_types::log;
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// What a log line looks like.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people
    #[default]
    Human,
    /// For programs: a JSON object in each line
    Json,
}

impl From<LogFormat> for log::LogFormat {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Human => Self::Human,
            LogFormat::Json => Self::Json,
        }
    }
}

/// Begins the log. What FNHOST_LOG does not say, `default` does.
pub fn init(format: LogFormat, default: &str) {
    log::set_format(format.into());
    let filter = EnvFilter::try_from_env("FNHOST_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Human => {
            log.with_ansi(std::io::stderr().is_terminal()).with_target(false).compact().init();
        }
        LogFormat::Json => log
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_ansi(false)
            .init(),
    }
}
