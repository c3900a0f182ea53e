//! One function as its built component, with a real Postgres and nothing else: for that function's own tests.
//!
//! [`Function::start`] reads the application's `spin.toml`, makes a database with the host's and the function's
//! migrations and the function's role, and loads the component as the host does. [`Function::deliver`] then does what
//! the dispatch does with a batch, up to COMMIT and without Kafka, and [`Function::get`] and its like call the HTTP side.

mod batch;
mod http;

pub use batch::{Delivery, Emit, Outcome, Sent, told};
pub use http::{Answer, Call, bearer};

use fnhost_db::OwnerPool;
use fnhost_db::schema::{self, FunctionSchema};
use fnhost_db::session::{RolePool, SessionLimits};
use fnhost_deployment::Slot;
use fnhost_dispatch::wasm::WasmHandlers;
use fnhost_dispatch::{Handler, Handlers as _};
use fnhost_engine::{ComponentSpec, Engine, EngineOptions, LoadedComponent};
use fnhost_manifest::{KafkaTrigger, Manifest, Secret, VariableSources};
use fnhost_test_postgres::TestPostgres;
use serde_json::Value;
use sqlx::postgres::{PgPool, PgPoolOptions};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Connections of the function's role: as many calls can run at a time.
const ROLE_CONNECTIONS: usize = 8;

/// Pause between two looks at a condition.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// A function and its database.
pub struct Function {
    component: LoadedComponent,
    handler: Arc<dyn Handler>,
    role: RolePool,
    trigger: Option<KafkaTrigger>,
    /// The superuser's, for looking and for preparing.
    database: PgPool,
    _postgres: Arc<TestPostgres>,
}

impl Function {
    /// Starts the function of this name with an empty database.
    ///
    /// # Panics
    /// Where its component is not built, and where anything else fails.
    pub async fn start(name: &str) -> Self {
        Self::start_with(name, |_| {}).await
    }

    /// As [`Function::start`], with limits or variables changed.
    ///
    /// # Panics
    /// As [`Function::start`].
    pub async fn start_with(name: &str, change: impl FnOnce(&mut ComponentSpec)) -> Self {
        Self::start_in("", name, change).await
    }

    /// As [`Function::start_with`], with the manifest of a folder of the checkout.
    ///
    /// # Panics
    /// As [`Function::start`].
    pub async fn start_in(folder: &str, name: &str, change: impl FnOnce(&mut ComponentSpec)) -> Self {
        let manifest = manifest(folder);
        let postgres = TestPostgres::shared();
        let (place, _) = postgres.new_database().await;
        let spec = spec(&manifest, name, &postgres, &place, change);
        let limits = SessionLimits { max_connections: ROLE_CONNECTIONS, deadline: spec.limits.deadline };
        let role = RolePool::new(name, postgres.login(&place, &place), limits);
        let schema = migrate(&manifest, name, &postgres, &place).await;
        let options = postgres.login("postgres", &place).options([("search_path", schema)]);
        let database = PgPoolOptions::new().connect_with(options).await.expect("a login");
        // Compiling is work, and other calls go on meanwhile.
        let component = tokio::task::spawn_blocking(move || engine().load(&spec)).await.expect("no panic");
        let component = component.unwrap_or_else(|error| panic!("{error}")).with_database(role.clone());
        let handler = WasmHandlers::new(Slot::of(component.clone()), role.clone()).pick(0);
        let trigger = manifest.kafka.iter().find(|trigger| trigger.component == name).cloned();
        Self { component, handler, role, trigger, database, _postgres: postgres }
    }

    /// Runs statements as the superuser.
    ///
    /// # Panics
    /// Where they fail.
    pub async fn prepare(&self, sql: &str) {
        let run = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&self.database).await;
        run.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The rows of a query, each as a JSON object.
    ///
    /// # Panics
    /// Where it fails.
    pub async fn rows(&self, sql: &str) -> Vec<Value> {
        let wrapped = format!("SELECT to_jsonb(row) FROM ({sql}) AS row");
        let rows = sqlx::query_scalar(sqlx::AssertSqlSafe(wrapped)).fetch_all(&self.database).await;
        rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The one value of a query as JSON.
    ///
    /// # Panics
    /// Where it fails or has more rows or columns.
    pub async fn value(&self, sql: &str) -> Value {
        let mut rows = self.rows(sql).await;
        assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
        let Some(Value::Object(row)) = rows.pop() else { panic!("a row is an object") };
        assert_eq!(row.len(), 1, "{sql}: {row:?}");
        row.into_iter().next().expect("one column").1
    }

    /// Waits until so many of the function's sessions wait for a lock.
    ///
    /// # Panics
    /// Where it does not come to that.
    pub async fn until_waiting(&self, sessions: i64) {
        let waiting = "SELECT count(*) FROM pg_stat_activity \
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let reached = async {
            while self.value(waiting).await != sessions {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        let patience = Duration::from_secs(10);
        tokio::time::timeout(patience, reached).await.expect("the calls come to wait for the lock");
    }

    /// Holds rows locked until what this answers is rolled back or committed.
    ///
    /// # Panics
    /// Where the statement fails.
    pub async fn hold(&self, sql: &str) -> sqlx::Transaction<'static, sqlx::Postgres> {
        let mut transaction = self.database.begin().await.expect("a transaction");
        let run = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut *transaction).await;
        run.unwrap_or_else(|error| panic!("{sql}: {error}"));
        transaction
    }

    fn trigger(&self) -> &KafkaTrigger {
        self.trigger.as_ref().expect("a function with a Kafka trigger")
    }
}

/// The checkout's folder.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").canonicalize().expect("the checkout")
}

fn manifest(folder: &str) -> Manifest {
    let path = workspace().join(folder).join("spin.toml");
    let text = std::fs::read_to_string(&path).expect("the manifest");
    // Not `load`, which asks for the components of the other functions too.
    Manifest::parse(&path, &text).unwrap_or_else(|error| panic!("{error}"))
}

/// One engine for all tests of a process, with images kept from run to run.
fn engine() -> &'static Engine {
    static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
        let program = std::env::current_exe().expect("this program's path");
        // target/release/deps/PROGRAM
        let target = program.ancestors().nth(3).expect("a target folder");
        let options =
            EngineOptions { cache_dir: Some(target.join("tmp/function-images")), ..EngineOptions::default() };
        Engine::new(options).unwrap_or_else(|error| panic!("{error}"))
    });
    &ENGINE
}

/// What the host would load the component with.
fn spec(
    manifest: &Manifest,
    name: &str,
    postgres: &TestPostgres,
    place: &str,
    change: impl FnOnce(&mut ComponentSpec),
) -> ComponentSpec {
    let url = format!("postgres://{place}:unused@127.0.0.1:{}/{place}", postgres.port());
    let mut sources = VariableSources::default();
    let databases = manifest.components.values().filter_map(|component| component.database.as_ref());
    let urls: BTreeSet<&str> = databases.map(|database| database.url_variable.as_str()).collect();
    for (variable, written) in &manifest.variables {
        let value = match variable.as_str() {
            // Also in place of a default, as the host does.
            name if urls.contains(name) => url.clone(),
            "database_host" => format!("127.0.0.1:{}", postgres.port()),
            "token_public_keys" => http::PUBLIC_KEYS.to_owned(),
            // Where nothing listens; a test of the one function that asks starts one.
            "payment_gateway_url" => "http://127.0.0.1:9".to_owned(),
            "token_private_key" => http::PRIVATE_KEY.to_owned(),
            _ if written.default.is_some() => continue,
            _ => url.clone(),
        };
        sources.host.insert(variable.clone(), Secret::new(value));
    }
    let values = manifest.resolve(&sources).unwrap_or_else(|error| panic!("{error}"));
    let specs = ComponentSpec::all(manifest, &values);
    let mut spec = specs.into_iter().find(|spec| spec.id == name).expect("a component of this name");
    // What a test has changed is read by the next request; one that is about the cache asks for a store.
    spec.key_value_stores.clear();
    assert!(
        spec.source.is_file(),
        "{} is not there: build it with `./dev build {name}`",
        spec.source.display()
    );
    change(&mut spec);
    spec
}

/// Prepares the database as `fnhost migrate` does; answers the function's schema.
async fn migrate(manifest: &Manifest, name: &str, postgres: &TestPostgres, place: &str) -> String {
    let database = manifest.components[name].database.as_ref().expect("a function has a schema");
    let owner = OwnerPool::connect(postgres.login("postgres", place)).await.expect("an owner's login");
    let function = FunctionSchema {
        schema: &database.schema,
        // Roles belong to the whole server, so each test has its own.
        role: place,
        password: "unused",
        migrations: database.migrations.as_deref(),
        events: database.events.as_deref(),
    };
    schema::migrate(&owner, &[function], &schema::Passwords { secret: "unused", rotate: false })
        .await
        .expect("the migrations");
    owner.close().await;
    database.schema.clone()
}
