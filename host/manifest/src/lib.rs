//! Reads `spin.toml`: Spin's manifest, version 2, plus the `tool.fnhost` tables that Spin ignores.
//!
//! [`Manifest::load`] checks what the text and the files it names can tell. [`Manifest::resolve`] gives the variables their
//! values and checks what depends on them. What only a component's code can tell, its exports and imports, is checked where
//! it is loaded, in `fnhost-engine`.

mod back_off;
mod component;
pub mod edge;
mod error;
pub mod files;
mod filter;
pub mod given;
pub mod hosts;
pub mod keys;
mod locked;
pub mod outbound;
pub mod rotating;
pub mod route;
mod schema;
pub mod start;
#[cfg(test)]
mod tests;
mod trigger;
mod validate;
mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use back_off::BackOff;
pub use component::ComponentSpec;
pub use error::{Error, Place};
pub use filter::Filter;
pub use start::Start;
pub use trigger::{OnExhausted, TriggerConfig};
pub use variables::{
    ResolvedComponent, Secret, Template, Values, VariableSources, valid_name as valid_variable_name,
};

use files::Files;
use fnhost_types::record::dead_letter_topic;
use outbound::OutboundSettings;
use route::{Pattern, Route};

/// Memory one call may use where the component names no limit, in MiB.
pub const DEFAULT_MEMORY_LIMIT_MB: i64 = 64;
/// The most memory that one call can be given, in MiB.
pub const MAX_MEMORY_LIMIT_MB: i64 = 1024;
/// Time one call may take where the component names none, in milliseconds.
pub const DEFAULT_DEADLINE_MS: i64 = 30_000;
/// The longest deadline of one call, in milliseconds.
pub const MAX_DEADLINE_MS: i64 = 15 * 60 * 1000;
/// The most HTTP calls of one component at a time that can be named.
pub const MAX_MAX_CONCURRENCY: i64 = 10_000;
/// Partitions a topic is created with where the manifest names none.
pub const DEFAULT_PARTITIONS: i64 = 3;
/// The most partitions that a topic can be created with.
pub const MAX_PARTITIONS: i64 = 1000;
/// The topic under which the ticks of schedules are handed out. No Kafka topic has this name: the manifest refuses it.
pub const SCHEDULE_TOPIC: &str = "fnhost.schedule";
/// The longest time between two ticks of a schedule, in seconds.
pub const MAX_EVERY_S: i64 = 30 * 24 * 60 * 60;

/// The greatest age of a key-value store's values that can be named, in milliseconds.
pub const MAX_KEY_VALUE_AGE_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// A manifest that was read and checked; its variables have no values yet.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The file as it was given.
    pub path: PathBuf,
    /// Name, version and what fnhost prepares for the whole application.
    pub application: Application,
    /// Application variables by name.
    pub variables: BTreeMap<String, Variable>,
    /// Components by id.
    pub components: BTreeMap<String, Component>,
    /// HTTP triggers in the order of the file.
    pub http: Vec<HttpTrigger>,
    /// Kafka triggers: those of the components by id, then those of `[[trigger.kafka]]`.
    pub kafka: Vec<KafkaTrigger>,
}

/// `[application]` and `[application.tool.fnhost]`.
#[derive(Debug, Clone)]
pub struct Application {
    /// The application's name.
    pub name: String,
    /// Its version, empty where none is given.
    pub version: String,
    /// What it is, for people.
    pub description: String,
    /// Topics to create where missing, with their number of partitions.
    pub topics: BTreeMap<String, i32>,
    /// The application variable that fnhost fills with `host:port` of the database where it has no value.
    pub database_host_variable: Option<String>,
    /// Routes that push records to clients, in the order of the file.
    pub live: Vec<LiveRoute>,
    /// Programs that stand in for other systems beside a private database, in the order of the file.
    pub services: Vec<Service>,
    /// What a request has to pass first.
    pub edge: edge::Edge,
    /// Labels of key-value stores whose values are gone at an age, with it; those of others stay.
    pub key_value_max_age: BTreeMap<String, Duration>,
    /// A first try for people, shown when everything runs; `{listen}` stands for the HTTP address.
    pub example: Option<String>,
}

/// `[[application.tool.fnhost.live]]`: a route on which clients are sent the records of one key as they come.
#[derive(Debug, Clone)]
pub struct LiveRoute {
    /// Route pattern that clients connect to.
    pub route: Pattern,
    /// The route's parameter whose value is the records' key.
    pub key: String,
    /// Asked once with the client's own headers, parameters filled in: whether the client may see it, and how it stands.
    pub snapshot: Pattern,
    /// Topics whose records are sent.
    pub topics: Vec<String>,
    /// Top-level fields of a record's JSON object that clients are sent; all where none are named.
    pub fields: Option<Vec<String>>,
    /// Origins of other hosts, `https://shop.example`, whose pages may open a WebSocket here.
    pub origins: Vec<String>,
}

/// `[[application.tool.fnhost.service]]`: a program that stands in for another system where fnhost runs a private database and
/// nobody says where the real one is.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name in messages, and of its folder.
    pub name: String,
    /// Path of the program to run.
    pub command: PathBuf,
    /// What it is given: `{address}` stands for the `host:port` to listen on, `{folder}` for a folder that it has alone,
    /// `{secret_file}` for the file with its secret, `{http}` for the `host:port` where fnhost serves HTTP.
    pub arguments: Vec<String>,
    /// Part of the line that it prints when it listens.
    pub ready: String,
    /// The port that it is given where that is free.
    pub port: u16,
    /// The application variable that says where it is, `http://host:port`; a value that somebody gives keeps it from running.
    pub url_variable: String,
    /// The application variable with the secret that both sides know.
    pub secret_variable: Option<String>,
}

/// `[variables]`: one application variable.
#[derive(Debug, Clone)]
pub struct Variable {
    /// What it is for.
    pub description: Option<String>,
    /// The value where nobody gives one; `None` means that one must be given.
    pub default: Option<Secret>,
    /// Whether its value must never be shown.
    pub secret: bool,
}

/// `[component.ID]`.
#[derive(Debug, Clone)]
pub struct Component {
    /// The component's id.
    pub id: String,
    /// The WebAssembly file, absolute or relative to the working directory as the manifest is.
    pub source: PathBuf,
    /// What it is, for people.
    pub description: String,
    /// Hosts it may reach, before their variables are filled in.
    pub allowed_outbound_hosts: Vec<Template>,
    /// What `spin:variables` gives it, before the variables are filled in.
    pub variables: BTreeMap<String, Template>,
    /// Environment variables of its WASI environment.
    pub environment: BTreeMap<String, String>,
    /// What it sees of the file system.
    pub files: Files,
    /// Key-value stores that it may open.
    pub key_value_stores: BTreeSet<String>,
    /// How it is built.
    pub build: Option<Build>,
    /// What one call may use.
    pub limits: Limits,
    /// How its requests to other hosts are sent.
    pub outbound: OutboundSettings,
    /// Which statements its HTTP handler may send.
    pub http_sql: HttpSql,
    /// Its schema, role and migrations.
    pub database: Option<Database>,
    /// When its Kafka handler is called without a record.
    pub schedules: Vec<Schedule>,
}

/// `[[component.ID.tool.fnhost.schedule]]`.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Its id within the component, part of the name of the stream it emits on.
    pub id: String,
    /// Time between two ticks.
    pub every: Duration,
    /// Topics it may emit to.
    pub emits: Vec<String>,
}

/// `http_sql` of a component: which statements its HTTP handler may send. A Kafka handler sends statements on rows alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HttpSql {
    /// Statements on rows, as in a Kafka handler.
    #[default]
    Rows,
    /// Any, `BEGIN`, `SET` and `ALTER ROLE` too: what the component's role may, its HTTP handler may.
    Any,
}

/// What one call of a component may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes over all its memories and tables.
    pub memory_bytes: usize,
    /// Time from its instantiation to its end.
    pub deadline: Duration,
    /// HTTP calls of the component at a time, others queue; `None` leaves the bound to the pool.
    pub max_concurrency: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: (DEFAULT_MEMORY_LIMIT_MB as usize) << 20,
            deadline: Duration::from_millis(DEFAULT_DEADLINE_MS.unsigned_abs()),
            max_concurrency: None,
        }
    }
}

/// `[component.ID.build]`.
#[derive(Debug, Clone)]
pub struct Build {
    /// Shell commands, run in order.
    pub commands: Vec<String>,
    /// Where they run, relative to the manifest.
    pub workdir: Option<PathBuf>,
    /// Globs of the files that a rebuild depends on.
    pub watch: Vec<String>,
}

/// `[component.ID.tool.fnhost.database]`.
#[derive(Debug, Clone)]
pub struct Database {
    /// The component's own Postgres schema.
    pub schema: String,
    /// The application variable that fnhost fills with the URL of the component's role where it has no value.
    pub url_variable: String,
    /// Directory of its migrations.
    pub migrations: Option<PathBuf>,
    /// SQL with its demo data, put in once where fnhost runs a private Postgres.
    pub demo: Option<PathBuf>,
    /// The table that takes its events from HTTP.
    pub events: Option<String>,
    /// Topics that rows of that table may name.
    pub event_topics: Vec<String>,
}

/// `[[trigger.http]]`.
#[derive(Debug, Clone)]
pub struct HttpTrigger {
    /// The component that answers.
    pub component: String,
    /// Route that the component answers.
    pub route: Route,
}

/// `[[component.ID.tool.fnhost.kafka]]` or `[[trigger.kafka]]`.
#[derive(Debug, Clone)]
pub struct KafkaTrigger {
    /// The trigger's id, part of the name of the streams it emits on.
    pub id: String,
    /// The component that handles the records.
    pub component: String,
    /// The consumer group.
    pub group: String,
    /// Topics it subscribes to; never empty.
    pub topics: Vec<String>,
    /// Topics it may emit to.
    pub emits: Vec<String>,
    /// Where a partition without a stored position starts.
    pub start: Start,
    /// How it takes records and tries them again.
    pub config: TriggerConfig,
    /// Which records it wants; others are passed over before the function is called.
    pub filter: Filter,
    /// Topic that gets copies of its dead letters, where it is not the one of each topic.
    pub dead_letter_topic: Option<String>,
}

impl KafkaTrigger {
    /// The topic that gets copies of the dead letters of `topic`.
    pub fn dead_letters(&self, topic: &str) -> String {
        self.dead_letter_topic.clone().unwrap_or_else(|| dead_letter_topic(topic))
    }
}

impl Manifest {
    /// Reads and checks the manifest at `path`, also that the files it names are there.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let manifest = Self::parse(path, &text)?;
        manifest.check_files()?;
        Ok(manifest)
    }

    /// Checks the text of a manifest; `path` places its messages and relative files.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        validate::manifest(&error::Source { path, text })
    }

    /// Gives every variable its value and fills the components' templates.
    pub fn resolve(&self, sources: &VariableSources) -> Result<Values, Error> {
        variables::resolve(self, sources)
    }

    /// Whether each component's file, each migrations directory and each file with demo data is there.
    fn check_files(&self) -> Result<(), Error> {
        let whole_file =
            |message| Error::Invalid { place: Place { path: self.path.clone(), line: None }, message };
        for component in self.components.values() {
            if !component.source.is_file() {
                let cure = match &component.build {
                    Some(build) => format!("build it with: {}", build.commands.join(" && ")),
                    None => "build it first; it has no build.command".to_owned(),
                };
                return Err(whole_file(format!(
                    "component \"{}\" has no file at {}; {cure}",
                    component.id,
                    component.source.display(),
                )));
            }
            let Some(database) = &component.database else { continue };
            if let Some(demo) = database.demo.as_ref().filter(|demo| !demo.is_file()) {
                return Err(whole_file(format!(
                    "component \"{}\" has no demo data at {}; create the file or remove the key \"demo\"",
                    component.id,
                    demo.display(),
                )));
            }
            if let Some(directory) = database.migrations.as_ref().filter(|directory| !directory.is_dir()) {
                return Err(whole_file(format!(
                    "component \"{}\" has no migrations directory at {}; \
                     create it or remove the key \"migrations\"",
                    component.id,
                    directory.display(),
                )));
            }
        }
        Ok(())
    }
}
