//! A broker that the tests share.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use fnhost_embedded::{PrivateKafka, Servers};
use fnhost_kafka::access::{Access, Properties};
use rdkafka::ClientConfig;
use uuid::Uuid;

/// A private Kafka in a folder of its own.
pub struct Kafka {
    servers: Option<Servers>,
    folder: PathBuf,
}

impl Kafka {
    /// The broker of this test process, started where no other test has it running.
    pub async fn shared() -> Arc<Self> {
        static SHARED: tokio::sync::Mutex<Weak<Kafka>> = tokio::sync::Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let folder = std::env::temp_dir().join(format!("fnhost-dispatch-{}", Uuid::new_v4()));
        let mut options = fnhost_embedded::Options::new(&folder);
        options.postgres = false;
        let servers = match fnhost_embedded::start(options).await {
            Ok(servers) => Some(servers),
            Err(error) => panic!("no Kafka: {:#}", anyhow::Error::from(error)),
        };
        let started = Arc::new(Self { servers, folder });
        *shared = Arc::downgrade(&started);
        started
    }

    fn private(&self) -> &PrivateKafka {
        self.servers.as_ref().and_then(|servers| servers.kafka.as_ref()).expect("a Kafka")
    }

    /// How hosts reach it.
    pub fn access(&self) -> Access {
        let properties = Properties::read(Some(&self.private().config), []).expect("properties");
        Access::new(&self.private().address, properties)
    }

    /// What other clients begin with.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.private().address);
        config.extend(self.private().properties().expect("properties"));
        config
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // Its end is awaited on a thread without a runtime: the test's own may be this one.
        let servers = self.servers.take().expect("stopped once");
        let stopped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(servers.stop());
        });
        let _ = stopped.join();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
