//! The private Apache Kafka, one KRaft node: found, formatted once, configured, started.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::directory::{DataDir, closed_folder, write_file};
use super::process::{Program, Server, Service, is_file};
use super::{Error, java, ports};

/// Name of the server in messages.
const NAME: &str = "Kafka";
/// The version whose jars `./dev setup` fetches, as pinned in `deploy/kafka/pom.xml`.
const VERSION: &str = "4.3.1";
/// The ports used where they are free: for clients, and for the controller in the same process.
const PORT: u16 = 9_092;
const CONTROLLER_PORT: u16 = 9_093;
/// Starts tried when another process takes a chosen port at the same moment.
const STARTS_MAX: u32 = 3;

/// A small heap and the quick compiler: the broker moves bytes.
const JVM: [&str; 4] = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xms64m", "-Xmx256m"];
/// Warnings, and the one line that says the broker is ready.
const LOGGING: [&str; 4] = [
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
];

/// Settings of the private broker, besides ports and folders.
const SETTINGS: &str = "\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
auto.create.topics.enable=false
# One member or several in one machine: waiting for more before the first assignment only delays the start.
group.initial.rebalance.delay.ms=0
# One node keeps one copy, and its internal topics need few partitions.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
# After an unclean end the last segment of every partition is read again.
log.segment.bytes=134217728
num.recovery.threads.per.data.dir=2
# The default of 128 MB would be half of the heap.
log.cleaner.dedupe.buffer.size=8388608
num.network.threads=2
num.io.threads=4
# A killed broker is refused by its own controller until its session has run out (9 s by default).
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
";

/// An installed Java and Kafka's jars.
#[derive(Debug)]
pub(super) struct Installation {
    java: PathBuf,
    /// Names the Java in the file name of the class archive, which fits one Java only.
    java_version: String,
    jars: PathBuf,
}

impl Installation {
    /// Looks for Java and for the jars.
    pub(super) fn find() -> Result<Self, Error> {
        let (java, jars) = (java::find(), find_jars());
        match (java, jars) {
            (Ok((java, java_version)), Ok(jars)) => Ok(Self { java, java_version, jars }),
            (Err(java), Err(jars)) => Err(Error::several(java, jars)),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// Java, and the folder of jars.
    pub(super) fn into_parts(self) -> (PathBuf, PathBuf) {
        (self.java, self.jars)
    }
}

fn find_jars() -> Result<PathBuf, Error> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    let given = variable("FNHOST_KAFKA_JARS").or_else(|| Some(variable("FNHOST_KAFKA_HOME")?.join("libs")));
    let jars = given.or_else(|| Some(cache?.join("fnhost").join(format!("kafka-{VERSION}"))));
    match jars {
        Some(jars) if has_broker(&jars) => Ok(jars),
        jars => {
            let looked = jars.map_or_else(|| "no HOME".into(), |jars| jars.display().to_string());
            let looked = format!("FNHOST_KAFKA_JARS, FNHOST_KAFKA_HOME, user's cache: {looked}");
            Err(Error::Missing { what: "Kafka's jars", looked })
        }
    }
}

fn has_broker(jars: &Path) -> bool {
    let mut files = fs::read_dir(jars).into_iter().flatten().flatten();
    files.any(|file| file.file_name().as_encoded_bytes().starts_with(b"kafka-server-"))
}

/// Formats the log directory where missing, and starts the broker.
pub(super) async fn start(
    directory: &DataDir,
    found: Installation,
    deadline: Duration,
) -> Result<Server, Error> {
    let home = directory.path().join("kafka");
    // Kafka asks nobody who it is, but what it keeps is closed to other accounts.
    closed_folder(&home)?;
    let broker = Broker { directory, found, home };
    if !is_file(&broker.data().join("meta.properties")) {
        tracing::info!(folder = %broker.home.display(), "formatting the private Kafka's log directory");
        broker.format().await?;
    }
    let archive = broker.archive();
    if !is_file(&archive) {
        broker.archive_classes(&archive, deadline).await?;
    }
    broker.serve(flag("-XX:SharedArchiveFile=", &archive), deadline).await
}

struct Broker<'a> {
    directory: &'a DataDir,
    found: Installation,
    home: PathBuf,
}

impl Broker<'_> {
    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn properties(&self) -> PathBuf {
        self.home.join("server.properties")
    }

    /// Formats under another name and renames last, so that a directory under its own name is whole.
    async fn format(&self) -> Result<(), Error> {
        let new = self.home.join("data.new");
        if new.exists() {
            fs::remove_dir_all(&new).map_err(Error::at("remove", &new))?;
        }
        let properties = self.home.join("format.properties");
        write_file(&properties, &settings(&new, PORT, CONTROLLER_PORT), 0o644)?;
        let arguments = ["format".into(), "--cluster-id".into(), cluster_id().into(), "--config".into()];
        let mut arguments = Vec::from(arguments);
        arguments.push(properties.clone().into());
        self.program("Kafka's format", &[], "kafka.tools.StorageTool", arguments).run("").await?;
        fs::rename(&new, self.data()).map_err(Error::at("rename", &new))?;
        fs::remove_file(&properties).map_err(Error::at("remove", &properties))
    }

    /// The archive of loaded classes, for this Kafka and this Java.
    fn archive(&self) -> PathBuf {
        self.home.join(format!("classes-{VERSION}-java-{}.jsa", self.found.java_version))
    }

    /// Runs the broker once only to write its loaded classes into an archive, which later starts map into memory
    /// and so take half the time.
    async fn archive_classes(&self, archive: &Path, deadline: Duration) -> Result<(), Error> {
        let new = self.home.join("classes.new");
        let server = self.serve(flag("-XX:ArchiveClassesAtExit=", &new), deadline).await?;
        server.stop(deadline).await;
        if !is_file(&new) {
            // A Java that makes no archives ignores an empty one, and is not asked again.
            write_file(&new, "", 0o644)?;
        }
        fs::rename(&new, archive).map_err(Error::at("rename", &new))
    }

    async fn serve(&self, flag: OsString, deadline: Duration) -> Result<Server, Error> {
        let files = ["kafka.port", "kafka-controller.port"].map(|name| self.directory.run().join(name));
        self.service(flag.clone()).stop_leftover().await?;
        let mut starts = 0;
        loop {
            let port = ports::choose(&files[0], PORT)?;
            let controller = ports::choose(&files[1], CONTROLLER_PORT)?;
            write_file(&self.properties(), &settings(&self.data(), port, controller), 0o644)?;
            starts += 1;
            match Server::start(self.service(flag.clone()), format!("127.0.0.1:{port}"), deadline).await {
                Err(Error::Ended { address_in_use: true, .. }) if starts < STARTS_MAX => {
                    tracing::info!(port, controller, "another process took a port");
                    files.iter().try_for_each(|file| ports::replace(file))?;
                }
                result => return result,
            }
        }
    }

    fn service(&self, flag: OsString) -> Service {
        let properties = self.properties();
        Service {
            program: self.program(NAME, &[flag], "kafka.Kafka", vec![properties.clone().into()]),
            ready_line: "Kafka Server started",
            pid_file: self.directory.run().join("kafka.pid"),
            writes_pid_file: false,
            argument: properties,
        }
    }

    fn program(&self, name: &'static str, flags: &[OsString], class: &str, rest: Vec<OsString>) -> Program {
        let mut arguments: Vec<OsString> = JVM.iter().chain(&LOGGING).map(Into::into).collect();
        arguments.extend_from_slice(flags);
        // Expanded by Java itself.
        arguments.extend(["-cp".into(), self.found.jars.join("*").into(), class.into()]);
        arguments.extend(rest);
        Program {
            name,
            path: self.found.java.clone(),
            arguments,
            account: None,
            folder: self.home.clone(),
            log: self.directory.logs().join("kafka.log"),
            stop: Signal::TERM,
        }
    }
}

fn flag(name: &str, path: &Path) -> OsString {
    let mut flag = OsString::from(name);
    flag.push(path);
    flag
}

fn settings(data: &Path, port: u16, controller: u16) -> String {
    // A backslash begins an escape in this format.
    let data = data.display().to_string().replace('\\', "\\\\");
    format!(
        "# Written by fnhost at every start.\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         log.dirs={data}\n{SETTINGS}"
    )
}

/// A cluster id is 16 bytes in base64url without padding, 22 characters. Hexadecimal digits are among its characters,
/// and the last one carries two bits only.
fn cluster_id() -> String {
    let digits = uuid::Uuid::new_v4().simple().to_string();
    format!("{}A", &digits[..21])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_setup_fetches() {
        let pom = include_str!("../../../deploy/kafka/pom.xml");
        assert!(pom.contains(&format!("<kafka.version>{VERSION}</kafka.version>")));
    }
}
