//! The command line.

mod admin;
mod audit;
mod change;
mod compile;
mod completions;
mod dead;
mod doctor;
mod explain;
mod keys;
mod lag;
mod migrate;
mod new;
mod operate;
mod outbox;
mod parked;
mod pause;
mod position;
mod progress;
mod ps;
mod remote;
mod replay;
mod setup;
mod signals;
mod stream_keys;
mod swap;
#[path = "test_command/mod.rs"]
mod test;
mod tls;
pub mod trigger;
mod triggers;
mod up;

use crate::log::LogFormat;
use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use fnhost_embedded::PrivateKafka;
use fnhost_kafka::access::{Access, Properties, VARIABLE_PREFIX};
use fnhost_manifest::Manifest;
use fnhost_trace::collector::Collector;
use fnhost_trace::export::DEFAULT_RATIO;
use std::ffi::OsString;
use std::path::PathBuf;

/// Runs WebAssembly functions on Kafka records and HTTP requests, with effects exactly once in Postgres.
#[derive(Parser, Debug)]
#[command(
    name = "fnhost",
    version,
    about,
    after_help = "Examples:
  fnhost up                               # run everything in spin.toml, with a private Postgres and Kafka in .fnhost/
  fnhost up --only kafka                  # run only the Kafka triggers, next to `spin up`
  fnhost up --kafka broker:9092 --database postgres://owner:secret@db/orders
  fnhost migrate --database postgres://owner:secret@db/orders
  fnhost new page-visits                  # write a new function
  fnhost test records.jsonl               # run a function on the records of a file
  fnhost doctor                           # check the setup and suggest fixes
  fnhost explain order-events/1/42        # show what happened to a record
  fnhost lag                              # how far behind every partition is
  fnhost dead list --groups               # what died, by fault

Exit codes: 0 success; 1 failure, stderr says why; 2 usage error; 3 problems found (test: a record is not done; doctor: a
check failed; explain: no such record, or a dead letter)."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Format of log lines
    #[arg(long, global = true, value_enum, default_value_t, env = "FNHOST_LOG_FORMAT")]
    log_format: LogFormat,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the application
    Up(up::UpArgs),
    /// Prepare a database: schemas, roles, migrations
    Migrate(migrate::MigrateArgs),
    /// Print the variables that `spin up` needs next to `fnhost up --only kafka`, as shell exports
    Env(migrate::EnvArgs),
    /// Show position and lag of every partition
    Lag(lag::LagArgs),
    /// Show, redrive and discard dead letters
    Dead(dead::DeadArgs),
    /// Show, retry and discard parked records
    Parked(parked::ParkedArgs),
    /// Pause a trigger or a partition
    Pause(pause::PauseArgs),
    /// Resume what was paused
    Resume(pause::ResumeArgs),
    /// Show or set a trigger's position
    Position(position::PositionArgs),
    /// Run a range of a log again
    Replay(replay::ReplayArgs),
    /// Show and resolve streams that wait because Kafka refuses a message
    Outbox(outbox::OutboxArgs),
    /// Show, make and remove the keys under which messages are numbered
    StreamKeys(stream_keys::StreamKeysArgs),
    /// Show and change the keys that sign tokens
    Keys(keys::KeysArgs),
    /// Show who changed what
    Audit(audit::AuditArgs),
    /// Show what happened to a record, or to all records of a key
    Explain(explain::ExplainArgs),
    /// Deploy a new version of a component without downtime
    Swap(swap::SwapArgs),
    /// Roll a component back to its previous version
    Rollback(swap::RollbackArgs),
    /// List a component's versions
    Versions(swap::VersionsArgs),
    /// Show the hosts of the deployment
    Ps(ps::PsArgs),
    /// Write a new Kafka function
    New(new::NewArgs),
    /// Run a function on the records of a file, without a broker
    Test(test::TestArgs),
    /// Check the setup and suggest fixes
    Doctor(doctor::DoctorArgs),
    /// Print shell completions
    Completions(completions::CompletionsArgs),
    /// Compile the component on standard input to an image in the cache: what `up` runs for itself
    #[command(hide = true)]
    Compile(compile::CompileArgs),
}

/// How a command prints data.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people
    #[default]
    Human,
    /// For programs: JSON
    Json,
}

/// The command ran and found something wrong, which it has printed. Told from a command that could not run by
/// [`EXIT_UNSATISFIED`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unsatisfied(pub String);

/// Exit code of a command that could not do its work.
pub const EXIT_FAILED: u8 = 1;
/// Exit code of a command that did its work and found something wrong.
pub const EXIT_UNSATISFIED: u8 = 3;

/// The exit code that tells what an error is; 2 is clap's, for a command line that makes no sense.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Unsatisfied>() { EXIT_UNSATISFIED } else { EXIT_FAILED }
}

/// The forms of `--variable`, which are Spin's.
const VARIABLE: &str = "NAME=VALUE | NAME=@FILE | @FILE.json | @FILE.toml";

/// What every command that reads the manifest takes.
#[derive(Args, Debug, Clone)]
pub struct Application {
    /// The application's manifest
    #[arg(
        short = 'f',
        long = "from",
        value_name = "FILE",
        default_value = "spin.toml",
        env = "FNHOST_MANIFEST"
    )]
    pub manifest: PathBuf,
    /// Whether the manifest is Spin's locked application.
    #[arg(skip)]
    pub locked: bool,
    /// A variable's value, a file with the value, or a JSON or TOML file of names and values; may be repeated
    #[arg(long = "variable", value_name = VARIABLE)]
    pub variables: Vec<String>,
    /// Directory for private servers, keys and caches
    #[arg(long, value_name = "DIR", default_value = ".fnhost", env = "FNHOST_DATA_DIR")]
    pub data_dir: PathBuf,
    /// URL of the database, as a role that may create schemas and roles; without it fnhost runs a private Postgres
    #[arg(long, value_name = "URL", env = "FNHOST_DATABASE", hide_env_values = true)]
    pub database: Option<String>,
    /// Secret from which the passwords of the functions' roles are derived; without it a random one that the database keeps
    #[arg(long, value_name = "SECRET", env = "FNHOST_ROLE_SECRET", hide_env_values = true)]
    pub role_secret: Option<String>,
}

impl Application {
    /// Reads the manifest.
    ///
    /// # Errors
    /// It cannot be read or run.
    pub fn load_manifest(&self) -> Result<Manifest, fnhost_manifest::Error> {
        if self.locked { Manifest::load_locked(&self.manifest) } else { Manifest::load(&self.manifest) }
    }
}

/// Where Kafka is and how it is reached.
#[derive(Args, Debug, Clone)]
pub struct KafkaArgs {
    /// Bootstrap addresses of Kafka; without it fnhost runs a private Kafka
    #[arg(long = "kafka", value_name = "HOST:PORT", env = "FNHOST_KAFKA")]
    pub addresses: Option<String>,
    /// File of librdkafka properties for that Kafka, one `name=value` per line: TLS, logins (security.protocol, sasl.*, ssl.*)
    #[arg(long = "kafka-config", value_name = "FILE", env = "FNHOST_KAFKA_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Arguments for exporting traces.
#[derive(Args, Debug, Clone)]
pub struct TraceArgs {
    /// Base URL of the collector for traces, OTLP over HTTP, like http://localhost:4318. Headers, service name and resource
    /// attributes come from OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES)
    #[arg(long = "otlp", value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp: Option<String>,
    /// Share of the traces beginning here that is recorded, 0 to 1; a request or record with a traceparent brings its own decision
    #[arg(long = "trace-ratio", value_name = "RATIO", default_value_t = DEFAULT_RATIO, value_parser = ratio, env = "FNHOST_TRACE_RATIO")]
    ratio: f64,
}

impl TraceArgs {
    /// The collector, where one is named here or in the environment.
    ///
    /// # Errors
    /// A value that cannot be meant.
    pub fn collector(&self) -> anyhow::Result<Option<Collector>> {
        Collector::from_settings(self.otlp.as_deref(), |name| std::env::var(name).ok())
    }

    /// Part of the traces beginning here that is recorded.
    pub fn ratio(&self) -> f64 {
        self.ratio
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "is not a number from 0 (none) to 1 (all)".to_owned())
}

impl KafkaArgs {
    /// The properties of the file and of the environment.
    ///
    /// # Errors
    /// One of them is wrong or refused, or they are for the private Kafka, which takes none.
    pub fn properties(&self) -> anyhow::Result<Properties> {
        let text =
            |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        let properties = Properties::read(self.config.as_deref(), std::env::vars_os().filter_map(text))?;
        anyhow::ensure!(
            properties.is_empty() || self.addresses.is_some(),
            "properties (--kafka-config, {VARIABLE_PREFIX}…) apply only to a Kafka given with --kafka (FNHOST_KAFKA)"
        );
        Ok(properties)
    }

    /// How the given Kafka is reached, or else the private one; none where there is neither.
    ///
    /// # Errors
    /// As [`KafkaArgs::properties`], or the private Kafka's own cannot be read.
    pub fn access(&self, private: Option<&PrivateKafka>) -> anyhow::Result<Option<Access>> {
        let properties = self.properties()?;
        Ok(match (&self.addresses, private) {
            (Some(brokers), _) => Some(Access::new(brokers, properties)),
            (None, Some(private)) => {
                Some(Access::new(&private.address, Properties::read(Some(&private.config), [])?))
            }
            (None, None) => None,
        })
    }

    /// The same for commands that need one.
    ///
    /// # Errors
    /// There is none; or as above.
    pub fn access_beside(&self, private: Option<&PrivateKafka>) -> anyhow::Result<Access> {
        self.access(private)?.context("pass --kafka (FNHOST_KAFKA)")
    }
}

impl Cli {
    /// What is logged where FNHOST_LOG says nothing.
    #[must_use]
    pub fn default_log(&self) -> &'static str {
        match self.command {
            // A test shows what the function prints, also where it is rolled back, and of the host's own work only what
            // went wrong.
            Command::Test(_) => "warn,fnhost::guest=debug,fnhost::cli::progress=info",
            Command::Doctor(_) | Command::Explain(_) | Command::Completions(_) => "error",
            _ => "info,sqlx=warn",
        }
    }

    /// What log lines look like.
    #[must_use]
    pub fn log_format(&self) -> LogFormat {
        self.log_format
    }

    /// Runs the command.
    ///
    /// # Errors
    /// What stopped it, with its causes.
    pub async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Up(args) => up::run(args).await,
            Command::Migrate(args) => migrate::run(args).await,
            Command::Env(args) => migrate::print_env(args).await,
            Command::Lag(args) => lag::run(args).await,
            Command::Dead(args) => dead::run(args).await,
            Command::Parked(args) => parked::run(args).await,
            Command::Pause(args) => pause::pause(args).await,
            Command::Resume(args) => pause::resume(args).await,
            Command::Position(args) => position::run(args).await,
            Command::Replay(args) => replay::run(args).await,
            Command::Outbox(args) => outbox::run(args).await,
            Command::StreamKeys(args) => stream_keys::run(args).await,
            Command::Keys(args) => keys::run(args).await,
            Command::Audit(args) => audit::run(args).await,
            Command::Explain(args) => explain::run(args).await,
            Command::Swap(args) => swap::run(args).await,
            Command::Rollback(args) => swap::roll_back(args).await,
            Command::Versions(args) => swap::versions(args).await,
            Command::Ps(args) => ps::run(args).await,
            Command::New(args) => new::run(&args),
            Command::Test(args) => test::run(args).await,
            Command::Doctor(args) => doctor::run(args).await,
            Command::Completions(args) => completions::run(&args),
            Command::Compile(args) => compile::run(args),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn every_command_shows_an_example_that_is_a_command() {
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = command.get_name();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<&str> =
                help.lines().filter_map(|line| line.trim().strip_prefix("fnhost ")).collect();
            assert!(
                examples.iter().any(|example| example.starts_with(name)) || name == "env",
                "{name}: {help}"
            );
            for example in examples {
                // What follows is the shell's.
                let words =
                    example.split_whitespace().take_while(|word| !["&&", "|", ">", "#"].contains(word));
                let parsed = Cli::try_parse_from(std::iter::once("fnhost").chain(words));
                assert!(parsed.is_ok(), "{example}: {parsed:?}");
            }
        }
    }
}
