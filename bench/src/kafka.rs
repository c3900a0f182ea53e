//! The Kafka of a run: where it is, and how clients log in.

use anyhow::Context as _;
use fnhost_embedded::PrivateKafka;
use fnhost_kafka::access::{Access, Properties};
use rdkafka::ClientConfig;
use std::path::{Path, PathBuf};

/// Handed to processes by environment, under fnhost's own names.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Kafka {
    /// Bootstrap addresses of Kafka
    #[arg(long = "kafka", env = "FNHOST_KAFKA")]
    address: String,
    /// File of librdkafka properties with the login
    #[arg(long = "kafka-config", env = "FNHOST_KAFKA_CONFIG")]
    config: Option<PathBuf>,
}

impl Kafka {
    /// The one of servers that run.
    ///
    /// # Errors
    /// There is none.
    pub fn private(kafka: Option<&PrivateKafka>) -> anyhow::Result<Self> {
        let PrivateKafka { address, config } = kafka.context("no Kafka")?.clone();
        Ok(Self { address, config: Some(config) })
    }

    /// The one of a data directory with its port. An fnhost of another build may have one without a login.
    #[must_use]
    pub fn of(data_dir: &Path, port: &str) -> Self {
        let config = Some(data_dir.join("secrets/kafka.conf")).filter(|config| config.exists());
        Self { address: format!("127.0.0.1:{port}"), config }
    }

    /// As variables of a process.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, String)> {
        let config = self.config.as_ref().map(|config| config.display().to_string());
        [("FNHOST_KAFKA", Some(self.address.clone())), ("FNHOST_KAFKA_CONFIG", config)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
    }

    /// What clients begin with.
    ///
    /// # Errors
    /// The login cannot be read.
    pub fn client(&self) -> anyhow::Result<ClientConfig> {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.address);
        if let Some(config) = self.config.clone() {
            client.extend(PrivateKafka { address: self.address.clone(), config }.properties()?);
        }
        Ok(client)
    }

    /// How a host reaches it.
    ///
    /// # Errors
    /// The login cannot be read.
    pub fn access(&self) -> anyhow::Result<Access> {
        Ok(Access::new(&self.address, Properties::read(self.config.as_deref(), [])?))
    }
}
