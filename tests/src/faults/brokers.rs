//! Kafka brokers of the suite: KRaft nodes that are broker and controller at once, each a process that can be killed alone.

use super::proxy::Proxy;
use crate::kafka::Cluster;
use crate::process;
use crate::system::free_port;
use crate::wait::{Look, until};
use anyhow::Context as _;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::sync::Mutex;
use uuid::Uuid;

/// Time in which a broker serves, on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(90);
/// A small heap and the quick compiler: brokers move bytes.
const JVM: [&str; 4] = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xms64m", "-Xmx320m"];
const LOGGING: [&str; 2] = [
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
];
const READY: &str = "Kafka Server started";
/// Copies of each partition, where there are as many brokers.
const REPLICAS_MAX: usize = 3;

/// All brokers.
pub struct Brokers {
    nodes: Vec<Node>,
}

/// One broker, with the proxy at which clients reach it.
struct Node {
    proxy: Proxy,
    java: PathBuf,
    jars: PathBuf,
    home: PathBuf,
    process: Mutex<Option<Child>>,
}

impl Brokers {
    /// Formats and starts so many brokers below `folder`.
    ///
    /// # Errors
    /// Java or Kafka is missing, or a broker does not come up.
    pub async fn start(count: usize, folder: &Path) -> anyhow::Result<Self> {
        let (java, jars) = fnhost_embedded::find_kafka()?;
        let ports: Vec<[u16; 4]> = (0..count)
            .map(|_| Ok([free_port()?, free_port()?, free_port()?, free_port()?]))
            .collect::<anyhow::Result<_>>()?;
        let voters: Vec<String> = ports
            .iter()
            .enumerate()
            .map(|(id, ports)| format!("{}@127.0.0.1:{}", id + 1, ports[2]))
            .collect();
        // 16 bytes in base64url: hexadecimal digits are among its characters, and the last one carries two bits.
        let cluster = format!("{}A", &Uuid::new_v4().simple().to_string()[..21]);
        let mut nodes = Vec::new();
        for (id, ports) in ports.iter().enumerate() {
            let home = folder.join(format!("kafka-{}", id + 1));
            std::fs::create_dir(&home)?;
            std::fs::write(home.join("server.properties"), settings(id + 1, *ports, &voters, &home))?;
            let proxy = Proxy::start(ports[3], ports[0]).await?;
            nodes.push(Node {
                proxy,
                java: java.clone(),
                jars: jars.clone(),
                home,
                process: Mutex::default(),
            });
        }
        for node in &nodes {
            node.format(&cluster)?;
        }
        for node in &nodes {
            node.spawn().await?;
        }
        let brokers = Self { nodes };
        for id in 0..count {
            brokers.wait_ready(id, 1).await?;
        }
        Ok(brokers)
    }

    /// The addresses for clients: those of the proxies.
    #[must_use]
    pub fn addresses(&self) -> String {
        let addresses = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.proxy.port()));
        addresses.collect::<Vec<_>>().join(",")
    }

    /// The cluster for clients.
    #[must_use]
    pub fn cluster(&self) -> Cluster {
        Cluster::open(self.addresses())
    }

    /// The proxy in front of a broker.
    #[must_use]
    pub fn proxy(&self, id: usize) -> &Proxy {
        &self.nodes[id].proxy
    }

    /// All proxies.
    pub fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.nodes.iter().map(|node| &node.proxy)
    }

    /// `kill -9` of a broker, which is started again after `gone`; waits until it serves.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn kill_and_start(&self, id: usize, gone: Duration) -> anyhow::Result<()> {
        let node = &self.nodes[id];
        let starts = node.starts();
        if let Some(mut child) = node.process.lock().await.take() {
            process::kill(&mut child)?;
        }
        tokio::time::sleep(gone).await;
        node.spawn().await?;
        self.wait_ready(id, starts + 1).await
    }

    async fn wait_ready(&self, id: usize, starts: usize) -> anyhow::Result<()> {
        let node = &self.nodes[id];
        until("a broker to serve", START_DEADLINE, async || {
            Ok(Look::from_bool(node.starts() >= starts, node.home.display().to_string()))
        })
        .await
    }
}

impl Node {
    fn format(&self, cluster: &str) -> anyhow::Result<()> {
        let mut command = Command::new(&self.java);
        command.args(JVM).args(LOGGING).arg("-cp").arg(self.jars.join("*")).arg("kafka.tools.StorageTool");
        command
            .args(["format", "--cluster-id", cluster, "--config"])
            .arg(self.home.join("server.properties"));
        let formatted = command.stdin(Stdio::null()).output().context("run java")?;
        let said = String::from_utf8_lossy(&formatted.stderr);
        anyhow::ensure!(formatted.status.success(), "format {}: {said}", self.home.display());
        Ok(())
    }

    async fn spawn(&self) -> anyhow::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.log())?;
        let errors = log.try_clone()?;
        let child = process::spawn(&self.java, |command| {
            command.args(JVM).args(LOGGING).arg("-cp").arg(self.jars.join("*")).arg("kafka.Kafka");
            command.arg(self.home.join("server.properties")).current_dir(&self.home);
            command.stdin(Stdio::null()).stdout(log).stderr(errors);
        })?;
        *self.process.lock().await = Some(child);
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.home.join("kafka.log")
    }

    /// How often it has begun to serve.
    fn starts(&self) -> usize {
        std::fs::read_to_string(self.log()).unwrap_or_default().matches(READY).count()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.get_mut().take() {
            let _ = process::kill(&mut child);
        }
    }
}

fn settings(
    id: usize,
    [port, internal, controller, proxy]: [u16; 4],
    voters: &[String],
    home: &Path,
) -> String {
    let replicas = voters.len().min(REPLICAS_MAX);
    let in_sync = replicas.saturating_sub(1).max(1);
    format!(
        "process.roles=broker,controller\n\
         node.id={id}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},INTERNAL://127.0.0.1:{internal},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{proxy},INTERNAL://127.0.0.1:{internal}\n\
         inter.broker.listener.name=INTERNAL\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         controller.quorum.voters={}\n\
         log.dirs={}\n\
         auto.create.topics.enable=false\n\
         default.replication.factor={replicas}\n\
         min.insync.replicas={in_sync}\n\
         offsets.topic.replication.factor={replicas}\n\
         offsets.topic.num.partitions=6\n\
         transaction.state.log.replication.factor={replicas}\n\
         transaction.state.log.min.isr={in_sync}\n\
         transaction.state.log.num.partitions=3\n\
         share.coordinator.state.topic.replication.factor={replicas}\n\
         share.coordinator.state.topic.min.isr={in_sync}\n\
         share.coordinator.state.topic.num.partitions=3\n\
         group.initial.rebalance.delay.ms=0\n\
         log.segment.bytes=134217728\n\
         log.cleaner.dedupe.buffer.size=8388608\n\
         num.network.threads=2\n\
         num.io.threads=4\n\
         # A killed broker is refused by the controller until its session has run out (9 s by default).\n\
         broker.session.timeout.ms=2000\n\
         broker.heartbeat.interval.ms=500\n",
        voters.join(","),
        home.join("data").display(),
    )
}
