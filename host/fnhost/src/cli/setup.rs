//! What commands stand on: the manifest with its values, the servers, the prepared database.

mod scratch;
mod services;

use super::Application;
use anyhow::Context as _;
use fnhost_db::fitness::Budget;
use fnhost_db::schema::{self, FunctionSchema};
use fnhost_db::session::{RolePool, SessionLimits};
use fnhost_db::{OWNER_CONNECTIONS, OWNER_STATEMENT_TIMEOUT, OwnerPool};
use fnhost_embedded::Servers;
use fnhost_manifest::{Manifest, Secret, Values, VariableSources};
use sqlx::postgres::PgConnectOptions;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr as _;

pub use scratch::Scratch;

/// Connections of one function's role per host.
pub const ROLE_CONNECTIONS_MAX: usize = 14;

/// The connections that a host opens for an application.
pub(super) fn budget(manifest: &Manifest) -> Budget {
    let components = manifest.components.values();
    let databases: Vec<_> = components.clone().filter_map(|component| component.database.as_ref()).collect();
    Budget {
        relays: databases.iter().filter(|database| database.events.is_some()).count(),
        schedules: components.map(|component| component.schedules.len()).sum(),
        functions: databases.len() * ROLE_CONNECTIONS_MAX,
    }
}

/// The prepared setup.
pub struct Setup {
    /// The manifest, read and checked.
    pub manifest: Manifest,
    /// Every variable's value.
    pub values: Values,
    /// The lock on the data directory, and the private servers where there are any.
    pub servers: Servers,
    /// Bootstrap addresses of Kafka, where one is wanted.
    pub kafka: Option<String>,
    /// Connections as the owner role.
    pub owner: OwnerPool,
    /// Connections as each function's role, by component.
    pub roles: BTreeMap<String, RolePool>,
}

/// A component's login.
struct Login {
    component: String,
    role: String,
    password: String,
    url: String,
}

impl Setup {
    /// Reads the manifest, starts what private servers are needed, and prepares the database. `kafka` is the address of a given
    /// Kafka; `with_kafka` whether one is needed at all;
    /// `rotate` whether the functions' roles may be given the passwords of another secret; `http` where HTTP is served, where
    /// the manifest's services are to run.
    ///
    /// # Errors
    /// The first thing that is missing or wrong; nothing is left running.
    pub async fn prepare(
        app: &Application,
        kafka: Option<&str>,
        with_kafka: bool,
        rotate: bool,
        http: Option<SocketAddr>,
    ) -> anyhow::Result<Self> {
        let manifest = app.load_manifest()?;
        let mut sources = VariableSources::new(app.variables.iter().map(String::as_str), environment())?;
        let services = services::wanted(app, &manifest, &sources);
        services::provide(app, &services, &mut sources, |_| None)?;
        // Before anything starts: is every variable given that the host does not provide itself?
        let given = manifest.resolve(&with_host_values(&manifest, sources.clone(), "127.0.0.1:5432", &[]))?;
        check_urls(&manifest, &given)?;
        let mut options = fnhost_embedded::Options::new(&app.data_dir);
        options.postgres = app.database.is_none();
        options.kafka = with_kafka && kafka.is_none();
        if let Some(http) = http {
            options.services = services::options(app, &services, http)?;
        }
        if options.postgres || options.kafka {
            tracing::info!(data_dir = %app.data_dir.display(), postgres = options.postgres, kafka = options.kafka, "starting private servers");
        }
        let servers = fnhost_embedded::start(options).await?;
        services::provide(app, &services, &mut sources, |name| servers.services.get(name).cloned())?;
        let kafka = kafka.map(str::to_string).or_else(|| servers.kafka.clone());
        let url = app.database.clone().or_else(|| servers.database_url.clone()).context("no database")?;
        let target =
            Target::new(app, &url).map(|target| target.by_socket(servers.database_socket.as_deref()));
        let prepared = async { Self::prepare_database(app, &manifest, sources, target?, rotate).await };
        match prepared.await {
            Ok((owner, roles, values)) => Ok(Self { manifest, values, servers, kafka, owner, roles }),
            Err(error) => {
                servers.stop().await;
                Err(error)
            }
        }
    }

    async fn prepare_database(
        app: &Application,
        manifest: &Manifest,
        sources: VariableSources,
        target: Target,
        rotate: bool,
    ) -> anyhow::Result<(OwnerPool, BTreeMap<String, RolePool>, Values)> {
        let logins = target.logins(manifest);
        let values = manifest.resolve(&with_host_values(manifest, sources, &target.address, &logins))?;
        let owner = target.connect(budget(manifest).owner()).await?;
        migrate(&owner, manifest, &logins, &target.secret, rotate).await?;
        if app.database.is_none() {
            seed(&owner, manifest).await?;
        }
        let roles = roles(manifest, &values, &logins, &target)?;
        Ok((owner, roles, values))
    }

    /// Refuses a database that does not take the connections this host may open.
    ///
    /// # Errors
    /// As said, or the database did not answer.
    pub async fn check_connections(&self) -> Result<(), fnhost_db::Error> {
        budget(&self.manifest).check(&self.owner).await
    }

    /// The name under which positions and streams are kept.
    pub fn deployment(&self) -> &str {
        &self.manifest.application.name
    }

    /// Closes connections and stops the private servers.
    pub async fn close(self) {
        self.owner.close().await;
        self.servers.stop().await;
    }
}

/// The environment's variables that are text; others cannot be ours.
pub(super) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// What the names of the functions' login roles begin with.
const ROLE_PREFIX: &str = "fn";

fn password_of(url: &str) -> Option<String> {
    url::Url::parse(url).ok()?.password().map(str::to_string)
}

/// The database of a deployment.
struct Target {
    options: PgConnectOptions,
    /// `host:port`.
    address: String,
    database: String,
    /// What role passwords are derived from.
    secret: String,
    /// What the roles' names begin with.
    role_prefix: String,
}

impl Target {
    fn new(app: &Application, url: &str) -> anyhow::Result<Self> {
        let secret = match (&app.role_secret, &app.database) {
            (Some(secret), _) => secret.clone(),
            (None, None) => fnhost_embedded::secret(&app.data_dir, "roles")?,
            (None, Some(_)) => password_of(url).context(
                "the passwords of the functions' roles are derived from a secret: pass --role-secret (FNHOST_ROLE_SECRET), \
                 or a database URL with a password",
            )?,
        };
        Self::with_secret(url, secret, ROLE_PREFIX)
    }

    fn with_secret(url: &str, secret: String, role_prefix: &str) -> anyhow::Result<Self> {
        let options = PgConnectOptions::from_str(url).context(
            "the database URL (--database, FNHOST_DATABASE) is not of the form postgres://user:password@host:port/name",
        )?;
        Ok(Self {
            address: format!("{}:{}", options.get_host(), options.get_port()),
            database: options.get_database().unwrap_or(options.get_username()).to_string(),
            options,
            secret,
            role_prefix: role_prefix.to_owned(),
        })
    }

    /// The same database by its Unix socket, for whoever connects from this host; functions see its address.
    fn by_socket(mut self, folder: Option<&Path>) -> Self {
        if let Some(folder) = folder {
            self.options = self.options.socket(folder);
        }
        self
    }

    /// A login at this database by its socket; one elsewhere as it is.
    fn nearest(&self, options: PgConnectOptions) -> PgConnectOptions {
        let here =
            (options.get_host(), options.get_port()) == (self.options.get_host(), self.options.get_port());
        match self.options.get_socket() {
            Some(folder) if here => options.socket(folder),
            _ => options,
        }
    }

    async fn connect(&self, connections: usize) -> anyhow::Result<OwnerPool> {
        OwnerPool::connect_with(self.options.clone(), connections, OWNER_STATEMENT_TIMEOUT)
            .await
            .with_context(|| {
                format!("cannot use the database at {}; check --database (FNHOST_DATABASE)", self.address)
            })
    }

    fn logins(&self, manifest: &Manifest) -> Vec<Login> {
        let components = manifest.components.values().filter(|component| component.database.is_some());
        components
            .map(|component| {
                let role = format!("{}_{}", self.role_prefix, component.id.replace('-', "_"));
                let password = schema::role_password(&self.secret, &role);
                let url = format!("postgres://{role}:{password}@{}/{}", self.address, self.database);
                Login { component: component.id.clone(), role, password, url }
            })
            .collect()
    }
}

/// What a command beside a running host works on.
pub struct Beside {
    /// The manifest, read and checked.
    pub manifest: Manifest,
    /// Connections as the owner role.
    pub owner: OwnerPool,
    /// Bootstrap address of the running host's private Kafka, if it has one.
    pub kafka: Option<String>,
    /// Variables that the host fills in by itself.
    pub provided: BTreeMap<String, Secret>,
}

impl Beside {
    /// Connects to the given database, or to the private one of the fnhost that runs on the data directory. Changes nothing.
    ///
    /// # Errors
    /// No database was given and no fnhost runs there, or it does not answer.
    pub async fn attach(app: &Application) -> anyhow::Result<Self> {
        let manifest = Manifest::load(&app.manifest)?;
        let attached = match &app.database {
            Some(_) => None,
            None => Some(fnhost_embedded::attach(&app.data_dir)?),
        };
        let private = attached.as_ref().and_then(|attached| attached.database_url.clone());
        let url = app.database.clone().or(private).context(
            "the fnhost on that data directory uses another database: pass --database (FNHOST_DATABASE)",
        )?;
        let target = Target::new(app, &url)?;
        let logins = target.logins(&manifest);
        let mut sources = with_host_values(&manifest, VariableSources::default(), &target.address, &logins);
        if let Some(attached) = &attached {
            let given = VariableSources::new(app.variables.iter().map(String::as_str), environment())?;
            let services = services::wanted(app, &manifest, &given);
            services::provide(app, &services, &mut sources, |name| attached.service(name))?;
        }
        let kafka = attached.and_then(|attached| attached.kafka);
        Ok(Self { owner: target.connect(OWNER_CONNECTIONS).await?, manifest, kafka, provided: sources.host })
    }
}

/// Refuses a URL of a component's database that somebody gave and that is none. The host's own are empty here.
fn check_urls(manifest: &Manifest, given: &Values) -> anyhow::Result<()> {
    for database in manifest.components.values().filter_map(|component| component.database.as_ref()) {
        let url = given.application.get(&database.url_variable).map_or("", Secret::expose);
        if !url.is_empty() {
            login_of(&database.url_variable, url)?;
        }
    }
    Ok(())
}

/// The login that a URL of a component's database stands for.
fn login_of(variable: &str, url: &str) -> anyhow::Result<PgConnectOptions> {
    PgConnectOptions::from_str(url).with_context(|| format!("variable {variable} is not a database URL"))
}

fn with_host_values(
    manifest: &Manifest,
    mut sources: VariableSources,
    address: &str,
    logins: &[Login],
) -> VariableSources {
    if let Some(name) = &manifest.application.database_host_variable {
        sources.host.insert(name.clone(), Secret::new(address));
    }
    for component in manifest.components.values() {
        if let Some(database) = &component.database {
            let url = logins.iter().find(|l| l.component == component.id).map_or("", |l| l.url.as_str());
            sources.host.insert(database.url_variable.clone(), Secret::new(url));
        }
    }
    sources
}

async fn migrate(
    owner: &OwnerPool,
    manifest: &Manifest,
    logins: &[Login],
    secret: &str,
    rotate: bool,
) -> Result<(), fnhost_db::Error> {
    let functions: Vec<FunctionSchema<'_>> = logins
        .iter()
        .filter_map(|login| {
            let database = manifest.components.get(&login.component)?.database.as_ref()?;
            Some(FunctionSchema {
                schema: &database.schema,
                role: &login.role,
                password: &login.password,
                migrations: database.migrations.as_deref(),
                events: database.events.as_deref(),
            })
        })
        .collect();
    schema::migrate(owner, &functions, &schema::Passwords { secret, rotate }).await
}

async fn seed(owner: &OwnerPool, manifest: &Manifest) -> anyhow::Result<()> {
    for database in manifest.components.values().filter_map(|c| c.database.as_ref()) {
        if let Some(path) = &database.demo {
            let sql =
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            schema::seed(owner, &database.schema, &sql)
                .await
                .with_context(|| format!("the demo data in {}", path.display()))?;
        }
    }
    Ok(())
}

/// A pool for each component that has a schema, logging in with the URL that its variable holds.
fn roles(
    manifest: &Manifest,
    values: &Values,
    logins: &[Login],
    target: &Target,
) -> anyhow::Result<BTreeMap<String, RolePool>> {
    let mut roles = BTreeMap::new();
    for login in logins {
        let Some(component) = manifest.components.get(&login.component) else { continue };
        let Some(database) = &component.database else { continue };
        let url = values.application.get(&database.url_variable).map_or(login.url.as_str(), Secret::expose);
        let options = target.nearest(login_of(&database.url_variable, url)?);
        let limits =
            SessionLimits { max_connections: ROLE_CONNECTIONS_MAX, deadline: component.limits.deadline };
        roles.insert(login.component.clone(), RolePool::new(&login.component, options, limits));
    }
    Ok(roles)
}
