//! The real `fnhost`: started, awaited, signalled, restarted, joined by a second one, and ended with its test.

mod addresses;
mod built;
mod companion;
mod faults;
mod ports;
mod shared;

pub use built::program;
pub use companion::Companion;
pub use ports::free_port;
pub use shared::{Shared, Sharing};

use crate::keys::keys;
use crate::prepared;
use crate::process::{self, Folder};
use crate::wait::{Look, until};
use anyhow::Context as _;
use built::{manifest, share_images, target_dir};
use http::StatusCode;
use rustix::process::Signal;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

/// Time until every partition is owned, on a busy machine and on an empty data directory.
pub const READY_DEADLINE: Duration = Duration::from_secs(90);
/// Time in which a drained fnhost ends, its servers included.
pub const STOP_DEADLINE: Duration = Duration::from_secs(60);
/// Attempts of a record in the manifest of the tests: enough for `tok_slow`, and `tok_down` ends in seconds.
pub const MAX_ATTEMPTS: u32 = 6;
/// Where an account's programs keep their state: each fnhost of the tests has its own.
const STATE_VARIABLE: &str = "XDG_STATE_HOME";
/// Variables that would reach into the fnhosts of the tests.
const VARIABLES: [&str; 21] = [
    "FNHOST_LISTEN",
    "FNHOST_ADMIN",
    "FNHOST_ADMIN_HOSTS",
    "FNHOST_ADMIN_NETWORKS",
    "FNHOST_ADMIN_TOKEN",
    "FNHOST_ADMIN_TLS_CERT",
    "FNHOST_ADMIN_TLS_KEY",
    "FNHOST_ADMIN_CA",
    "FNHOST_ADMIN_TOKENS",
    "FNHOST_CODE_KEYS",
    "FNHOST_FETCH_NETWORKS",
    "FNHOST_KAFKA",
    "FNHOST_KAFKA_CONFIG",
    "FNHOST_DATABASE",
    "FNHOST_DATA_DIR",
    "FNHOST_MANIFEST",
    "FNHOST_ROLE_SECRET",
    "FNHOST_LOG_FORMAT",
    "FNHOST_TRACE_RATIO",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];

/// How an fnhost is run, besides its addresses and its data directory.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Changes the text of the manifest.
    pub manifest: Option<fn(String) -> String>,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
    /// The data directory of another one, in place of its own.
    pub data_dir: Option<PathBuf>,
    /// Another program than the `fnhost` that cargo built.
    pub program: Option<PathBuf>,
    /// Run as `spin up` runs its plugin `trigger-kafka`, with the lock at [`Fnhost::lock_path`].
    pub under_spin: bool,
}

/// One fnhost, running or not, with a data directory of its own. Ends with this value.
#[derive(Debug)]
pub struct Fnhost {
    setup: Setup,
    http: u16,
    admin: u16,
    child: Option<Child>,
    // Dropped last.
    folder: Folder,
}

impl Fnhost {
    /// A new one with private servers, ready.
    ///
    /// # Errors
    /// It does not become ready; the error has its log.
    pub async fn start(setup: Setup) -> anyhow::Result<Self> {
        let mut fnhost = Self::new(setup)?;
        fnhost.restart().await?;
        fnhost.database().await?.note_stock().await?;
        Ok(fnhost)
    }

    /// Another one in the same groups: on the servers of this one, which must run.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn join(&self) -> anyhow::Result<Self> {
        let mut other = Self::new(self.setup_of_joining()?)?;
        other.restart().await?;
        Ok(other)
    }

    /// Runs a command that asks this one at its admin address; answers what it printed.
    ///
    /// # Errors
    /// It failed; the error has what it said.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = tokio::process::Command::new(program()?);
        command.args(arguments).arg("--admin").arg(address(self.admin)).stdin(Stdio::null());
        // Found by the address alone, as by somebody who has typed nothing else.
        command.env_remove("FNHOST_ADMIN_TOKEN").env_remove("FNHOST_DATA_DIR");
        let output = command.env(STATE_VARIABLE, self.folder.path()).output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "fnhost {}: {said}", arguments.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs a command beside this one, on its manifest and data directory; answers all that it printed and how it ended.
    ///
    /// # Errors
    /// It cannot be run.
    pub async fn beside(&self, arguments: &[&str]) -> anyhow::Result<std::process::Output> {
        let mut command = tokio::process::Command::new(self.program()?);
        command.args(arguments).arg("-f").arg(self.manifest_path()).arg("--data-dir").arg(self.data_dir());
        for name in VARIABLES {
            command.env_remove(name);
        }
        command
            .envs(token_variables())
            .envs(self.setup.environment.iter().map(|(name, value)| (name, value)));
        Ok(command.stdin(Stdio::null()).output().await?)
    }

    /// How a host is run that works on the servers of this one.
    ///
    /// # Errors
    /// This one has not started its servers.
    pub fn setup_of_joining(&self) -> anyhow::Result<Setup> {
        let secret = std::fs::read_to_string(self.data_dir().join("secrets/roles"))?;
        let kafka = self.private_kafka()?;
        let environment = [
            ("FNHOST_KAFKA", kafka.address),
            ("FNHOST_KAFKA_CONFIG", kafka.config.display().to_string()),
            ("FNHOST_DATABASE", self.database_url()?),
            // The roles keep the passwords that the first host gave them.
            ("FNHOST_ROLE_SECRET", secret.trim().to_owned()),
            // Only a host with a private database runs a payment gateway.
            ("SPIN_VARIABLE_PAYMENT_GATEWAY_URL", self.payment_gateway()?),
            ("SPIN_VARIABLE_PAYMENT_WEBHOOK_SECRET", self.kept("secrets/service-payment-gateway")?),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Ok(Setup { environment, ..self.setup.clone() })
    }

    /// One that is not running yet.
    ///
    /// # Errors
    /// Something is not built, or no port is free.
    pub fn new(setup: Setup) -> anyhow::Result<Self> {
        let folder = Folder::new()?;
        let fnhost = Self { setup, http: free_port()?, admin: free_port()?, child: None, folder };
        if fnhost.setup.data_dir.is_none() {
            share_images(&fnhost.data_dir())?;
        }
        let mut text = manifest()?;
        if let Some(change) = fnhost.setup.manifest {
            text = change(text);
        }
        std::fs::write(fnhost.manifest_path(), text)?;
        Ok(fnhost)
    }

    /// Starts it where it does not run, on its directory and addresses, and waits until it is ready.
    ///
    /// # Errors
    /// It does not become ready; the error has its log.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.prepare().await?;
        self.spawn()?;
        self.wait_ready().await
    }

    /// Gives further arguments to what is started from now on.
    pub fn add_arguments(&mut self, arguments: &[&str]) {
        self.setup.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    }

    /// Puts servers that are set up already into its data directory, where it runs its own and has none yet.
    ///
    /// # Errors
    /// They cannot be made.
    pub async fn prepare(&self) -> anyhow::Result<()> {
        let is_given = |name: &str| self.setup.environment.iter().any(|(given, _)| given == name);
        let data_dir = self.data_dir();
        let runs_own = |name: &str, variable: &str| !is_given(variable) && !data_dir.join(name).exists();
        let (postgres, kafka) = (runs_own("postgres", "FNHOST_DATABASE"), runs_own("kafka", "FNHOST_KAFKA"));
        if self.setup.data_dir.is_some() || !(postgres || kafka) {
            return Ok(());
        }
        prepared::copy_to(&data_dir, &target_dir()?.join("../tmp/fnhost-tests-classes"), postgres, kafka)
            .await
    }

    /// Starts it, and does not wait.
    ///
    /// # Errors
    /// It runs already, or cannot be run.
    pub fn spawn(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(self.child.is_none(), "it runs already");
        let program = if self.setup.under_spin { self.plugin()? } else { self.program()? };
        let log = OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let child = process::spawn(&program, |command| {
            command.args(self.arguments()).args(&self.setup.arguments);
            command.stdin(Stdio::null());
            if let (Ok(out), Ok(err)) = (log.try_clone(), log.try_clone()) {
                command.stdout(out).stderr(err);
            }
            for name in VARIABLES {
                command.env_remove(name);
            }
            command.envs(token_variables()).env(STATE_VARIABLE, self.folder.path());
            if self.setup.under_spin {
                command.env("SPIN_LOCKED_URL", format!("file://{}", self.lock_path().display()));
                command.env("SPIN_WORKING_DIR", self.folder.path());
                command.env("SPIN_LOCAL_APP_DIR", self.folder.path());
            }
            command.envs(self.setup.environment.iter().map(|(name, value)| (name, value)));
        })?;
        self.child = Some(child);
        Ok(())
    }

    fn program(&self) -> anyhow::Result<PathBuf> {
        self.setup.program.clone().map_or_else(program, Ok)
    }

    fn arguments(&self) -> Vec<OsString> {
        let (http, admin) = (address(self.http), address(self.admin));
        if self.setup.under_spin {
            return ["--data-dir".into(), self.data_dir().into(), "--admin".into(), admin.into()].into();
        }
        let pairs: [(&str, OsString); 4] = [
            ("-f", self.manifest_path().into()),
            ("--data-dir", self.data_dir().into()),
            ("--listen", http.into()),
            ("--admin", admin.into()),
        ];
        let pairs = pairs.into_iter().flat_map(|(flag, value)| [flag.into(), value]);
        std::iter::once("up".into()).chain(pairs).collect()
    }

    /// `fnhost` under the name of Spin's plugin.
    fn plugin(&self) -> anyhow::Result<PathBuf> {
        let plugin = self.folder.path().join("trigger-kafka");
        if !plugin.exists() {
            std::os::unix::fs::symlink(program()?, &plugin)?;
        }
        Ok(plugin)
    }

    /// Runs `./dev rotate-keys` on its data directory, and has what is started from now on use the keys that are there.
    ///
    /// # Errors
    /// It refused; the error has what it said.
    pub fn rotate_keys(&mut self, arguments: &[&str]) -> anyhow::Result<()> {
        let dev = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dev");
        let mut command = std::process::Command::new(dev);
        let output =
            command.arg("rotate-keys").arg("--data-dir").arg(self.data_dir()).args(arguments).output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let of = |variable: &str, file| anyhow::Ok((variable.to_owned(), self.kept(file)?));
        let variables = [
            of("SPIN_VARIABLE_TOKEN_PRIVATE_KEY", "keys/private.pem")?,
            of("SPIN_VARIABLE_TOKEN_PUBLIC_KEYS", "keys/public.json")?,
        ];
        // The last one of a name counts.
        self.setup.environment.extend(variables);
        Ok(())
    }

    /// Waits until every partition that it is given is owned.
    ///
    /// # Errors
    /// It ended, or is not ready within [`READY_DEADLINE`]; the error has its log.
    pub async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let admin = self.admin()?;
        let ready = until("readiness", READY_DEADLINE, async || {
            if let Some(status) = self.ended()? {
                anyhow::bail!("it ended: {status}");
            }
            match admin.get("/readyz").await {
                Ok(answer) => Ok(Look::from_bool(answer.status == StatusCode::OK, answer.to_string())),
                Err(error) => Ok(Look::NotYet(format!("{error:#}"))),
            }
        });
        let ready = ready.await;
        ready.with_context(|| format!("fnhost is not ready; its log:\n{}", self.log()))
    }

    /// Its exit status, where it has ended.
    ///
    /// # Errors
    /// It does not run.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.as_mut().context("it is not running")?.try_wait()?)
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// It still runs after [`STOP_DEADLINE`].
    pub async fn wait_end(&mut self) -> anyhow::Result<ExitStatus> {
        let ended = until("the end of fnhost", STOP_DEADLINE, async || {
            Ok(Look::from_option(self.ended()?, "it is running"))
        });
        let status = ended.await?;
        self.child = None;
        Ok(status)
    }

    /// Ctrl-C: waits until it has drained and ended.
    ///
    /// # Errors
    /// It does not end.
    pub async fn interrupt(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::INT)?;
        self.wait_end().await
    }

    /// Ctrl-C at a terminal where it runs under Spin: the interrupt reaches the whole process group, and Spin sends its
    /// triggers SIGTERM. Waits until it has drained and ended.
    ///
    /// # Errors
    /// It does not end.
    pub async fn interrupt_through_spin(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::INT)?;
        self.signal(Signal::TERM)?;
        self.wait_end().await
    }

    /// Whether anything of it still runs: itself, or a server that it started.
    ///
    /// # Errors
    /// The process table cannot be read.
    pub fn wait_nothing_left(&self) -> anyhow::Result<()> {
        process::wait_for_servers(&self.data_dir())
    }
}

impl Drop for Fnhost {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = process::kill(&mut child);
        }
        if std::thread::panicking() {
            print_log(&self.log(), self.folder.path());
        }
        if let Err(error) = self.wait_nothing_left() {
            eprintln!("{error:#}");
        }
    }
}

/// The variables of the keys, as `./dev up` gives them.
fn token_variables() -> [(&'static str, &'static str); 2] {
    [
        ("SPIN_VARIABLE_TOKEN_PRIVATE_KEY", &keys().private_pem),
        ("SPIN_VARIABLE_TOKEN_PUBLIC_KEYS", &keys().public_jwks),
    ]
}

fn print_log(log: &str, folder: &Path) {
    // One write, so that the logs of tests that fail together do not mix.
    let text = format!("---- fnhost in {} ----\n{log}---- end of its log ----\n", folder.display());
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}
