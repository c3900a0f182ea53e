//! The private Postgres: found, created once, configured, started.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::account::{self, Account};
use super::directory::{DataDir, secret, write_file};
use super::process::{Program, Server, Service, in_path, is_file};
use super::{Error, ports};

/// Name of the server in messages.
const NAME: &str = "Postgres";
/// Its folder in the data directory.
const FOLDER: &str = "postgres";
/// The port used where it is free. Not 5432, which is left to a Postgres of the machine.
const PORT: u16 = 15_432;
/// Starts tried when another process takes the chosen port at the same moment.
const STARTS_MAX: u32 = 3;
/// The oldest major version that has all that fnhost relies on (`client_connection_check_interval`).
const VERSION_MIN: u32 = 14;
/// Where distributions put versions of Postgres, one folder per major version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Name of the superuser and of the database.
const OWNER: &str = "fnhost";
/// Bytes that a socket's path may have (`sun_path` of unix(7), its end included), less the name of Postgres's socket.
const SOCKET_FOLDER_BYTES_MAX: usize = 108 - "/.s.PGSQL.65535".len() - 1;
/// The file fnhost writes at every start; the user's own settings in `postgresql.conf` come after it and win.
const SETTINGS_FILE: &str = "fnhost.conf";

/// Settings of the private cluster, besides its port. Durability is never traded: an acknowledged commit is on disk.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
unix_socket_permissions = 0700
password_encryption = 'scram-sha-256'
max_connections = 400
shared_buffers = '256MB'
fsync = on
synchronous_commit = on
full_page_writes = on
# Checkpoints far apart: each one makes the next change of every page write the whole page to the log.
max_wal_size = '2GB'
min_wal_size = '256MB'
checkpoint_timeout = '15min'
wal_buffers = '16MB'
wal_compression = off
# Tables of records in flight turn over all the time and must not bloat.
autovacuum_naptime = '15s'
# Statements are short, compiling them costs more than it saves.
jit = off
random_page_cost = 1.1
timezone = 'UTC'
log_timezone = 'UTC'
# The readiness of the server is read from its log.
lc_messages = 'C'
log_line_prefix = '%m [%p] %q%u@%d '
log_checkpoints = off
";

/// Installed server programs, and what the cluster at hand demands of them.
#[derive(Debug)]
pub(super) struct Installation {
    programs: PathBuf,
    /// The account the server runs as, where fnhost is root.
    account: Option<Account>,
}

impl Installation {
    /// Looks for the server programs: of the cluster's own major version where there is one, else the newest.
    pub(super) fn find(directory: &Path) -> Result<Self, Error> {
        let home = directory.join(FOLDER);
        let cluster = fs::read_to_string(home.join("data/PG_VERSION")).ok();
        let cluster: Option<u32> = cluster.and_then(|text| text.trim().parse().ok());
        let given = std::env::var_os("FNHOST_POSTGRES_BIN").map(PathBuf::from);
        let programs = match given {
            Some(folder) if has_server(&folder) => folder,
            Some(folder) => {
                let looked = format!("FNHOST_POSTGRES_BIN={}", folder.display());
                return Err(Error::Missing { what: "Postgres's programs `initdb` and `postgres`", looked });
            }
            None => installed(cluster)?,
        };
        // A cluster belongs to whoever made it, also when root starts it this time.
        let owner = fs::metadata(&home).ok().as_ref().and_then(Account::owner);
        let account = Account::unprivileged()?.map(|account| owner.unwrap_or(account));
        Ok(Self { programs, account })
    }
}

impl std::fmt::Display for Installation {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.programs.display())
    }
}

fn has_server(folder: &Path) -> bool {
    is_file(&folder.join("initdb")) && is_file(&folder.join("postgres"))
}

fn installed(cluster: Option<u32>) -> Result<PathBuf, Error> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(VERSIONS)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin"))).filter(|(_, folder)| has_server(folder))
        })
        .collect();
    versions.sort();
    if let Some(wanted) = cluster
        && !versions.is_empty()
    {
        let found = versions.into_iter().find(|(version, _)| *version == wanted);
        return found.map(|(_, folder)| folder).ok_or_else(|| Error::Unsuitable {
            what: format!(
                "the data directory was made by Postgres {wanted}, which is not installed any more: install it \
                 (`apt-get install postgresql-{wanted}`), or choose another --data-dir"
            ),
        });
    }
    match versions.pop() {
        Some((version, folder)) if version >= VERSION_MIN => Ok(folder),
        Some((version, _)) => Err(Error::Unsuitable {
            what: format!(
                "Postgres {version} is too old: install {VERSION_MIN} or newer, or give --database"
            ),
        }),
        None => in_path("postgres")
            .and_then(|path| path.canonicalize().ok())
            .and_then(|path| path.parent().map(Path::to_owned))
            .filter(|folder| has_server(folder))
            .ok_or_else(|| Error::Missing {
                what: "Postgres's programs `initdb` and `postgres`",
                looked: format!("FNHOST_POSTGRES_BIN, {VERSIONS}/*/bin, PATH"),
            }),
    }
}

/// URL of the private database as its owner.
pub(super) fn database_url(password: &str, port: &str) -> String {
    format!("postgres://{OWNER}:{password}@127.0.0.1:{port}/{OWNER}")
}

/// Creates the cluster where missing, and starts it. Answers the folder of its Unix socket too, where there is one.
pub(super) async fn start(
    directory: &DataDir,
    found: Installation,
    deadline: Duration,
) -> Result<(Server, Option<PathBuf>), Error> {
    let home = account::home(directory, FOLDER, NAME, found.account)?;
    // Its socket is made in there.
    if let Some(account) = found.account {
        account.own(&home)?;
    }
    let password = secret(directory.path(), "postgres")?;
    let cluster = Cluster { directory, found, home };
    if !is_file(&cluster.data().join("PG_VERSION")) {
        tracing::info!(folder = %cluster.home.display(), "creating the private Postgres cluster");
        cluster.create(&password).await?;
    }
    cluster.service().stop_leftover().await?;
    let mut starts = 0;
    loop {
        let port = cluster.choose_port()?;
        let address = database_url(&password, &port.to_string());
        starts += 1;
        match Server::start(cluster.service(), address, deadline).await {
            Err(Error::Ended { address_in_use: true, .. }) if starts < STARTS_MAX => {
                tracing::info!(port, "another process took the port");
                ports::replace(&cluster.port_file())?;
            }
            result => return Ok((result?, cluster.socket_folder().map(Path::to_owned))),
        }
    }
}

struct Cluster<'a> {
    directory: &'a DataDir,
    found: Installation,
    home: PathBuf,
}

impl Cluster<'_> {
    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn program(&self, name: &'static str, file: &str, arguments: Vec<std::ffi::OsString>) -> Program {
        Program {
            name,
            path: self.found.programs.join(file),
            arguments,
            account: self.found.account,
            folder: self.home.clone(),
            log: self.directory.logs().join("postgres.log"),
            // A "fast shutdown": clients are disconnected, what they had not committed is rolled back.
            stop: Signal::INT,
        }
    }

    /// Creates the cluster under another name and renames it last, so that one under its own name is whole.
    async fn create(&self, password: &str) -> Result<(), Error> {
        let new = self.home.join("data.new");
        let password_file = self.home.join("password");
        if new.exists() {
            fs::remove_dir_all(&new).map_err(Error::at("remove", &new))?;
        }
        write_file(&password_file, password, 0o600)?;
        if let Some(account) = self.found.account {
            account.own(&password_file)?;
        }
        let options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"];
        let mut arguments: Vec<_> = options.map(Into::into).into();
        arguments.extend(["--username", OWNER, "--pwfile"].map(Into::into));
        arguments.extend([password_file.clone().into(), "--pgdata".into(), new.clone().into()]);
        self.program("initdb", "initdb", arguments).run("").await?;
        fs::remove_file(&password_file).map_err(Error::at("remove", &password_file))?;
        // Single-user mode: the database is there before the server is.
        let arguments = ["--single".into(), "-D".into(), new.clone().into(), "postgres".into()];
        let create = format!("CREATE DATABASE {OWNER}\n");
        self.program("postgres --single", "postgres", arguments.into()).run(&create).await?;
        let configuration = new.join("postgresql.conf");
        let text = format!(
            "# fnhost writes {SETTINGS_FILE} at every start. Settings below the next line are yours, and win.\n\
             include '{SETTINGS_FILE}'\n"
        );
        self.write(&configuration, &text)?;
        fs::rename(&new, self.data()).map_err(Error::at("rename", &new))
    }

    /// Writes a file for the account that runs the server.
    fn write(&self, path: &Path, text: &str) -> Result<(), Error> {
        write_file(path, text, 0o600)?;
        self.found.account.map_or(Ok(()), |account| account.own(path))
    }

    fn port_file(&self) -> PathBuf {
        self.directory.run().join("postgres.port")
    }

    fn choose_port(&self) -> Result<u16, Error> {
        let port = ports::choose(&self.port_file(), PORT)?;
        let socket = self.socket_folder().map_or(String::new(), |folder| folder.display().to_string());
        let socket = socket.replace('\'', "''");
        let settings = format!("port = {port}\nunix_socket_directories = '{socket}'\n{SETTINGS}");
        self.write(&self.data().join(SETTINGS_FILE), &settings)?;
        Ok(port)
    }

    /// Where the server's Unix socket is: a statement by it costs both sides a third less than by loopback TCP. None where the path
    /// would be too long, or has a comma or quote, which the setting reads as a list.
    fn socket_folder(&self) -> Option<&Path> {
        let text = self.home.to_str()?;
        (text.len() <= SOCKET_FOLDER_BYTES_MAX && !text.contains([',', '"'])).then_some(&self.home)
    }

    fn service(&self) -> Service {
        let data = self.data();
        Service {
            program: self.program(NAME, "postgres", vec!["-D".into(), data.clone().into()]),
            ready_line: "database system is ready to accept connections",
            pid_file: data.join("postmaster.pid"),
            writes_pid_file: true,
            argument: data,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_is_in_the_settings() {
        for line in ["fsync = on", "synchronous_commit = on", "full_page_writes = on"] {
            assert!(SETTINGS.lines().any(|found| found == line), "{line}");
        }
    }
}
