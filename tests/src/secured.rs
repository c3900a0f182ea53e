//! A Kafka as it stands in a company: behind TLS, a login, or both, with certificates of its own authority.

use crate::certificates::{Authority, succeed};
use crate::process::{self, Folder};
use crate::system::free_port;
use crate::wait::{Look, until};
use anyhow::Context as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// User name for SASL.
pub const USER: &str = "shop";
/// With what; nothing that a log would say by chance.
pub const PASSWORD: &str = "ueberaus-geheim-7391";
/// Time until the broker is ready.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// A running broker. Ends with this value.
#[derive(Debug)]
pub struct SecuredKafka {
    child: Child,
    /// TLS and SCRAM-SHA-512, `host:port`.
    pub sasl_ssl: String,
    /// PLAIN without TLS.
    pub sasl_plaintext: String,
    /// TLS in which the client shows a certificate too.
    pub ssl: String,
    folder: Folder,
}

impl SecuredKafka {
    /// Makes the certificates, formats the broker with its user, and waits until it is ready.
    ///
    /// # Errors
    /// Kafka, Java or openssl is missing, or the broker does not become ready; the error has its log.
    pub async fn start() -> anyhow::Result<Self> {
        let folder = Folder::new()?;
        make_certificates(folder.path())?;
        let ports = [free_port()?, free_port()?, free_port()?, free_port()?];
        let properties = folder.path().join("server.properties");
        std::fs::write(&properties, settings(folder.path(), ports))?;
        let scram = format!("SCRAM-SHA-512=[name={USER},password={PASSWORD}]");
        let arguments =
            ["format", "--cluster-id", "c2VjdXJlZC10ZXN0LTAwMQ", "--add-scram", &scram, "--config"];
        let mut format = Command::new("sh");
        kafka(&mut format, folder.path(), "kafka.tools.StorageTool")?.args(arguments).arg(&properties);
        succeed(format)?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        let errors = log.try_clone()?;
        let mut made = Ok(());
        let child = process::spawn(Path::new("sh"), |command| {
            made = kafka(command, folder.path(), "kafka.Kafka").map(|command| _ = command.arg(&properties));
            command.stdin(Stdio::null()).stdout(log).stderr(errors);
        })?;
        made?;
        let [sasl_ssl, sasl_plaintext, ssl, _] = ports.map(|port| format!("localhost:{port}"));
        let mut broker = Self { child, sasl_ssl, sasl_plaintext, ssl, folder };
        broker.wait_ready().await?;
        Ok(broker)
    }

    async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let log = self.folder.path().join("log");
        let ready = until("the secured Kafka", READY_DEADLINE, async || {
            let said = std::fs::read_to_string(&log)?;
            anyhow::ensure!(self.child.try_wait()?.is_none(), "it ended");
            Ok(Look::from_bool(said.contains("Kafka Server started"), "it starts"))
        });
        ready.await.with_context(|| std::fs::read_to_string(&log).unwrap_or_default())
    }

    /// A file of its folder: `ca.pem`, `client.pem` or `client.key`.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for SecuredKafka {
    fn drop(&mut self) {
        let _ = process::kill(&mut self.child);
    }
}

/// A command that becomes Java with Kafka's classes, whose output goes where the command's does.
fn kafka<'c>(command: &'c mut Command, folder: &Path, class: &str) -> anyhow::Result<&'c mut Command> {
    let (java, jars) = fnhost_embedded::find_kafka()?;
    // `sh -c SCRIPT NAME ARGUMENTS`: the arguments stay arguments.
    command.current_dir(folder).args(["-c", "exec \"$@\"", "sh"]).arg(java);
    command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]);
    command.arg("-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info");
    Ok(command.arg("-cp").arg(jars.join("*")).arg(class))
}

fn settings(folder: &Path, [sasl_ssl, sasl_plaintext, ssl, controller]: [u16; 4]) -> String {
    let folder = folder.display();
    format!(
        "process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=SASL_SSL://127.0.0.1:{sasl_ssl},SASL_PLAINTEXT://127.0.0.1:{sasl_plaintext},SSL://127.0.0.1:{ssl},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=SASL_SSL://localhost:{sasl_ssl},SASL_PLAINTEXT://localhost:{sasl_plaintext},SSL://localhost:{ssl}
listener.security.protocol.map=SASL_SSL:SASL_SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=SSL
listener.name.sasl_ssl.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_plaintext.sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";
listener.name.ssl.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={folder}/server.both.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
log.dirs={folder}/data
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
log.cleaner.dedupe.buffer.size=8388608
"
    )
}

/// An authority, and what it has signed for the server and for a client.
fn make_certificates(folder: &Path) -> anyhow::Result<()> {
    let authority = Authority::new(folder, "ca")?;
    authority.issue("server", "DNS:localhost,IP:127.0.0.1")?;
    authority.issue("client", "DNS:fnhost")?;
    let both = ["server.key", "server.pem"].map(|name| std::fs::read_to_string(folder.join(name)));
    let [key, certificate] = both;
    Ok(std::fs::write(folder.join("server.both.pem"), key? + &certificate?)?)
}
