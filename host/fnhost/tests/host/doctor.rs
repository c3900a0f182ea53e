//! `fnhost doctor` on real servers that are broken on purpose: each fault is found, and its line names the cure.

use fnhost_test_postgres::TestPostgres;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The smallest component: it exports nothing.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// A folder with an application, removed when dropped.
struct Application(PathBuf);

impl Application {
    /// One with as many functions, each with a database; their migrations are one folder.
    fn new(name: &str, functions: usize) -> Self {
        let folder = std::env::temp_dir().join(format!("fnhost-doctor-{name}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("migrations")).expect("a folder");
        let mut manifest = format!(
            "spin_manifest_version = 2\n[application]\nname = \"{name}\"\nversion = \"0.1.0\"\n[variables]\n"
        );
        for n in 0..functions {
            manifest += &format!("url_{n} = {{ required = true }}\n");
        }
        for n in 0..functions {
            manifest += &format!(
                "[[trigger.http]]\nroute = \"/f{n}\"\ncomponent = \"f{n}\"\n[component.f{n}]\nsource = \"f.wasm\"\nbuild = {{ command = \"make f{n}\" }}\n[component.f{n}.tool.fnhost.database]\n\
                 schema = \"f{n}\"\nurl_variable = \"url_{n}\"\nmigrations = \"migrations\"\n"
            );
        }
        let application = Self(folder);
        application.write("spin.toml", manifest.as_bytes());
        application.write("f.wasm", COMPONENT);
        application
    }

    fn write(&self, path: &str, content: &[u8]) {
        std::fs::write(self.0.join(path), content).expect("written");
    }

    fn remove(&self, path: &str) {
        let path = self.0.join(path);
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
            .expect("removed");
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fnhost"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FNHOST_") {
                command.env_remove(name);
            }
        }
        command.args(arguments).current_dir(&self.0).stdin(Stdio::null()).output().expect("it runs")
    }

    /// Status of a check, and everything that its lines say.
    fn doctor(&self, check: &str, arguments: &[&str]) -> (String, String) {
        let output = self.run(&[&["doctor", "--output", "json"], arguments].concat());
        let findings: Vec<Value> = serde_json::from_slice(&output.stdout).expect("findings");
        let of_check: Vec<&Value> = findings.iter().filter(|finding| finding["check"] == check).collect();
        assert!(!of_check.is_empty(), "no {check} in {findings:?}");
        let worst = ["failed", "warning", "ok"]
            .into_iter()
            .find(|status| of_check.iter().any(|finding| finding["status"] == *status));
        (worst.expect("a status").to_owned(), format!("{of_check:?}"))
    }

    fn expect(&self, check: &str, arguments: &[&str], status: &str, part: &str) {
        let (found, said) = self.doctor(check, arguments);
        assert_eq!(found, status, "{check}: {said}");
        assert!(said.contains(part), "{check}: {part:?} is not in {said}");
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn run(connection: &mut PgConnection, sql: String) {
    connection.execute(AssertSqlSafe(sql)).await.expect("SQL");
}

#[tokio::test]
async fn a_server_that_can_lose_what_it_committed_is_found_and_refused() {
    let server = TestPostgres::start();
    let application = Application::new("forgetful", 1);
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port());
    let database = ["--database", &url];
    let mut admin = PgConnection::connect_with(&server.login("postgres", "postgres")).await.expect("a login");
    application.expect("postgres", &database, "ok", "keeps what it commits");
    for (setting, status) in
        [("fsync", "failed"), ("synchronous_commit", "failed"), ("full_page_writes", "warning")]
    {
        run(&mut admin, format!("ALTER SYSTEM SET {setting} = off")).await;
        run(&mut admin, "SELECT pg_reload_conf()".to_owned()).await;
        // The reload is taken note of by the postmaster and then by each session.
        application.until_set(&mut admin, setting).await;
        application.expect("postgres", &database, status, &format!("{setting} = on"));
        let migrated = application.run(&["migrate", "--role-secret", "x", "--database", &url]);
        assert_eq!(migrated.status.success(), status == "warning", "{setting}: {migrated:?}");
        run(&mut admin, format!("ALTER SYSTEM RESET {setting}")).await;
    }
    admin.close().await.expect("closed");
}

impl Application {
    async fn until_set(&self, admin: &mut PgConnection, setting: &str) {
        let shown = || AssertSqlSafe(format!("SHOW {setting}"));
        let off = async {
            while sqlx::query_scalar::<_, String>(shown()).fetch_one(&mut *admin).await.expect("a setting")
                != "off"
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), off).await.expect("the reload");
    }
}

#[tokio::test]
async fn what_the_database_lacks_is_named() {
    let server = TestPostgres::shared();
    let (name, mut owner) = server.new_database().await;
    let address = format!("127.0.0.1:{}/{name}", server.port());
    let (all, poor) = (format!("postgres://postgres@{address}"), format!("postgres://{name}@{address}"));
    let one = Application::new("one", 1);
    one.expect("privileges", &["--database", &all], "ok", "may create");
    one.expect(
        "privileges",
        &["--database", &poor],
        "failed",
        &format!("ALTER ROLE \\\"{name}\\\" CREATEROLE"),
    );
    one.expect("privileges", &["--database", &poor], "failed", "GRANT CREATE ON DATABASE");
    one.expect("connections", &["--database", &all], "ok", "up to 24");
    one.expect("clock", &["--database", &all], "ok", "within");
    let many = Application::new("many", 12);
    many.expect("connections", &["--database", &all], "failed", "set max_connections to");
    run(&mut owner, format!("ALTER ROLE {name} CREATEROLE; GRANT CREATE ON DATABASE {name} TO {name}")).await;
    one.expect("privileges", &["--database", &poor], "ok", "may create");
}

/// A host that would find no connection in the middle of its work does not start.
#[test]
fn a_database_that_takes_too_few_connections_is_refused_at_the_start() {
    let server = TestPostgres::start();
    let application = Application::new("crowd", 12);
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port());
    let arguments =
        ["--only", "http", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--role-secret", "x"];
    let output = application.run(&[&["up", "--database", &url], &arguments[..]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("needs up to") && said.contains("set max_connections to"), "{said}");
}

#[tokio::test]
async fn migrations_that_do_not_fit_are_named() {
    let server = TestPostgres::shared();
    let (name, mut owner) = server.new_database().await;
    let url = format!("postgres://postgres@127.0.0.1:{}/{name}", server.port());
    let database = ["--database", url.as_str()];
    let application = Application::new("history", 1);
    let schema = format!("h_{name}");
    let manifest = std::fs::read_to_string(application.0.join("spin.toml")).expect("the manifest");
    application.write(
        "spin.toml",
        manifest.replace("schema = \"f0\"", &format!("schema = \"{schema}\"")).as_bytes(),
    );
    application.write("migrations/0001_a.sql", b"CREATE TABLE a (n int)");
    application.expect("migrations", &database, "ok", "`fnhost up` or `fnhost migrate` will run");
    let migrated = application.run(&["migrate", "--role-secret", "x", "--database", &url]);
    assert!(migrated.status.success(), "{migrated:?}");
    application.expect("migrations", &database, "ok", "have run");
    application.write("migrations/0001_a.sql", b"CREATE TABLE a (n int8)");
    application.expect("migrations", &database, "failed", &format!("{schema}: 1 was changed after it ran"));
    application.remove("migrations/0001_a.sql");
    application.expect("migrations", &database, "failed", "restore the file");
    application.remove("migrations");
    application.expect("manifest", &database, "failed", "no migrations directory");
    run(&mut owner, "INSERT INTO fnhost._sqlx_migrations SELECT 99, description, installed_on, success, checksum, execution_time FROM fnhost._sqlx_migrations LIMIT 1".to_owned()).await;
    application.expect("migrations", &database, "failed", "a newer fnhost prepared this database");
}

#[test]
fn servers_that_do_not_answer_and_files_that_are_not_there_are_named() {
    let application = Application::new("absent", 1);
    let nowhere = ["--database", "postgres://x@127.0.0.1:1/x"];
    application.expect("postgres", &nowhere, "failed", "Connection refused");
    application.expect("postgres", &nowhere, "failed", "FNHOST_DATABASE");
    application.expect("kafka", &["--kafka", "127.0.0.1:1"], "failed", "FNHOST_KAFKA");
    application.remove("f.wasm");
    application.expect("manifest", &[], "failed", "make f0");
}
