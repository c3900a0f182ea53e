//! The private Apache Kafka, one KRaft node: found, formatted once, configured, started. Whoever connects has to log in, with a
//! password that is generated for the data directory.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::account::{self, Account};
use super::directory::{DataDir, closed_folder, secret, write_file};
use super::process::{Program, Server, Service, is_file};
use super::{Error, jars, java, ports};

/// Name of the server in messages.
const NAME: &str = "Kafka";
/// Its folder in the data directory.
const FOLDER: &str = "kafka";
/// Who clients log in as, and the name of the secret that is the password.
const USER: &str = "fnhost";
const PASSWORD: &str = "kafka";
/// The file of a data directory that has what clients need, as librdkafka's properties.
const CLIENT_FILE: &str = "secrets/kafka.conf";
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
inter.broker.listener.name=CLIENT
# Both listeners ask for the password: with the controller's one could delete topics and give oneself rights.
listener.security.protocol.map=CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.mechanism.controller.protocol=PLAIN
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

/// A private Kafka as clients reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateKafka {
    /// Bootstrap address, `host:port`.
    pub address: String,
    /// A file of librdkafka's properties, one `name=value` a line, with the password: for `--kafka-config`, or `kcat -F`.
    pub config: PathBuf,
}

impl PrivateKafka {
    /// That of a data directory.
    pub(super) fn new(address: String, data_dir: &Path) -> Self {
        Self { address, config: data_dir.join(CLIENT_FILE) }
    }

    /// The properties with their values.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn properties(&self) -> Result<Vec<(String, String)>, Error> {
        let text = fs::read_to_string(&self.config).map_err(Error::at("read", &self.config))?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.filter_map(|line| line.split_once('='));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// Formats the log directory where missing, and starts the broker.
pub(super) async fn start(
    directory: &DataDir,
    found: Installation,
    deadline: Duration,
) -> Result<Server, Error> {
    let account = account(directory, &found.java)?;
    let home = account::home(directory, FOLDER, NAME, account)?;
    let work = home.join("work");
    match account {
        None => closed_folder(&home)?,
        Some(account) if is_roots(&home) => account.let_pass(&home)?,
        // Of the account itself, which ran fnhost here before root did.
        Some(_) => {}
    }
    own_folder(&work, account)?;
    let jars = jars::reachable(&found.jars, account, Path::new(account::ELSEWHERE))?;
    let password = secret(directory.path(), PASSWORD)?;
    write_file(&directory.path().join(CLIENT_FILE), &client_properties(&password), 0o600)?;
    let broker = Broker { directory, found: Installation { jars, ..found }, account, home, work, password };
    if is_file(&broker.data().join("meta.properties")) {
        own_folder(&broker.data(), account)?;
    } else {
        tracing::info!(folder = %broker.home.display(), "formatting the private Kafka's log directory");
        broker.format().await?;
    }
    let archive = broker.archive();
    if !is_file(&archive) {
        broker.archive_classes(&archive, deadline).await?;
    }
    broker.serve(flag("-XX:SharedArchiveFile=", &archive), deadline).await
}

/// The account that the broker runs as where fnhost is root: whoever has its folder already, or the one that Postgres has too.
fn account(directory: &DataDir, java: &Path) -> Result<Option<Account>, Error> {
    let Some(account) = Account::unprivileged()? else { return Ok(None) };
    let owner = fs::metadata(directory.path().join(FOLDER)).ok().as_ref().and_then(Account::owner);
    let account = owner.unwrap_or(account);
    let program = java.canonicalize().map_err(Error::at("open", java))?;
    // A broker that runs as root is better than none.
    if let Some(closed) = program.parent().and_then(|folder| account.stopped_at(folder)) {
        tracing::warn!(
            java = %program.display(),
            "Kafka runs as root, because the account that would run it cannot enter {}: let JAVA_HOME name another Java",
            closed.display(),
        );
        return Ok(None);
    }
    Ok(Some(account))
}

struct Broker<'a> {
    directory: &'a DataDir,
    found: Installation,
    account: Option<Account>,
    /// What fnhost writes, and below it what the broker writes.
    home: PathBuf,
    /// Where the broker runs, and may write.
    work: PathBuf,
    password: String,
}

fn is_roots(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|found| Account::owner(&found).is_none())
}

/// Makes a folder where missing, closed to all but the account.
fn own_folder(folder: &Path, account: Option<Account>) -> Result<(), Error> {
    closed_folder(folder)?;
    account.map_or(Ok(()), |account| account.own_all(folder))
}

impl Broker<'_> {
    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn properties(&self) -> PathBuf {
        self.home.join("server.properties")
    }

    /// Writes a file for the account that runs the broker, and for nobody else.
    fn write(&self, path: &Path, text: &str) -> Result<(), Error> {
        write_file(path, text, 0o600)?;
        self.account.map_or(Ok(()), |account| account.own(path))
    }

    /// Formats under another name and renames last, so that a directory under its own name is whole.
    async fn format(&self) -> Result<(), Error> {
        let new = self.home.join("data.new");
        if new.exists() {
            fs::remove_dir_all(&new).map_err(Error::at("remove", &new))?;
        }
        own_folder(&new, self.account)?;
        let properties = self.home.join("format.properties");
        self.write(&properties, &settings(&new, PORT, CONTROLLER_PORT, &self.password))?;
        let arguments = ["format".into(), "--cluster-id".into(), cluster_id().into(), "--config".into()];
        let mut arguments = Vec::from(arguments);
        arguments.push(properties.clone().into());
        self.program("Kafka's format", &[], "kafka.tools.StorageTool", arguments).run("").await?;
        fs::rename(&new, self.data()).map_err(Error::at("rename", &new))?;
        fs::remove_file(&properties).map_err(Error::at("remove", &properties))
    }

    /// The archive of loaded classes, for the jars of this folder and this Java.
    fn archive(&self) -> PathBuf {
        let jars = self.found.jars.file_name().unwrap_or_default().display();
        self.work.join(format!("classes-{VERSION}-{jars}-java-{}.jsa", self.found.java_version))
    }

    /// Runs the broker once only to write its loaded classes into an archive, which later starts map into memory
    /// and so take half the time.
    async fn archive_classes(&self, archive: &Path, deadline: Duration) -> Result<(), Error> {
        let new = self.work.join("classes.new");
        let server = self.serve(flag("-XX:ArchiveClassesAtExit=", &new), deadline).await?;
        server.stop(deadline).await;
        if !is_file(&new) {
            // A Java that makes no archives ignores an empty one, and is not asked again.
            return write_file(archive, "", 0o644);
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
            self.write(&self.properties(), &settings(&self.data(), port, controller, &self.password))?;
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
            account: self.account,
            folder: self.work.clone(),
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

fn settings(data: &Path, port: u16, controller: u16, password: &str) -> String {
    // A backslash begins an escape in this format.
    let data = data.display().to_string().replace('\\', "\\\\");
    // The first two are how the broker logs in at its own listeners, the last is who may.
    let login = format!(
        "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"{USER}\" password=\"{password}\" \
         user_{USER}=\"{password}\";"
    );
    format!(
        "# Written by fnhost at every start.\n\
         listeners=CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=CLIENT://127.0.0.1:{port}\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listener.name.client.plain.sasl.jaas.config={login}\n\
         listener.name.controller.plain.sasl.jaas.config={login}\n\
         log.dirs={data}\n{SETTINGS}"
    )
}

fn client_properties(password: &str) -> String {
    format!(
        "# Written by fnhost at every start: how clients reach this Kafka.\n\
         security.protocol=sasl_plaintext\nsasl.mechanism=PLAIN\nsasl.username={USER}\nsasl.password={password}\n"
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
