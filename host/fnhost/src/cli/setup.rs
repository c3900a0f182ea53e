//! What commands stand on: the manifest with its values, the servers, the prepared database.

mod scratch;
mod services;
mod target;

use super::Application;
use anyhow::Context as _;
use fnhost_db::OwnerPool;
use fnhost_db::fitness::Budget;
use fnhost_db::schema::{self, FunctionSchema};
use fnhost_db::session::{RolePool, SessionLimits};
use fnhost_embedded::{PrivateKafka, Servers};
use fnhost_manifest::{Manifest, Secret, Values, VariableSources};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use uuid::Uuid;

pub use scratch::Scratch;
use target::{Login, Target, login_of};

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
    /// This process, in leases and positions.
    pub host: Uuid,
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
        let private = servers.kafka.as_ref().map(|kafka| kafka.address.clone());
        let kafka = kafka.map(str::to_string).or(private);
        let url = app.database.clone().or_else(|| servers.database_url.clone()).context("no database")?;
        let target =
            Target::new(app, &url).map(|target| target.by_socket(servers.database_socket.as_deref()));
        let host = Uuid::new_v4();
        let prepared = async { Self::prepare_database(app, &manifest, sources, target?, host, rotate).await };
        match prepared.await {
            Ok((owner, roles, values)) => Ok(Self { host, manifest, values, servers, kafka, owner, roles }),
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
        host: Uuid,
        rotate: bool,
    ) -> anyhow::Result<(OwnerPool, BTreeMap<String, RolePool>, Values)> {
        let owner = target.connect_host(host, budget(manifest).owner()).await?;
        let secret = match &target.secret {
            Some(secret) => secret.clone(),
            None => schema::kept_secret(&owner, target.former_secret.as_deref(), rotate).await?,
        };
        let logins = target.logins(manifest, &secret);
        let values = manifest.resolve(&with_host_values(manifest, sources, &target.address, &logins))?;
        migrate(&owner, manifest, &logins, &secret, rotate).await?;
        if app.database.is_none() {
            seed(&owner, manifest).await?;
        }
        let roles = roles(manifest, &values, &logins, &target, Some(&owner))?;
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

/// What a command beside a running host works on.
pub struct Beside {
    /// The manifest, read and checked.
    pub manifest: Manifest,
    /// Connections as the owner role.
    pub owner: OwnerPool,
    /// The running host's private Kafka, if it has one.
    pub kafka: Option<PrivateKafka>,
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
        let owner = target.connect().await?;
        let secret = match &target.secret {
            Some(secret) => Some(secret.clone()),
            None => schema::read_secret(&owner).await?.or_else(|| target.former_secret.clone()),
        };
        let secret = secret.context("no fnhost has prepared this database; run `fnhost migrate`")?;
        let logins = target.logins(&manifest, &secret);
        let mut sources = with_host_values(&manifest, VariableSources::default(), &target.address, &logins);
        if let Some(attached) = &attached {
            let given = VariableSources::new(app.variables.iter().map(String::as_str), environment())?;
            let services = services::wanted(app, &manifest, &given);
            services::provide(app, &services, &mut sources, |name| attached.service(name))?;
        }
        let kafka = attached.and_then(|attached| attached.kafka);
        Ok(Self { owner, manifest, kafka, provided: sources.host })
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
    owner: Option<&OwnerPool>,
) -> anyhow::Result<BTreeMap<String, RolePool>> {
    let mut roles = BTreeMap::new();
    for login in logins {
        let Some(component) = manifest.components.get(&login.component) else { continue };
        let Some(database) = &component.database else { continue };
        let url = values.application.get(&database.url_variable).map_or(login.url.as_str(), Secret::expose);
        let options = target.login(&database.url_variable, url, url == login.url)?;
        let limits =
            SessionLimits { max_connections: ROLE_CONNECTIONS_MAX, deadline: component.limits.deadline };
        let pool = RolePool::new(&login.component, options, limits);
        let pool = owner.map_or(pool.clone(), |owner| pool.ended_by(owner.clone()));
        roles.insert(login.component.clone(), pool);
    }
    Ok(roles)
}
