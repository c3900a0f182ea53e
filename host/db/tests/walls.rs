//! A table of attacks: what a function's role could do in the database beyond the rows of its schema, and that it does not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fnhost_db::schema::{self, FunctionSchema, Passwords};
use fnhost_db::session::{RolePool, SessionLimits, Transaction};
use fnhost_db::{OWNER_CONNECTIONS, OwnerPool};
use fnhost_test_postgres::TestPostgres;
use futures::FutureExt as _;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest a call of the function takes; the sessions here outlive it if the server lets them.
const DEADLINE: Duration = Duration::from_secs(600);
/// The key of the lock that hosts once took while they migrated.
const FORMER_LOCK: i64 = 112_624_384_570_228;

/// Statements on rows, and what the server says to each.
const BEYOND_ROWS: [(&str, &str); 18] = [
    ("SELECT set_config('statement_timeout', '0', false)", "permission denied for function set_config"),
    ("SELECT set_config('synchronous_commit', 'off', false)", "permission denied for function set_config"),
    ("SELECT pg_sleep(0)", "permission denied for function pg_sleep"),
    ("SELECT pg_sleep_for('0')", "permission denied for function pg_sleep_for"),
    ("SELECT pg_sleep_until(now())", "permission denied for function pg_sleep_until"),
    ("SELECT pg_advisory_lock(1)", "permission denied for function pg_advisory_lock"),
    ("SELECT pg_advisory_lock_shared(1)", "permission denied for function pg_advisory_lock_shared"),
    ("SELECT pg_advisory_xact_lock(1, 2)", "permission denied for function pg_advisory_xact_lock"),
    ("SELECT pg_try_advisory_lock(1)", "permission denied for function pg_try_advisory_lock"),
    ("SELECT pg_try_advisory_xact_lock(1)", "permission denied for function pg_try_advisory_xact_lock"),
    ("SELECT lo_create(0)", "permission denied for function lo_create"),
    ("SELECT lo_creat(-1)", "permission denied for function lo_creat"),
    ("SELECT lo_from_bytea(0, '\\x00')", "permission denied for function lo_from_bytea"),
    ("SELECT pg_notify('fnhost_partition', '')", "permission denied for function pg_notify"),
    ("SELECT pg_notify('fnhost_relay', 'own')", "permission denied for function pg_notify"),
    (
        "SELECT pg_logical_emit_message(false, 'x', 'y')",
        "permission denied for function pg_logical_emit_message",
    ),
    ("SELECT 1 AS x INTO public.mine", "permission denied for schema public"),
    ("SELECT secret FROM fnhost.role_secret", "permission denied for table role_secret"),
];

/// A database that a host has prepared, with one function.
struct World {
    postgres: Arc<TestPostgres>,
    name: String,
    /// Logged in as the superuser, for looking at what the role's sessions do.
    superuser: PgConnection,
    owner: OwnerPool,
    role: RolePool,
}

impl World {
    async fn new() -> Self {
        Self::on(TestPostgres::shared()).await
    }

    async fn on(postgres: Arc<TestPostgres>) -> Self {
        let (name, superuser) = postgres.new_database().await;
        let login = postgres.login("postgres", &name);
        let owner = OwnerPool::connect_with(login, OWNER_CONNECTIONS, PATIENCE).await.expect("the owner");
        let limits = SessionLimits { max_connections: 4, deadline: DEADLINE };
        let role = RolePool::new("test", postgres.login(&name, &name), limits).ended_by(owner.clone());
        let world = Self { postgres, name, superuser, owner, role };
        world.start().await;
        world
    }

    /// What a host does to the database when it starts.
    async fn start(&self) {
        let function =
            FunctionSchema { schema: "own", role: &self.name, password: "", migrations: None, events: None };
        let passwords = Passwords { secret: "unused", rotate: false };
        schema::migrate(&self.owner, &[function], &passwords).await.expect("migrated");
    }

    /// A session of the role that no host bounds.
    async fn stranger(&self) -> PgConnection {
        PgConnection::connect_with(&self.postgres.login(&self.name, &self.name)).await.expect("a login")
    }

    /// Lets the role call these, as where the database's owner is no superuser and cannot revoke them.
    async fn grant(&mut self, functions: &str) {
        let sql = format!("GRANT EXECUTE ON FUNCTION {functions} TO {}", self.name);
        self.run(&sql).await;
    }

    async fn run(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.superuser).await.expect("as the superuser");
    }

    async fn count(&mut self, sql: &str) -> i64 {
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut self.superuser).await.expect("a row");
        row.try_get(0).expect("a number")
    }
}

async fn run(connection: &mut PgConnection, sql: &str) -> Result<Vec<PgRow>, sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await
}

#[tokio::test]
async fn no_statement_on_rows_reaches_beyond_them() {
    let world = World::new().await;
    let mut session = world.role.acquire().await.expect("a session");
    for (sql, said) in BEYOND_ROWS {
        let error = run(session.connection(), sql).await.expect_err(sql).to_string();
        assert!(error.contains(said), "{sql}: {error}");
    }
    // What ends a session's own state is still there.
    session.statement_started(true);
    session.statement_ended();
    session.give_back();
    let mut session = world.role.acquire().await.expect("a session");
    assert!(session.is_reused());
    run(session.connection(), "SELECT 1").await.expect("as before");
}

#[tokio::test]
async fn what_a_session_set_for_its_role_is_gone_at_the_next_start() {
    let world = World::new().await;
    let mut session = world.stranger().await;
    let database = format!("ALTER ROLE CURRENT_USER IN DATABASE {} SET lock_timeout = 1", world.name);
    for sql in [
        "ALTER ROLE CURRENT_USER SET synchronous_commit = off",
        "ALTER ROLE CURRENT_USER SET default_transaction_read_only = on",
        "ALTER ROLE CURRENT_USER SET search_path = nowhere",
        database.as_str(),
    ] {
        // The one before makes later ones of this session's role read-only, but not of this session.
        run(&mut session, sql).await.expect(sql);
    }
    world.start().await;
    let mut session = world.stranger().await;
    for (setting, value) in [
        ("synchronous_commit", "on"),
        ("default_transaction_read_only", "off"),
        ("search_path", "own"),
        ("lock_timeout", "0"),
    ] {
        let found = run(&mut session, &format!("SHOW {setting}")).await.expect(setting);
        assert_eq!(found[0].try_get::<String, _>(0).expect("a text"), value, "{setting}");
    }
}

#[tokio::test]
async fn no_lock_of_a_function_holds_up_a_start() {
    let mut world = World::new().await;
    world.grant("pg_catalog.pg_advisory_lock(bigint)").await;
    let mut session = world.stranger().await;
    run(&mut session, &format!("SELECT pg_advisory_lock({FORMER_LOCK})")).await.expect("held");
    let mode = "BEGIN; LOCK TABLE fnhost.migration_lock IN ACCESS SHARE MODE";
    let refused = run(&mut session, mode).await.expect_err("not its table").to_string();
    assert!(refused.contains("permission denied"), "{refused}");
    tokio::time::timeout(PATIENCE, world.start()).await.expect("nothing is waited for");
}

#[tokio::test]
async fn hosts_that_start_together_prepare_one_database() {
    let postgres = TestPostgres::shared();
    let (name, _superuser) = postgres.new_database().await;
    let starts = (0..4).map(async |_| {
        let login = postgres.login("postgres", &name);
        let owner = OwnerPool::connect_with(login, OWNER_CONNECTIONS, PATIENCE).await.expect("the owner");
        schema::kept_secret(&owner, None, false).await.expect("a secret")
    });
    let secrets = futures::future::join_all(starts).await;
    assert!(secrets.iter().all(|secret| *secret == secrets[0]), "{secrets:?}");
}

#[tokio::test]
async fn a_statement_that_nobody_waits_for_is_ended_at_the_server() {
    let mut world = World::new().await;
    world.grant("pg_catalog.set_config(text, text, boolean), pg_catalog.pg_sleep(double precision)").await;
    let sleeping =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    // Without any limit of the server's own.
    let unlimited = "SELECT set_config('statement_timeout', '0', false), \
                            set_config('client_connection_check_interval', '0', false)";
    for in_transaction in [true, false] {
        let mut transaction = Transaction::new(world.role.clone());
        let mut alone = None;
        let connection = if in_transaction {
            transaction.connection().await.expect("a transaction");
            transaction.statement_started(true);
            transaction.connection_in_flight().expect("a session")
        } else {
            let session = alone.insert(world.role.acquire().await.expect("a session"));
            session.statement_started(true);
            session.connection()
        };
        run(connection, unlimited).await.expect("granted");
        let mut statement = Box::pin(run(connection, "SELECT pg_sleep(1000)"));
        let began = Instant::now();
        loop {
            assert!((&mut statement).now_or_never().is_none() && began.elapsed() < PATIENCE);
            if world.count(sleeping).await == 1 {
                break;
            }
        }
        // As at the end of a call that has run out of time.
        drop(statement);
        drop((transaction, alone));
        let ended = async { while world.count(sleeping).await > 0 {} };
        tokio::time::timeout(PATIENCE, ended).await.expect("the server has ended it");
    }
}

#[tokio::test]
async fn one_function_cannot_take_all_connections() {
    // A server of its own, because a role runs out of connections there.
    let mut world = World::on(Arc::new(TestPostgres::start())).await;
    let max = world.count("SELECT current_setting('max_connections')::int8").await;
    let sql = format!("SELECT rolconnlimit::int8 FROM pg_roles WHERE rolname = '{}'", world.name);
    let limit = world.count(&sql).await;
    assert!((28..=max / 2).contains(&limit), "{limit} of {max}");
    let mut held = Vec::new();
    let refused = loop {
        match PgConnection::connect_with(&world.postgres.login(&world.name, &world.name)).await {
            Ok(connection) => held.push(connection),
            Err(error) => break error,
        }
        assert!(i64::try_from(held.len()).expect("few") <= limit);
    };
    assert_eq!(refused.as_database_error().and_then(|error| error.code()).as_deref(), Some("53300"));
    PgConnection::connect_with(&world.postgres.login("postgres", &world.name)).await.expect("others come in");
}

/// A role knows its own password: from one that is derived from the owner's it could find the owner's by trying.
#[tokio::test]
async fn passwords_of_roles_do_not_come_from_the_owners() {
    const OWNERS: Option<&str> = Some("the owner's");
    let mut world = World::new().await;
    let owner = world.owner.clone();
    world.run("DELETE FROM fnhost.role_secret").await;
    let kept = schema::kept_secret(&owner, OWNERS, false).await.expect("a secret");
    assert_eq!(kept.len(), 64);
    assert_eq!(schema::kept_secret(&owner, OWNERS, true).await.expect("the same"), kept);
    assert_eq!(schema::read_secret(&owner).await.expect("the same"), Some(kept.clone()));
    let fits = Passwords { secret: &kept, rotate: false };
    schema::migrate(&owner, &[], &fits).await.expect("it fits");

    let given = Passwords { secret: "given", rotate: false };
    schema::migrate(&owner, &[], &given).await.expect_err("another one, unasked");
    schema::migrate(&owner, &[], &Passwords { rotate: true, ..given }).await.expect("asked for");
    assert_eq!(schema::read_secret(&owner).await.expect("none"), None, "what is given is not kept");
    schema::kept_secret(&owner, OWNERS, false).await.expect_err("it was made with another one");

    // Roles of a version that derived them from the owner's password keep it until they are made anew.
    let former = Passwords { secret: "the owner's", rotate: true };
    schema::migrate(&owner, &[], &former).await.expect("as before");
    assert_eq!(schema::kept_secret(&owner, OWNERS, false).await.expect("that one"), "the owner's");
    let anew = schema::kept_secret(&owner, OWNERS, true).await.expect("a random one");
    assert!(anew.len() == 64 && anew != kept);
}
