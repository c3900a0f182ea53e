//! fnhost as Spin's plugin `trigger-kafka`: `spin up` starts it beside its own triggers.
//!
//! Spin runs a program of the plugin's name with the address of the locked application in its environment. Where the
//! application has several kinds of triggers it asks first which arguments are ours. It stops its triggers with SIGTERM;
//! any trigger that ends, ends the others.

use super::admin::AdminArgs;
use super::up::{self, Only, UpArgs};
use super::{Application, KafkaArgs, TraceArgs, VARIABLE};
use crate::log::LogFormat;
use anyhow::Context as _;
use clap::{CommandFactory as _, Parser};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Name of the plugin, and of its program.
pub const PROGRAM: &str = "trigger-kafka";
/// Where Spin says which application to run: the URL of its lock.
const LOCKED_URL: &str = "SPIN_LOCKED_URL";
/// Where Spin says in which folder the application's manifest is.
const LOCAL_APP_DIR: &str = "SPIN_LOCAL_APP_DIR";
/// Folder of the application that holds the data directory where none is named.
const DATA_FOLDER: &str = ".fnhost";

/// Runs the Kafka triggers of a Spin application. Started by `spin up`.
#[derive(Parser, Debug)]
#[command(
    name = PROGRAM,
    version,
    override_usage = "spin up [OPTIONS]",
    next_help_heading = "Kafka Trigger Options",
    after_help = "Example:
  spin up --kafka broker:9092 --database postgres://owner:secret@db/orders"
)]
pub struct Trigger {
    /// A variable's value, a file with the value, or a JSON or TOML file of names and values; may be repeated
    #[arg(long = "variable", value_name = VARIABLE)]
    variables: Vec<String>,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    traces: TraceArgs,
    /// URL of the database, as a role that may create schemas and roles; without it fnhost runs a private Postgres
    #[arg(long, value_name = "URL", env = "FNHOST_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// Secret from which the passwords of the functions' roles are derived
    #[arg(long, value_name = "SECRET", env = "FNHOST_ROLE_SECRET", hide_env_values = true)]
    role_secret: Option<String>,
    /// Directory for fnhost's private servers, keys and caches; without it .fnhost beside spin.toml
    #[arg(long, value_name = "DIR", env = "FNHOST_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Spin's runtime-config file: where key-value stores are; without it they are in memory
    #[arg(long = "runtime-config-file", value_name = "FILE", env = "RUNTIME_CONFIG_FILE")]
    runtime_config: Option<PathBuf>,
    /// Format of fnhost's log lines
    #[arg(long, value_enum, default_value_t, env = "FNHOST_LOG_FORMAT")]
    log_format: LogFormat,
    #[arg(long, hide = true)]
    launch_metadata_only: bool,
    #[arg(long, hide = true)]
    help_args_only: bool,
}

/// What Spin asks before it hands arguments out.
#[derive(Serialize)]
struct LaunchMetadata {
    all_flags: Vec<LaunchFlag>,
}

#[derive(Serialize)]
struct LaunchFlag {
    #[serde(skip_serializing_if = "Option::is_none")]
    short: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    long: Option<String>,
}

/// Whether this program was started under the plugin's name.
#[must_use]
pub fn is_plugin(program: Option<&std::ffi::OsStr>) -> bool {
    program.map(Path::new).and_then(Path::file_stem).is_some_and(|name| name == PROGRAM)
}

impl Trigger {
    /// What log lines look like.
    #[must_use]
    pub fn log_format(&self) -> LogFormat {
        self.log_format
    }

    /// Answers what Spin asks, or runs until it is told to stop.
    ///
    /// # Errors
    /// What stopped it, with its causes.
    pub async fn run(self) -> anyhow::Result<()> {
        if self.launch_metadata_only {
            // On stderr: that is where Spin reads it.
            eprintln!("{}", serde_json::to_string(&launch_metadata())?);
            return Ok(());
        }
        if self.help_args_only {
            Self::command().disable_help_flag(true).help_template("{all-args}").print_long_help()?;
            return Ok(());
        }
        up::run(self.into_up()?).await
    }

    fn into_up(self) -> anyhow::Result<UpArgs> {
        let url = std::env::var(LOCKED_URL)
            .with_context(|| format!("{LOCKED_URL} is not set; `spin up` starts this program"))?;
        let locked = url::Url::parse(&url).ok().and_then(|url| url.to_file_path().ok());
        let locked = locked.with_context(|| format!("{LOCKED_URL}={url} is not a file URL"))?;
        let beside = std::env::var_os(LOCAL_APP_DIR).map(PathBuf::from).unwrap_or_default();
        let app = Application {
            manifest: locked,
            locked: true,
            variables: self.variables,
            data_dir: self.data_dir.unwrap_or_else(|| beside.join(DATA_FOLDER)),
            database: self.database,
            role_secret: self.role_secret,
        };
        Ok(UpArgs::new(app, Some(Only::Kafka), self.admin, self.kafka, self.traces, self.runtime_config))
    }
}

fn launch_metadata() -> LaunchMetadata {
    let command = Trigger::command();
    let all_flags = command.get_arguments().map(|argument| LaunchFlag {
        short: argument.get_short().map(|short| format!("-{short}")),
        long: argument.get_long().map(|long| format!("--{long}")),
    });
    LaunchMetadata { all_flags: all_flags.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_known_by_its_name() {
        for (program, plugin) in [
            ("/data/plugins/trigger-kafka/trigger-kafka", true),
            ("trigger-kafka", true),
            ("/usr/bin/fnhost", false),
            ("/data/plugins/trigger-kafka/fnhost", false),
        ] {
            assert_eq!(is_plugin(Some(program.as_ref())), plugin, "{program}");
        }
    }

    #[test]
    fn the_metadata_lists_every_argument() {
        let told = serde_json::to_value(launch_metadata()).expect("JSON");
        let flags = told["all_flags"].as_array().expect("a list");
        for long in [
            "--variable",
            "--otlp",
            "--kafka",
            "--database",
            "--admin",
            "--admin-host",
            "--data-dir",
            "--launch-metadata-only",
        ] {
            assert!(flags.iter().any(|flag| flag["long"] == long), "{long} in {told}");
        }
    }
}
