//! A private Postgres for tests: a cluster in a temporary directory, on a free port of the loopback address, as an
//! unprivileged user where the tests run as root. Shared by the tests that run at the same time, each in a database
//! of its own; the last one stops it and removes its directory.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection};

/// Where Debian and its descendants keep the server's programs, one directory for each major version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// The users that the server may run as where the tests run as root, the first that exists.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];
const SUPERUSER: &str = "postgres";
/// A free port can be taken by another process before the server binds it: then the next one.
const START_ATTEMPTS: usize = 5;

static SHARED: Mutex<Weak<TestPostgres>> = Mutex::new(Weak::new());
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A running server, stopped when dropped.
pub struct TestPostgres {
    programs: PathBuf,
    directory: PathBuf,
    port: u16,
    user: Option<(u32, u32)>,
}

impl TestPostgres {
    /// The server of this test process, started if no other test has it running.
    pub fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let started = Arc::new(Self::start());
            *shared = Arc::downgrade(&started);
            started
        })
    }

    /// The server's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The options of a login as any user, to any database: the server asks nobody for a password.
    pub fn login(&self, user: &str, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username(user)
            .password("")
            .database(database)
    }

    /// A new database and a login role of the same name that owns nothing; returns the name and a superuser's
    /// connection to it.
    pub async fn new_database(&self) -> (String, PgConnection) {
        let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut admin =
            PgConnection::connect_with(&self.login(SUPERUSER, "postgres")).await.expect("a login");
        for sql in [format!("CREATE DATABASE {name}"), format!("CREATE ROLE {name} LOGIN")] {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.expect("a database and a role");
        }
        let owner = PgConnection::connect_with(&self.login(SUPERUSER, &name)).await.expect("a login");
        (name, owner)
    }

    /// A server for one test alone, whose settings it may change.
    pub fn start() -> Self {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("fnhost-test-{}-{id}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a temporary directory");
        let user = unprivileged_user();
        if let Some((uid, gid)) = user {
            chown(&directory, Some(uid), Some(gid)).expect("a directory of the server's user");
        }
        let mut server = Self { programs: newest_programs(), directory, port: 0, user };
        let data = server.data();
        let initdb = ["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"];
        expect_success(server.command("initdb").args(initdb).arg(&data));
        for _ in 1..START_ATTEMPTS {
            if server.try_start().status.success() {
                return server;
            }
        }
        let last = server.try_start();
        assert!(last.status.success(), "the server does not start: {last:?}");
        server
    }

    fn try_start(&mut self) -> Output {
        self.port = std::net::TcpListener::bind(("127.0.0.1", 0))
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let settings = format!(
            // Not without fsync: fnhost refuses such a server.
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories='{}'",
            self.port,
            self.directory.display()
        );
        let log = self.directory.join("log");
        let mut command = self.command("pg_ctl");
        command.args(["-w", "start", "-o", &settings, "-l"]).arg(log).arg("-D").arg(self.data());
        command.output().expect("pg_ctl runs")
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(&self.directory);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for TestPostgres {
    fn drop(&mut self) {
        let stop =
            self.command("pg_ctl").args(["-m", "immediate", "-w", "stop", "-D"]).arg(self.data()).output();
        let removed = std::fs::remove_dir_all(&self.directory);
        if !std::thread::panicking() {
            assert!(stop.is_ok_and(|stop| stop.status.success()), "the server stops");
            removed.expect("its directory is removed");
        }
    }
}

/// The directory of the newest installed server's programs.
fn newest_programs() -> PathBuf {
    let versions = std::fs::read_dir(VERSIONS).expect("an installed Postgres server");
    let mut found: Vec<(u32, PathBuf)> = versions
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, programs)| programs.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().expect("an installed Postgres server").1
}

/// The user and group to run as; nothing where the tests have no privileges to give up.
fn unprivileged_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string(Path::new("/etc/passwd")).expect("the list of users");
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(UNPRIVILEGED.into_iter().find_map(ids).expect("an unprivileged user"))
}

fn expect_success(command: &mut Command) {
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{command:?}: {output:?}");
}
