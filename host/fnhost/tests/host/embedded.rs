//! The private servers for real: they keep their data, come back when killed, and never block the next start.
//!
//! Needs what `./dev setup` installs.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::holds;
use fnhost_embedded::{Options, Servers};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, FutureRecord};
use sqlx::{Connection, PgConnection, Row};

/// Bound of everything that is awaited here.
const PATIENCE: Duration = Duration::from_secs(60);
/// A start on an existing directory. It takes less than a second where nothing else runs; this leaves room for a busy
/// machine, and still notices a broker that waits for its own old session.
const SECOND_START_MAX: Duration = Duration::from_secs(8);
/// Tells a copy of this test program to be the fnhost that gets killed, and where.
const VICTIM: &str = "FNHOST_TEST_VICTIM_DATA_DIR";
const TOPIC: &str = "kept";

/// A data directory of its own, in the system's folder for such: an unprivileged Postgres must be able to reach it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("fnhost-embedded-{}", uuid::Uuid::new_v4())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn start(folder: &Path) -> Servers {
    match fnhost_embedded::start(Options::new(folder)).await {
        Ok(servers) => servers,
        Err(error) => panic!("the servers do not start: {:#}", anyhow::Error::from(error)),
    }
}

async fn database(servers: &Servers) -> PgConnection {
    PgConnection::connect(servers.database_url.as_ref().unwrap()).await.unwrap()
}

fn client(servers: &Servers) -> ClientConfig {
    let kafka = servers.kafka.as_ref().unwrap();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.address);
    config.extend(kafka.properties().unwrap());
    config
}

async fn store(servers: &Servers) {
    let mut database = database(servers).await;
    sqlx::raw_sql("CREATE TABLE kept (id int); INSERT INTO kept VALUES (42)")
        .execute(&mut database)
        .await
        .unwrap();
    let admin: AdminClient<DefaultClientContext> = client(servers).create().unwrap();
    let topic = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(1));
    admin.create_topics([&topic], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    produce(servers).await;
}

async fn produce(servers: &Servers) {
    let producer: FutureProducer = client(servers).create().unwrap();
    producer.send(FutureRecord::to(TOPIC).key("key").payload("value"), PATIENCE).await.unwrap();
}

async fn assert_kept(servers: &Servers, records: i64) {
    let row = sqlx::query("SELECT id FROM kept").fetch_one(&mut database(servers).await).await.unwrap();
    assert_eq!(row.get::<i32, _>(0), 42);
    let consumer: BaseConsumer = client(servers).create().unwrap();
    // A broker that has just started may not lead its partitions yet.
    let kept = holds(async || {
        consumer.fetch_watermarks(TOPIC, 0, PATIENCE).is_ok_and(|(low, high)| high - low == records)
    });
    tokio::time::timeout(PATIENCE, kept).await.unwrap();
}

/// Process ids of the servers of a data directory: Postgres's, then Kafka's.
fn pids(folder: &Path) -> [i32; 2] {
    ["postgres/data/postmaster.pid", "run/kafka.pid"].map(|file| {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        text.lines().next().unwrap().trim().parse().unwrap()
    })
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// A process that ended stays in the table until its parent has asked for its status.
fn is_running(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// Awaits a condition that nothing announces.
async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn data_outlives_a_stop_and_the_second_start_is_quick() {
    let folder = Folder::new();
    let servers = start(&folder.0).await;
    store(&servers).await;
    let addresses = (servers.kafka.clone().map(|kafka| kafka.address), servers.database_url.clone());
    let running = pids(&folder.0);
    servers.stop().await;
    assert!(running.iter().all(|pid| !is_running(*pid)), "stop() returned before the servers were gone");

    let begun = Instant::now();
    let servers = start(&folder.0).await;
    let took = begun.elapsed();
    assert_eq!(servers.database_url, addresses.1, "port and password are kept");
    // Its first choice is Kafka's usual port, which another server may have taken meanwhile.
    let taken = addresses.0.as_ref().is_some_and(|address| TcpStream::connect(address).is_ok());
    let kafka = servers.kafka.clone().map(|kafka| kafka.address);
    assert!(kafka == addresses.0 || taken, "{kafka:?} is not {:?}", addresses.0);
    assert_kept(&servers, 1).await;
    servers.stop().await;
    assert!(took < SECOND_START_MAX, "the second start took {took:?}");
}

/// What librdkafka says of errors that it goes on after.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<KafkaError>>>);

impl ClientContext for Heard {
    fn error(&self, error: KafkaError, _: &str) {
        self.0.lock().unwrap().push(error);
    }
}

impl ConsumerContext for Heard {}

/// The accounts that the processes run as.
fn accounts(pids: [i32; 2]) -> [u32; 2] {
    pids.map(|pid| std::fs::metadata(format!("/proc/{pid}")).unwrap().uid())
}

/// Whether a listener of Kafka answers somebody who has not logged in, and asks it for settings.
fn answers_strangers(port: &str) -> bool {
    // Length; DescribeConfigs, version 1, correlation 7, a client without a name; no resources, no synonyms.
    let request: &[u8] = &[0, 0, 0, 15, 0, 32, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0, 0];
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    match stream.read(&mut [0; 64]) {
        Ok(read) => read > 0,
        // A peer that has not read everything resets.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
        Err(error) => panic!("port {port}: {error}"),
    }
}

#[tokio::test]
async fn kafka_answers_only_who_has_its_password_and_runs_as_postgres_does() {
    let folder = Folder::new();
    let servers = start(&folder.0).await;
    let fetch = |config: ClientConfig| {
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.fetch_metadata(None, PATIENCE).is_ok()
    };
    assert!(fetch(client(&servers)));
    for name in ["kafka.port", "kafka-controller.port"] {
        let port = std::fs::read_to_string(folder.0.join("run").join(name)).unwrap();
        assert!(!answers_strangers(port.trim()), "{name}");
    }
    let mut wrong = client(&servers);
    let heard = Heard::default();
    let consumer: BaseConsumer<_> =
        wrong.set("sasl.password", "a guess").create_with_context(heard.clone()).unwrap();
    let refused = holds(async || {
        drop(consumer.poll(Duration::from_millis(100)));
        let heard = heard.0.lock().unwrap();
        heard.iter().any(|error| error.rdkafka_error_code() == Some(RDKafkaErrorCode::Authentication))
    });
    tokio::time::timeout(PATIENCE, refused).await.expect("the password is refused");

    let [postgres, kafka] = accounts(pids(&folder.0));
    let own = rustix::process::geteuid();
    assert_eq!(kafka, postgres, "both run as one account");
    assert!(if own.is_root() { kafka != 0 } else { kafka == own.as_raw() }, "it runs as {kafka}");
    for (path, mode) in [
        ("kafka", if own.is_root() { 0o710 } else { 0o700 }),
        ("kafka/data", 0o700),
        ("kafka/work", 0o700),
        ("kafka/server.properties", 0o600),
        ("secrets/kafka.conf", 0o600),
        ("secrets", 0o700),
    ] {
        let found = std::fs::metadata(folder.0.join(path)).unwrap().mode() & 0o777;
        assert_eq!(found, mode, "{path}: {found:o}");
    }
    servers.stop().await;
}

#[tokio::test]
async fn a_log_directory_that_root_has_kept_is_handed_over() {
    let folder = Folder::new();
    let servers = start(&folder.0).await;
    store(&servers).await;
    let account = accounts(pids(&folder.0))[1];
    servers.stop().await;
    if rustix::process::geteuid().is_root() {
        let home = folder.0.join("kafka");
        let chown = Command::new("chown").args(["-R", "0:0"]).arg(&home).status().unwrap();
        assert!(chown.success());
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    let servers = start(&folder.0).await;
    assert_kept(&servers, 1).await;
    assert_eq!(accounts(pids(&folder.0))[1], account);
    servers.stop().await;
}

#[tokio::test]
async fn a_second_fnhost_on_the_same_directory_is_refused_by_name() {
    let folder = Folder::new();
    let mut options = Options::new(&folder.0);
    options.kafka = false;
    let servers = fnhost_embedded::start(options.clone()).await.unwrap();
    let error = fnhost_embedded::start(options.clone()).await.unwrap_err().to_string();
    assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
    assert!(error.contains("--data-dir"), "{error}");
    // The refused start has touched nothing.
    database(&servers).await.ping().await.unwrap();
    servers.stop().await;
    fnhost_embedded::start(options).await.unwrap().stop().await;
}

#[tokio::test]
async fn killed_servers_come_back_at_the_same_address_with_their_data() {
    let folder = Folder::new();
    let servers = start(&folder.0).await;
    store(&servers).await;
    let before = pids(&folder.0);
    before.into_iter().for_each(kill);
    eventually("a new Postgres", async || {
        match PgConnection::connect(servers.database_url.as_ref().unwrap()).await {
            Ok(mut connection) => connection.ping().await.is_ok() && pids(&folder.0)[0] != before[0],
            Err(_) => false,
        }
    })
    .await;
    // Waits inside librdkafka until the new broker has the record.
    produce(&servers).await;
    assert_ne!(pids(&folder.0)[1], before[1]);
    assert_kept(&servers, 2).await;
    servers.stop().await;
}

#[tokio::test]
async fn a_stop_in_the_middle_of_a_restart_leaves_nothing_running() {
    let folder = Folder::new();
    let servers = start(&folder.0).await;
    let kafka = pids(&folder.0)[1];
    kill(kafka);
    // The new process exists, and is far from ready: its controller refuses it until the killed one's session is over.
    eventually("a new Kafka process", async || pids(&folder.0)[1] != kafka).await;
    let restarting = pids(&folder.0)[1];
    servers.stop().await;
    assert!(!is_running(restarting), "the Kafka that was being restarted still runs");
    start(&folder.0).await.stop().await;
}

#[tokio::test]
async fn a_killed_fnhost_leaves_nothing_that_blocks_the_next_start() {
    if let Some(folder) = std::env::var_os(VICTIM) {
        let _servers = start(Path::new(&folder)).await;
        return std::future::pending().await;
    }
    let folder = Folder::new();
    let servers = start(&folder.0).await;
    store(&servers).await;
    servers.stop().await;

    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded::a_killed_fnhost_leaves_nothing_that_blocks_the_next_start"])
        .env(VICTIM, &folder.0)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let lock = folder.0.join("lock");
    eventually("the victim's servers", async || {
        std::fs::read_to_string(&lock).is_ok_and(|pid| pid.trim() == victim.id().to_string())
            && folder.0.join("postgres/data/postmaster.pid").exists()
            && std::fs::read_to_string(folder.0.join("postgres/data/postmaster.pid"))
                .unwrap_or_default()
                .contains("ready")
            && pids(&folder.0).into_iter().all(is_running)
    })
    .await;
    let orphans = pids(&folder.0);
    victim.kill().unwrap();
    victim.wait().unwrap();

    let servers = start(&folder.0).await;
    assert_kept(&servers, 1).await;
    assert!(orphans.into_iter().all(|pid| !is_running(pid)), "the victim's servers are still there");
    servers.stop().await;
}
