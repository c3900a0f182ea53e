//! `spin.toml` as it is written: version 2 of Spin's manifest plus the `tool.fnhost` tables.
//!
//! Every key that Spin knows has a field, also where fnhost cannot run it, so that "unknown key" and
//! "known to Spin, not run by fnhost" are told apart. Values that an error may point at are [`Spanned`].

mod edge;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

pub(crate) use super::trigger::Subscription;
pub use edge::{Cors, Edge, Policy, RateLimit, Shed};

/// A key that only Spin can use; refused where it holds anything.
pub type SpinOnly = Option<Spanned<toml::Value>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub spin_manifest_version: Spanned<i64>,
    pub application: Application,
    #[serde(default)]
    pub variables: BTreeMap<Spanned<String>, Variable>,
    #[serde(default)]
    pub trigger: Triggers,
    #[serde(default)]
    pub component: BTreeMap<Spanned<String>, Component>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    pub name: Spanned<String>,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub description: String,
    #[serde(default, rename = "authors")]
    pub _authors: Vec<String>,
    // What `spin build` checks against; it changes nothing at run time.
    #[serde(default, rename = "targets")]
    pub _targets: IgnoredAny,
    pub trigger: SpinOnly,
    #[serde(default)]
    pub tool: Tool<ApplicationTool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    pub description: Option<String>,
    #[serde(default)]
    pub required: bool,
    pub default: Option<String>,
    #[serde(default)]
    pub secret: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpTrigger {
    pub id: Option<Spanned<String>>,
    pub component: Option<Spanned<TextOr<Component>>>,
    pub route: Spanned<TextOr<PrivateRoute>>,
    pub executor: Option<Spanned<Executor>>,
    pub static_response: SpinOnly,
    pub components: SpinOnly,
    pub dependencies: SpinOnly,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivateRoute {
    pub private: Spanned<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Executor {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(rename = "argv")]
    pub _argv: Option<String>,
    #[serde(rename = "entrypoint")]
    pub _entrypoint: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    pub source: Spanned<TextOr<RemoteSource>>,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub variables: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    #[serde(default)]
    pub allowed_outbound_hosts: Vec<Spanned<String>>,
    pub build: Option<Build>,
    #[serde(default)]
    pub tool: Tool<ComponentTool>,
    #[serde(default)]
    pub files: Vec<Spanned<TextOr<FilePlacement>>>,
    #[serde(default)]
    pub exclude_files: Vec<Spanned<String>>,
    #[serde(default)]
    pub key_value_stores: Vec<Spanned<String>>,
    pub allowed_http_hosts: SpinOnly,
    pub sqlite_databases: SpinOnly,
    pub ai_models: SpinOnly,
    pub dependencies: SpinOnly,
    // These three matter to `spin build` and to named build profiles only.
    #[serde(default, rename = "targets")]
    pub _targets: IgnoredAny,
    #[serde(default, rename = "dependencies_inherit_configuration")]
    pub _dependencies_inherit_configuration: bool,
    #[serde(default, rename = "profile")]
    pub _profile: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePlacement {
    pub source: String,
    pub destination: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteSource {
    pub url: Option<String>,
    #[serde(rename = "digest")]
    pub _digest: Option<String>,
    #[serde(rename = "registry")]
    pub _registry: Option<String>,
    pub package: Option<String>,
    #[serde(rename = "version")]
    pub _version: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    pub command: TextOr<Vec<String>>,
    pub workdir: Option<String>,
    #[serde(default)]
    pub watch: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct ApplicationTool {
    #[serde(default)]
    pub topics: BTreeMap<Spanned<String>, Topic>,
    pub database: Option<HostDatabase>,
    pub example: Option<String>,
    // Until 0.3 also under the name that it had.
    #[serde(default, alias = "push")]
    pub live: Vec<LiveRoute>,
    #[serde(default)]
    pub service: Vec<Service>,
    #[serde(default, alias = "gateway")]
    pub edge: Edge,
    #[serde(default)]
    pub key_value_max_age_ms: BTreeMap<Spanned<String>, Spanned<i64>>,
}

/// `[[application.tool.fnhost.service]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub name: Spanned<String>,
    pub command: Spanned<String>,
    #[serde(default)]
    pub arguments: Vec<Spanned<String>>,
    pub ready: Spanned<String>,
    pub port: Spanned<i64>,
    pub url_variable: Spanned<String>,
    pub secret_variable: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveRoute {
    pub route: Spanned<String>,
    pub key: Spanned<String>,
    pub snapshot: Spanned<String>,
    pub fields: Option<Vec<String>>,
    #[serde(default)]
    pub origins: Vec<Spanned<String>>,
    pub topics: Spanned<Vec<Spanned<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    pub partitions: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostDatabase {
    pub host_variable: Spanned<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct ComponentTool {
    pub memory_limit_mb: Option<Spanned<i64>>,
    pub deadline_ms: Option<Spanned<i64>>,
    pub max_concurrency: Option<Spanned<i64>>,
    pub http_sql: Option<Spanned<String>>,
    pub database: Option<ComponentDatabase>,
    pub outbound: Option<Outbound>,
    #[serde(default)]
    pub(crate) kafka: Vec<Subscription>,
    #[serde(default)]
    pub schedule: Vec<Schedule>,
}

/// `[component.ID.tool.fnhost.outbound]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outbound {
    pub connect_timeout_ms: Option<Spanned<i64>>,
    pub first_byte_timeout_ms: Option<Spanned<i64>>,
    pub total_timeout_ms: Option<Spanned<i64>>,
    pub max_concurrent: Option<Spanned<i64>>,
    pub max_queued: Option<Spanned<i64>>,
    pub max_retries: Option<Spanned<i64>>,
    pub retry_budget_percent: Option<Spanned<i64>>,
    pub open_at_error_percent: Option<Spanned<i64>>,
    pub open_at_calls: Option<Spanned<i64>>,
    pub open_ms: Option<Spanned<i64>>,
}

/// `[[component.ID.tool.fnhost.schedule]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    pub id: Spanned<String>,
    pub every_s: Spanned<i64>,
    #[serde(default)]
    pub emits: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentDatabase {
    /// Named after the component where absent; its migrations then are where convention has them.
    pub schema: Option<Spanned<String>>,
    /// What the component's `database_url` is filled from where absent.
    pub url_variable: Option<Spanned<String>>,
    pub migrations: Option<Spanned<String>>,
    pub demo: Option<Spanned<String>>,
    pub events: Option<Spanned<String>>,
    #[serde(default)]
    pub event_topics: Vec<Spanned<String>>,
}

/// The `tool` table: `fnhost` is ours, every other name belongs to somebody else.
pub struct Tool<T> {
    pub fnhost: T,
    pub others: Vec<Spanned<String>>,
}

impl<T: Default> Default for Tool<T> {
    fn default() -> Self {
        Self { fnhost: T::default(), others: Vec::new() }
    }
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Tool<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for Table<T> {
            type Value = Tool<T>;
            fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
                out.write_str("a table of tool settings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tool<T>, A::Error> {
                let mut tool = Tool::default();
                while let Some(name) = map.next_key::<Spanned<String>>()? {
                    if name.get_ref() == "fnhost" {
                        tool.fnhost = map.next_value()?;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                        tool.others.push(name);
                    }
                }
                Ok(tool)
            }
        }
        deserializer.deserialize_map(Table(PhantomData))
    }
}

/// The `trigger` tables: the two types that fnhost runs, and the names of the others.
#[derive(Default)]
pub struct Triggers {
    pub http: Vec<HttpTrigger>,
    pub(crate) kafka: Vec<Subscription>,
    pub others: Vec<Spanned<String>>,
}

impl<'de> Deserialize<'de> for Triggers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table;
        impl<'de> Visitor<'de> for Table {
            type Value = Triggers;
            fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
                out.write_str("tables of triggers, like [[trigger.http]]")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Triggers, A::Error> {
                let mut triggers = Triggers::default();
                while let Some(name) = map.next_key::<Spanned<String>>()? {
                    match name.get_ref().as_str() {
                        "http" => triggers.http = map.next_value()?,
                        "kafka" => triggers.kafka = map.next_value()?,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            triggers.others.push(name);
                        }
                    }
                }
                Ok(triggers)
            }
        }
        deserializer.deserialize_map(Table)
    }
}

/// A string, or what may be written in its place. Unlike an untagged enum it keeps the place and the
/// wording of an error inside.
pub enum TextOr<T> {
    Text(String),
    Other(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for TextOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = TextOr<T>;
            fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
                out.write_str("a string or its longer form")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TextOr::Text(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(TextOr::Other)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                T::deserialize(SeqAccessDeserializer::new(seq)).map(TextOr::Other)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}
