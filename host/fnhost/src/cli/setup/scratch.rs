//! The setup of `fnhost test`: the manifest's functions on a database of their own that does not outlive the run.

use super::target::Target;
use super::{environment, migrate, roles, seed, services, with_host_values};
use crate::cli::Application;
use anyhow::Context as _;
use fnhost_db::session::RolePool;
use fnhost_db::{OwnerPool, scratch};
use fnhost_embedded::Servers;
use fnhost_manifest::{Manifest, Values, VariableSources};
use sqlx::postgres::PgConnectOptions;
use std::collections::BTreeMap;
use std::str::FromStr as _;

/// Folder of the data directory whose private Postgres tests use; it is kept, so that the next run starts faster.
const FOLDER: &str = "test";
/// In place of the database's address where there is none, since no function asks for it.
const NO_DATABASE: &str = "postgres://unused:unused@127.0.0.1:5432/unused";

/// Roles and values of the functions. Everything is gone after [`Scratch::close`].
pub struct Scratch {
    /// Every variable's value.
    pub values: Values,
    /// Connections as each function's role, by component.
    pub roles: BTreeMap<String, RolePool>,
    database: Option<(OwnerPool, scratch::Scratch)>,
    servers: Option<Servers>,
}

impl Scratch {
    /// Values and roles without a database, for functions that import none.
    ///
    /// # Errors
    /// A variable has no value.
    pub fn without_database(app: &Application, manifest: &Manifest) -> anyhow::Result<Self> {
        let target = Target::with_secret(NO_DATABASE, None, "fn")?;
        let (values, roles) = resolve(app, manifest, &target, "unused", None)?;
        Ok(Self { values, roles, database: None, servers: None })
    }

    /// Values, roles and migrated schemas in an empty database: on the given server, or on a private one.
    ///
    /// # Errors
    /// A server or a variable is missing, or a migration fails; nothing is left behind.
    pub async fn with_database(app: &Application, manifest: &Manifest) -> anyhow::Result<Self> {
        let (url, servers) = match &app.database {
            Some(url) => (url.clone(), None),
            None => {
                let mut options = fnhost_embedded::Options::new(app.data_dir.join(FOLDER));
                options.kafka = false;
                let servers = fnhost_embedded::start(options).await?;
                (servers.database_url.clone().context("no database")?, Some(servers))
            }
        };
        let mut setup = Self {
            values: Values {
                application: BTreeMap::new(),
                components: BTreeMap::new(),
                edge: Default::default(),
                rotating: Default::default(),
            },
            roles: BTreeMap::new(),
            database: None,
            servers,
        };
        match setup.prepare(app, manifest, &url).await {
            Ok(()) => Ok(setup),
            Err(error) => {
                setup.close().await;
                Err(error)
            }
        }
    }

    async fn prepare(&mut self, app: &Application, manifest: &Manifest, url: &str) -> anyhow::Result<()> {
        let server = PgConnectOptions::from_str(url).context(
            "the database URL (--database) is not of the form postgres://user:password@host:port/name",
        )?;
        let scratch = scratch::Scratch::create(server)
            .await
            .context("cannot create a database for the test; check --database (FNHOST_DATABASE)")?;
        let name = scratch.name().to_owned();
        let mut url = url::Url::parse(url)?;
        url.set_path(&name);
        // The password of roles that live as long as this run.
        let secret = uuid::Uuid::new_v4().to_string();
        let target = Target::with_secret(url.as_str(), None, &name)?;
        let owner = match target.connect().await {
            Ok(owner) => owner,
            Err(error) => {
                drop_all(scratch).await;
                return Err(error);
            }
        };
        self.database = Some((owner.clone(), scratch));
        let logins = target.logins(manifest, &secret);
        migrate(&owner, manifest, &logins, &secret, false).await?;
        seed(&owner, manifest).await?;
        (self.values, self.roles) = resolve(app, manifest, &target, &secret, Some(&owner))?;
        Ok(())
    }

    /// Drops the database and stops the private server.
    pub async fn close(self) {
        if let Some((owner, scratch)) = self.database {
            owner.close().await;
            drop_all(scratch).await;
        }
        if let Some(servers) = self.servers {
            servers.stop().await;
        }
    }
}

async fn drop_all(scratch: scratch::Scratch) {
    let name = scratch.name().to_owned();
    if let Err(error) = scratch.drop_all().await {
        let error = fnhost_types::causes::chain(&error);
        tracing::warn!("cannot drop the test's database {name}: {error}");
    }
}

fn resolve(
    app: &Application,
    manifest: &Manifest,
    target: &Target,
    secret: &str,
    owner: Option<&OwnerPool>,
) -> anyhow::Result<(Values, BTreeMap<String, RolePool>)> {
    let mut sources = VariableSources::new(app.variables.iter().map(String::as_str), environment())?;
    let logins = target.logins(manifest, secret);
    // None runs: what a test asks of it has no answer, unless the run says where one is.
    let services = services::wanted(app, manifest, &sources);
    services::provide(app, &services, &mut sources, |_| None)?;
    let host = with_host_values(manifest, VariableSources::default(), &target.address, &logins).host;
    // Also over what the environment says: a test never writes into another database.
    sources.flags.extend(host);
    let values = manifest.resolve(&sources)?;
    let roles = roles(manifest, &values, &logins, target, owner)?;
    Ok((values, roles))
}
