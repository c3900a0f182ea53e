//! The database of a deployment, and who logs in there and how.

use crate::cli::Application;
use anyhow::Context as _;
use fnhost_db::{OwnerPool, schema};
use fnhost_manifest::Manifest;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::path::Path;
use std::str::FromStr as _;
use url::Url;
use uuid::Uuid;

/// What the names of the functions' login roles begin with.
const ROLE_PREFIX: &str = "fn";
/// Parameters of a database's URL that say how far its server is checked, and by whose authority.
const TLS_PARAMETERS: [&str; 9] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
];

/// A component's login.
pub(super) struct Login {
    pub(super) component: String,
    pub(super) role: String,
    pub(super) password: String,
    pub(super) url: String,
}

/// The database of a deployment.
pub(super) struct Target {
    options: PgConnectOptions,
    /// `host:port`.
    pub(super) address: String,
    database: String,
    /// What role passwords are derived from, where it is given: else the database keeps it.
    pub(super) secret: Option<String>,
    /// What they were derived from where none was given, before the database kept one: the password in the URL as it is written.
    pub(super) former_secret: Option<String>,
    /// What the owner's URL demands of the server's certificate, as a query.
    tls: String,
    /// What the roles' names begin with.
    role_prefix: String,
}

impl Target {
    pub(super) fn new(app: &Application, url: &str) -> anyhow::Result<Self> {
        let secret = match (&app.role_secret, &app.database) {
            (Some(secret), _) => Some(secret.clone()),
            (None, None) => Some(fnhost_embedded::secret(&app.data_dir, "roles")?),
            (None, Some(_)) => None,
        };
        Self::with_secret(url, secret, ROLE_PREFIX)
    }

    pub(super) fn with_secret(url: &str, secret: Option<String>, role_prefix: &str) -> anyhow::Result<Self> {
        const FORM: &str = "the database URL (--database, FNHOST_DATABASE) is not of the form postgres://user:password@host:port/name";
        let options = PgConnectOptions::from_str(url).context(FORM)?;
        let parsed = Url::parse(url).context(FORM)?;
        Ok(Self {
            address: format!("{}:{}", options.get_host(), options.get_port()),
            database: options.get_database().unwrap_or(options.get_username()).to_string(),
            options,
            secret,
            former_secret: parsed.password().map(str::to_owned),
            tls: tls_parameters(&parsed),
            role_prefix: role_prefix.to_owned(),
        })
    }

    /// The same database by its Unix socket, for whoever connects from this host; functions see its address.
    pub(super) fn by_socket(mut self, folder: Option<&Path>) -> Self {
        if let Some(folder) = folder {
            self.options = self.options.socket(folder);
        }
        self
    }

    /// The login that a URL stands for; `ours` where the host made it. At this database it is as the owner's: by its socket, and
    /// with the same demands on the server's certificate, unless the URL that somebody gave has its own. Whoever logs in, it is
    /// the same line.
    pub(super) fn login(&self, variable: &str, url: &str, ours: bool) -> anyhow::Result<PgConnectOptions> {
        let options = login_of(variable, url)?;
        let here =
            (options.get_host(), options.get_port()) == (self.options.get_host(), self.options.get_port());
        if !here {
            return Ok(options);
        }
        let options = match Url::parse(url) {
            Ok(parsed) if !self.tls.is_empty() && (ours || tls_parameters(&parsed).is_empty()) => {
                let mut parsed = parsed;
                // Of a parameter that is there twice the last one counts.
                let query = [parsed.query().unwrap_or_default(), &self.tls].join("&");
                parsed.set_query(Some(query.trim_start_matches('&')));
                login_of(variable, parsed.as_str())?
            }
            _ => options,
        };
        Ok(match self.options.get_socket() {
            Some(folder) => options.socket(folder),
            None => options,
        })
    }

    /// Connections for a command.
    pub(super) async fn connect(&self) -> anyhow::Result<OwnerPool> {
        self.usable(OwnerPool::connect(self.options.clone()).await)
    }

    /// Connections for this host.
    pub(super) async fn connect_host(&self, host: Uuid, connections: usize) -> anyhow::Result<OwnerPool> {
        self.usable(OwnerPool::of_host(self.options.clone(), host, connections).await)
    }

    fn usable(&self, connected: Result<OwnerPool, fnhost_db::Error>) -> anyhow::Result<OwnerPool> {
        connected.with_context(|| {
            format!("cannot use the database at {}; check --database (FNHOST_DATABASE)", self.address)
        })
    }

    pub(super) fn logins(&self, manifest: &Manifest, secret: &str) -> Vec<Login> {
        let components = manifest.components.values().filter(|component| component.database.is_some());
        // Functions are told to encrypt, which under both hosts means that the certificate is checked. The authority is a file of
        // this host, so they are not told of it: their sessions are the host's.
        let encrypted = matches!(
            self.options.get_ssl_mode(),
            PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull
        );
        let tls = if encrypted { "?sslmode=require" } else { "" };
        components
            .map(|component| {
                let role = format!("{}_{}", self.role_prefix, component.id.replace('-', "_"));
                let password = schema::role_password(secret, &role);
                let url = format!("postgres://{role}:{password}@{}/{}{tls}", self.address, self.database);
                Login { component: component.id.clone(), role, password, url }
            })
            .collect()
    }
}

/// The login that a URL of a component's database stands for.
pub(super) fn login_of(variable: &str, url: &str) -> anyhow::Result<PgConnectOptions> {
    PgConnectOptions::from_str(url).with_context(|| format!("variable {variable} is not a database URL"))
}

/// What of a URL's query is about TLS, as a query.
fn tls_parameters(url: &Url) -> String {
    let of_tls = |pair: &&str| TLS_PARAMETERS.contains(&pair.split('=').next().unwrap_or_default());
    url.query().unwrap_or_default().split('&').filter(of_tls).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_log_in_by_the_same_line_as_the_owner() {
        let owner =
            "postgres://owner:p%40ss@db.example/orders?sslmode=verify-full&sslrootcert=/etc/ssl/db.pem";
        let target = Target::with_secret(owner, None, "fn").expect("a URL");
        let manifest = Manifest::parse(
            Path::new("spin.toml"),
            "spin_manifest_version = 2\n[application]\nname = \"a\"\n[variables]\n\
             database_host = { default = \"127.0.0.1:5432\" }\norder_url = { default = \"\", secret = true }\n\
             [component.order]\nsource = \"order.wasm\"\nallowed_outbound_hosts = [\"postgres://{{ database_host }}\"]\n\
             variables = { database_url = \"{{ order_url }}\" }\n\
             [component.order.tool.fnhost]\ndatabase = {}\nkafka = [{ topics = [\"orders\"] }]\n",
        )
        .expect("a manifest");
        let login = target.logins(&manifest, "secret").pop().expect("a login");
        assert!(login.url.ends_with("@db.example:5432/orders?sslmode=require"), "{}", login.url);
        let given = "postgres://mine:x@db.example/orders?sslmode=require";
        let elsewhere = "postgres://mine:x@other.example/orders";
        // Whose URL, whether the host made it, what is demanded, and whether by the owner's authority.
        for (url, ours, mode, authority) in [
            (login.url.as_str(), true, PgSslMode::VerifyFull, true),
            ("postgres://mine:x@db.example/orders", false, PgSslMode::VerifyFull, true),
            (given, false, PgSslMode::Require, false),
            (elsewhere, false, PgSslMode::Prefer, false),
        ] {
            let options = target.login("order_database_url", url, ours).expect("a login");
            let found = options.get_ssl_mode();
            assert!(std::mem::discriminant(&found) == std::mem::discriminant(&mode), "{url}: {found:?}");
            assert_eq!(format!("{options:?}").contains("/etc/ssl/db.pem"), authority, "{url}");
            assert_ne!(options.get_username(), "owner");
        }
    }
}
