//! Where an fnhost and its servers are, and clients of them.

use super::{Fnhost, address};
use crate::client::Client;
use crate::database::Database;
use crate::kafka::Cluster;
use anyhow::Context as _;
use fnhost_embedded::PrivateKafka;
use std::path::{Path, PathBuf};

impl Fnhost {
    /// A client of the HTTP address, with connections of its own.
    ///
    /// # Errors
    /// None; for `?`.
    pub fn client(&self) -> anyhow::Result<Client> {
        Client::new(&address(self.http))
    }

    /// A client of the admin address, which logs in.
    ///
    /// # Errors
    /// None; for `?`.
    pub fn admin(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&address(self.admin))?.with_token_of(&self.data_dir().join("secrets/admin")))
    }

    /// Its private Kafka.
    ///
    /// # Errors
    /// It has none.
    pub fn kafka(&self) -> anyhow::Result<Cluster> {
        Cluster::private(&self.private_kafka()?)
    }

    /// Where its private Kafka is, and the file with the login.
    ///
    /// # Errors
    /// It has none.
    pub fn private_kafka(&self) -> anyhow::Result<PrivateKafka> {
        let address = format!("127.0.0.1:{}", self.kept("run/kafka.port")?);
        Ok(PrivateKafka { address, config: self.data_dir().join("secrets/kafka.conf") })
    }

    /// URL of its payment gateway.
    ///
    /// # Errors
    /// It has none.
    pub fn payment_gateway(&self) -> anyhow::Result<String> {
        Ok(format!("http://127.0.0.1:{}", self.kept("run/payment-gateway.port")?))
    }

    /// URL of its private database, as the owner.
    ///
    /// # Errors
    /// It has none.
    pub fn database_url(&self) -> anyhow::Result<String> {
        let (password, port) = (self.kept("secrets/postgres")?, self.kept("run/postgres.port")?);
        Ok(format!("postgres://fnhost:{password}@127.0.0.1:{port}/fnhost"))
    }

    /// Its private database, as the owner.
    ///
    /// # Errors
    /// It has none, or it does not answer.
    pub async fn database(&self) -> anyhow::Result<Database> {
        Database::connect(&self.database_url()?).await
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.setup.data_dir.clone().unwrap_or_else(|| self.folder.path().join("data"))
    }

    /// Its manifest, a copy that this fnhost has alone.
    #[must_use]
    pub fn manifest_path(&self) -> PathBuf {
        self.folder.path().join("spin.toml")
    }

    /// The locked application that it reads under Spin.
    #[must_use]
    pub fn lock_path(&self) -> PathBuf {
        self.folder.path().join("spin.lock")
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Moves all that it keeps, its log too, to a folder that stays.
    ///
    /// # Errors
    /// It cannot be moved there.
    pub fn keep(&self, to: &Path) -> anyhow::Result<()> {
        self.folder.keep(to)
    }

    /// All it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    pub(super) fn kept(&self, name: &str) -> anyhow::Result<String> {
        let path = self.data_dir().join(name);
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(text.trim().to_owned())
    }
}
