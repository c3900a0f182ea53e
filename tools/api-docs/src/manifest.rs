//! What of `spin.toml` the documents tell: topics, who reads and writes them, and routes that push.

use anyhow::Context as _;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The manifest's part that is read here; fnhost checks all of it.
#[derive(Debug, Deserialize)]
pub struct Manifest {
    /// What holds for all components.
    pub application: Application,
    /// The components by id.
    pub component: BTreeMap<String, Component>,
}

/// `[application]`
#[derive(Debug, Deserialize)]
pub struct Application {
    /// Version of the application.
    pub version: String,
    /// What only fnhost reads.
    pub tool: Tool<Host>,
}

/// `[application.tool]`, `[component.ID.tool]`
#[derive(Debug, Deserialize)]
pub struct Tool<T> {
    /// The table of fnhost.
    pub fnhost: T,
}

/// `[application.tool.fnhost]`
#[derive(Debug, Deserialize)]
pub struct Host {
    /// Topics by name.
    pub topics: BTreeMap<String, Topic>,
    /// Live routes.
    pub live: Vec<LiveRoute>,
}

/// A topic.
#[derive(Debug, Deserialize)]
pub struct Topic {
    /// How many it is created with.
    pub partitions: u32,
}

/// `[[application.tool.fnhost.live]]`
#[derive(Debug, Deserialize)]
pub struct LiveRoute {
    /// Its path, with `:name` for parameters.
    pub route: String,
    /// Whose records are sent.
    pub topics: Vec<String>,
    /// What of a record's value is sent.
    pub fields: Vec<String>,
}

/// `[component.ID]`
#[derive(Debug, Deserialize)]
pub struct Component {
    /// What only fnhost reads.
    pub tool: Tool<Handlers>,
}

/// `[component.ID.tool.fnhost]`
#[derive(Debug, Deserialize)]
pub struct Handlers {
    /// The component's database, where it has one.
    #[serde(default)]
    pub database: Database,
    /// Kafka subscriptions of the component.
    #[serde(default)]
    pub kafka: Vec<Subscription>,
}

/// `[component.ID.tool.fnhost.database]`
#[derive(Debug, Default, Deserialize)]
pub struct Database {
    /// Topics that events go to that are inserted in it.
    #[serde(default)]
    pub event_topics: Vec<String>,
}

/// `[[component.ID.tool.fnhost.kafka]]`
#[derive(Debug, Deserialize)]
pub struct Subscription {
    /// The consumer group.
    pub group: String,
    /// Topics that the subscription consumes.
    pub topics: Vec<String>,
    /// Topics that the subscription may emit to.
    pub emits: Vec<String>,
}

impl Manifest {
    /// The manifest of this checkout.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read() -> anyhow::Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spin.toml");
        toml::from_str(&std::fs::read_to_string(path)?).context("spin.toml")
    }
}
