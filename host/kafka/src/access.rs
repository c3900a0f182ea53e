//! How the cluster is reached: its addresses, and librdkafka's properties for clusters that ask for TLS or a login.
//!
//! The properties go over what fnhost sets itself, for every client alike, so that a deployment can also tune what it has to. Those
//! that the guarantees rest on are refused by name.

use super::Error;
use fnhost_manifest::Secret;
use fnhost_types::stream_keys::StreamKeys;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use std::collections::BTreeMap;
use std::path::Path;

/// Begins the names of variables that stand for a property: `FNHOST_KAFKA_CONFIG_SASL_PASSWORD` is `sasl.password`.
pub const VARIABLE_PREFIX: &str = "FNHOST_KAFKA_CONFIG_";
/// Bytes that a consumer without a group may have fetched and not yet read, KiB.
const READER_QUEUED_MAX_KIB: u32 = 8_192;

/// Properties that are refused, and why.
const REFUSED: [(&[&str], &str); 11] = [
    (&["bootstrap.servers", "metadata.broker.list"], "the addresses are given with --kafka (FNHOST_KAFKA)"),
    (&["group.id"], "the manifest names each trigger's group"),
    (
        &["group.instance.id"],
        "the member is named by the data directory, so that a restart gets its partitions back at once",
    ),
    (
        &["group.protocol", "group.remote.assignor", "partition.assignment.strategy"],
        "take-overs depend on the cooperative protocol with static members",
    ),
    (
        &[
            "enable.auto.commit",
            "auto.commit.enable",
            "auto.commit.interval.ms",
            "enable.auto.offset.store",
            "auto.offset.reset",
            "offset.store.method",
        ],
        "positions are kept in Postgres, in the transaction of the effects; a trigger's `start` in the manifest says where it begins",
    ),
    (&["enable.partition.eof"], "the end of a partition is not an error"),
    (
        &["isolation.level"],
        "records of transactions that were aborted must not have effects: it is read_committed",
    ),
    (
        &[
            "acks",
            "request.required.acks",
            "enable.idempotence",
            "enable.gapless.guarantee",
            "transactional.id",
            "queuing.strategy",
            "delivery.report.only.error",
        ],
        "each stream is sent in order, without a gap, and acknowledged by all replicas, or messages could be lost or duplicated",
    ),
    (
        &["message.timeout.ms", "delivery.timeout.ms", "retries", "message.send.max.retries"],
        "committed messages are sent until Kafka has them; they are never given up",
    ),
    (&["allow.auto.create.topics"], "topics are declared in the manifest, with their partitions"),
    (&["partitioner", "partitioner_cb"], "a message's partition is fixed when it is committed"),
];
/// What this build of librdkafka can log in with.
const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// A property, and where it was given.
#[derive(Clone)]
struct Property {
    name: String,
    value: Secret,
    source: String,
}

/// Properties for every client.
#[derive(Clone, Default)]
pub struct Properties(Vec<Property>);

/// Where the cluster is, and how it is reached. Cheap enough to clone for each client.
#[derive(Clone)]
pub struct Access {
    brokers: String,
    properties: Properties,
    keys: StreamKeys,
}

impl Properties {
    /// Reads a file of lines `name=value`; empty lines and those that begin with `#` are skipped. Then the variables of the
    /// environment that begin with [`VARIABLE_PREFIX`], which win.
    ///
    /// # Errors
    /// The file cannot be read, a line is none, or a property is unknown, unfit or refused. Values are never shown.
    pub fn read(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let mut found: BTreeMap<String, Property> = BTreeMap::new();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Error::Client(format!("cannot read the Kafka properties in {}: {error}", path.display()))
            })?;
            for (index, line) in text.lines().enumerate().map(|(index, line)| (index, line.trim())) {
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let source = format!("{}:{}", path.display(), index + 1);
                let Some((name, value)) = line.split_once('=') else {
                    return Err(Error::Client(format!("{source}: a line has the form name=value")));
                };
                let property = Property::new(name.trim(), value.trim(), source);
                if let Some(first) = found.insert(property.name.clone(), property.clone()) {
                    let (name, source) = (property.name, property.source);
                    return Err(Error::Client(format!("{source}: {name} is also in {}", first.source)));
                }
            }
        }
        for (variable, value) in environment {
            if let Some(name) = variable.strip_prefix(VARIABLE_PREFIX) {
                let name = name.to_lowercase().replace('_', ".");
                found.insert(name.clone(), Property::new(&name, &value, variable));
            }
        }
        let properties = Self(found.into_values().collect());
        properties.check()?;
        Ok(properties)
    }

    /// True where there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|property| property.name == name).map(|property| property.value.expose())
    }

    fn check(&self) -> Result<(), Error> {
        for property in &self.0 {
            let refused = |reason: String| {
                Err(Error::Property { given: property.source.clone(), name: property.name.clone(), reason })
            };
            let name = property.name.as_str();
            if let Some((_, reason)) = REFUSED.iter().find(|(names, _)| names.contains(&name)) {
                return refused((*reason).to_owned());
            }
            if matches!(name, "sasl.mechanism" | "sasl.mechanisms") && !is_built_in(property.value.expose()) {
                return refused(format!("this fnhost logs in with {}", MECHANISMS.join(", ")));
            }
            if let Err(error) = ClientConfig::new().set(name, property.value.expose()).create_native_config()
            {
                // Only what librdkafka says of it: the error itself quotes the value.
                return refused(match error {
                    KafkaError::ClientConfig(_, said, _, _) => said,
                    _ => "librdkafka refuses it".to_owned(),
                });
            }
        }
        let protocol = self.get("security.protocol").unwrap_or_default().to_lowercase();
        let mechanism = self.get("sasl.mechanism").or_else(|| self.get("sasl.mechanisms"));
        if protocol.starts_with("sasl_") && mechanism.is_none() {
            let mechanisms = MECHANISMS.join(", ");
            return Err(Error::Client(format!(
                "security.protocol={protocol} needs sasl.mechanism, one of {mechanisms}, with sasl.username and sasl.password"
            )));
        }
        Ok(())
    }
}

impl Property {
    fn new(name: &str, value: &str, source: String) -> Self {
        Self { name: name.to_owned(), value: Secret::new(value), source }
    }
}

fn is_built_in(mechanism: &str) -> bool {
    MECHANISMS.iter().any(|known| known.eq_ignore_ascii_case(mechanism))
}

impl Access {
    /// A cluster at these bootstrap addresses, `host:port[,host:port]`.
    pub fn new(brokers: &str, properties: Properties) -> Self {
        Self { brokers: brokers.to_owned(), properties, keys: StreamKeys::default() }
    }

    /// A cluster that asks for neither TLS nor a login.
    pub fn plain(brokers: &str) -> Self {
        Self::new(brokers, Properties::default())
    }

    /// The same cluster for the hosts of a deployment: what they send is numbered under its keys, and no other number counts.
    #[must_use]
    pub fn with_keys(self, keys: StreamKeys) -> Self {
        Self { keys, ..self }
    }

    /// The keys under which messages are numbered.
    pub(super) fn keys(&self) -> &StreamKeys {
        &self.keys
    }

    /// Bootstrap addresses.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// What every client of ours begins with.
    pub(super) fn base_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "fnhost")
            .set("socket.nagle.disable", "true")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "2000")
            .set("allow.auto.create.topics", "false")
            .set("log.connection.close", "false");
        config
    }

    /// What a consumer begins with that reads partitions on its own: it joins no group, and commits and stores nothing.
    pub(super) fn reader_config(&self) -> ClientConfig {
        let mut config = self.base_config();
        config
            // librdkafka wants one.
            .set("group.id", "fnhost-reader")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("queued.max.messages.kbytes", READER_QUEUED_MAX_KIB.to_string())
            .set("isolation.level", "read_committed");
        config
    }

    /// Puts the deployment's properties over a client's own.
    pub(super) fn over<'c>(&self, config: &'c mut ClientConfig) -> &'c ClientConfig {
        for property in &self.properties.0 {
            config.set(&property.name, property.value.expose());
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, environment: &[(&str, &str)]) -> Result<Properties, String> {
        let path = std::env::temp_dir().join(format!("fnhost-properties-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, text).unwrap();
        let environment = environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        let read = Properties::read(Some(&path), environment).map_err(|error| error.to_string());
        std::fs::remove_file(&path).unwrap();
        read
    }

    #[test]
    fn a_file_and_the_environment_are_read_and_the_environment_wins() {
        let text = "# for staging\n\nsecurity.protocol = SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nsasl.username=a\nsasl.password=p=q#r\n";
        let variables = [
            ("FNHOST_KAFKA_CONFIG_SASL_USERNAME", "b"),
            ("FNHOST_KAFKA", "x:1"),
            ("FNHOST_KAFKA_CONFIG", "f"),
        ];
        let properties = read(text, &variables).unwrap();
        let all: Vec<_> = properties.0.iter().map(|p| (p.name.as_str(), p.value.expose())).collect();
        assert_eq!(
            all,
            [
                ("sasl.mechanism", "SCRAM-SHA-512"),
                ("sasl.password", "p=q#r"),
                ("sasl.username", "b"),
                ("security.protocol", "SASL_SSL")
            ]
        );
    }

    #[test]
    fn what_would_break_the_protocol_or_is_wrong_is_refused_by_name_and_without_its_value() {
        for (text, expected) in [
            ("enable.auto.commit=hush", "enable.auto.commit cannot be set: positions are kept in Postgres"),
            (
                "client.id=x\nmessage.timeout.ms=hush",
                ":2: message.timeout.ms cannot be set: committed messages are sent",
            ),
            ("group.instance.id=hush", "the member is named by the data directory"),
            ("sasl.mechanism=OAUTHBEARER", "logs in with PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
            ("sasl.passwrod=hush", "sasl.passwrod"),
            ("socket.timeout.ms=1", "socket.timeout.ms"),
            ("security.protocol=sasl_ssl", "needs sasl.mechanism"),
            ("sasl.username=a\nsasl.username=hush", ":2: sasl.username is also in"),
            ("hush", "name=value"),
        ] {
            let error = read(text, &[]).map(drop).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("hush"), "{text}: {error}");
        }
        let error = read("", &[("FNHOST_KAFKA_CONFIG_ACKS", "1")]).map(drop).unwrap_err();
        assert!(error.contains("FNHOST_KAFKA_CONFIG_ACKS: acks cannot be set"), "{error}");
    }

    #[test]
    fn every_refused_name_is_one_of_librdkafkas() {
        for name in REFUSED.iter().flat_map(|(names, _)| *names) {
            let known = ClientConfig::new().set(*name, "").create_native_config().err();
            let unknown =
                matches!(&known, Some(KafkaError::ClientConfig(_, said, _, _)) if said.contains("No such"));
            assert!(!unknown, "{name}: {known:?}");
        }
    }
}
