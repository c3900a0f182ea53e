//! The real `fnhost`: started, awaited, signalled, restarted, joined by a second one, and ended with its test.

use crate::client::Client;
use crate::database::Database;
use crate::keys::keys;
use crate::process::{self, Folder};
use crate::wait::{Look, until};
use anyhow::Context as _;
use http::StatusCode;
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsString;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::sync::OnceCell;

/// Time until every partition is owned, on a busy machine and on an empty data directory.
pub const READY_DEADLINE: Duration = Duration::from_secs(90);
/// Time in which a drained fnhost ends, its servers included.
pub const STOP_DEADLINE: Duration = Duration::from_secs(60);
/// Attempts of a record in the manifest of the tests: enough for `tok_slow`, and `tok_down` ends in seconds.
pub const MAX_ATTEMPTS: u32 = 6;
/// Ports that are tried: neither in Linux's ephemeral range nor where fnhost looks for those of its servers.
const PORTS: std::ops::Range<u16> = 12_000..20_000;
/// Variables that would reach into the fnhosts of the tests.
const VARIABLES: [&str; 12] = [
    "FNHOST_LISTEN",
    "FNHOST_ADMIN",
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

    /// The one that the tests of a test program share, which leave its stock of other tests alone.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn shared() -> anyhow::Result<Shared> {
        static SHARED: OnceCell<Fnhost> = OnceCell::const_new();
        let fnhost = SHARED.get_or_try_init(|| Self::start(Setup::default())).await?;
        let log_start = std::fs::metadata(fnhost.log_path())?.len();
        Ok(Shared { fnhost, log_start })
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
        let output = command.output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "fnhost {}: {said}", arguments.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs a command beside this one, on its manifest and data directory; answers all that it printed and how it ended.
    ///
    /// # Errors
    /// It cannot be run.
    pub async fn beside(&self, arguments: &[&str]) -> anyhow::Result<std::process::Output> {
        let mut command = tokio::process::Command::new(program()?);
        command.args(arguments).arg("-f").arg(self.manifest_path()).arg("--data-dir").arg(self.data_dir());
        for name in VARIABLES {
            command.env_remove(name);
        }
        Ok(command.stdin(Stdio::null()).output().await?)
    }

    /// How a host is run that works on the servers of this one.
    ///
    /// # Errors
    /// This one has not started its servers.
    pub fn setup_of_joining(&self) -> anyhow::Result<Setup> {
        let secret = std::fs::read_to_string(self.data_dir().join("secrets/roles"))?;
        let environment = [
            ("FNHOST_KAFKA", self.kafka()?),
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
        self.spawn()?;
        self.wait_ready().await
    }

    /// Starts it, and does not wait.
    ///
    /// # Errors
    /// It runs already, or cannot be run.
    pub fn spawn(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(self.child.is_none(), "it runs already");
        let program = if self.setup.under_spin { self.plugin()? } else { program()? };
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
            command.envs(token_variables());
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

    /// `kill -9`: ends it at once.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        process::kill(&mut self.child.take().context("it is not running")?)?;
        Ok(())
    }

    /// `kill -9` of its private Kafka alone. A frozen fnhost does not start it again before it is thawed.
    ///
    /// # Errors
    /// It has none that runs.
    pub fn kill_kafka(&self) -> anyhow::Result<()> {
        process::kill_server(&self.data_dir(), "kafka.Kafka")
    }

    /// `kill -9` of its payment gateway alone, which is started again.
    ///
    /// # Errors
    /// It has none that runs.
    pub fn kill_payment_gateway(&self) -> anyhow::Result<()> {
        let journal = self.data_dir().join("services/payment-gateway/journal.jsonl");
        process::kill_server(&self.data_dir(), &journal.display().to_string())
    }

    /// Stops it where it stands, locks and connections in hand.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a frozen one go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Sends it a signal, and does not wait.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let sent = self.child.as_ref().is_some_and(|child| process::signal(child, signal));
        anyhow::ensure!(sent, "it is not running");
        Ok(())
    }

    /// A client of the HTTP address, with connections of its own.
    ///
    /// # Errors
    /// None; for `?`.
    pub fn client(&self) -> anyhow::Result<Client> {
        Client::new(&address(self.http))
    }

    /// A client of the admin address.
    ///
    /// # Errors
    /// None; for `?`.
    pub fn admin(&self) -> anyhow::Result<Client> {
        Client::new(&address(self.admin))
    }

    /// Bootstrap address of its private Kafka.
    ///
    /// # Errors
    /// It has none.
    pub fn kafka(&self) -> anyhow::Result<String> {
        Ok(format!("127.0.0.1:{}", self.kept("run/kafka.port")?))
    }

    /// URL of its payment gateway.
    ///
    /// # Errors
    /// It has none.
    pub fn payment_gateway(&self) -> anyhow::Result<String> {
        Ok(format!("http://127.0.0.1:{}", self.kept("run/payment-gateway.port")?))
    }

    /// URL of its private database, as the owner.
    ///
    /// # Errors
    /// It has none.
    pub fn database_url(&self) -> anyhow::Result<String> {
        let (password, port) = (self.kept("secrets/postgres")?, self.kept("run/postgres.port")?);
        Ok(format!("postgres://fnhost:{password}@127.0.0.1:{port}/fnhost"))
    }

    /// Its private database, as the owner.
    ///
    /// # Errors
    /// It has none, or it does not answer.
    pub async fn database(&self) -> anyhow::Result<Database> {
        Database::connect(&self.database_url()?).await
    }

    /// Sends a signal to its private Kafka.
    ///
    /// # Errors
    /// It has none.
    pub fn signal_kafka(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(self.kept("run/kafka.pid")?.parse()?).context("a process id")?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    fn kept(&self, name: &str) -> anyhow::Result<String> {
        let path = self.data_dir().join(name);
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.setup.data_dir.clone().unwrap_or_else(|| self.folder.path().join("data"))
    }

    /// Its manifest, a copy that this fnhost has alone.
    #[must_use]
    pub fn manifest_path(&self) -> PathBuf {
        self.folder.path().join("spin.toml")
    }

    /// The locked application that it reads under Spin.
    #[must_use]
    pub fn lock_path(&self) -> PathBuf {
        self.folder.path().join("spin.lock")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// All it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
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

/// Another program beside an fnhost, run by a shell script, in a process group of its own, as a terminal's job is. Ends with this
/// value, and everything that it has started with it.
#[derive(Debug)]
pub struct Companion {
    child: Child,
    log: PathBuf,
}

impl Companion {
    /// Runs `script` with the keys of the tests and these variables.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn run(
        script: &str,
        environment: impl IntoIterator<Item = (String, String)>,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let output = OpenOptions::new().create(true).append(true).open(log)?;
        let errors = output.try_clone()?;
        let child = process::spawn(Path::new("sh"), |command| {
            command.args(["-c", script]).stdin(Stdio::null()).stdout(output).stderr(errors);
            command.envs(token_variables()).envs(environment).process_group(0);
        })?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Sends it a signal, and does not wait.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        anyhow::ensure!(process::signal(&self.child, signal), "it has ended");
        Ok(())
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// It still runs after [`STOP_DEADLINE`].
    pub async fn wait_end(&mut self) -> anyhow::Result<ExitStatus> {
        let ended = until("the end of the program", STOP_DEADLINE, async || {
            Ok(Look::from_option(self.child.try_wait()?, "it is running"))
        });
        ended.await
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// # Errors
    /// It has ended; the error has its log.
    pub fn check_runs(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            anyhow::bail!("it ended: {status}\n{}", std::fs::read_to_string(&self.log)?);
        }
        Ok(())
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        if let Some(group) = self.child.id().try_into().ok().and_then(Pid::from_raw) {
            // Gone already where all of it has ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = process::kill(&mut self.child);
        if std::thread::panicking() {
            print_log(&std::fs::read_to_string(&self.log).unwrap_or_default(), &self.log);
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

/// The shared fnhost, as one test has it: when the test fails, what was logged meanwhile is printed.
#[derive(Debug)]
pub struct Shared {
    fnhost: &'static Fnhost,
    log_start: u64,
}

impl std::ops::Deref for Shared {
    type Target = Fnhost;

    fn deref(&self) -> &Fnhost {
        self.fnhost
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.fnhost.log();
            let start = usize::try_from(self.log_start).unwrap_or_default();
            print_log(log.get(start..).unwrap_or(&log), self.fnhost.folder.path());
        }
    }
}

fn print_log(log: &str, folder: &Path) {
    // One write, so that the logs of tests that fail together do not mix.
    let text = format!("---- fnhost in {} ----\n{log}---- end of its log ----\n", folder.display());
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// The checkout's manifest for any place: its paths are absolute, and its records have [`MAX_ATTEMPTS`].
fn manifest() -> anyhow::Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("a workspace")?.to_owned();
    let mut text = std::fs::read_to_string(root.join("spin.toml"))?;
    for folder in ["target/functions/", "target/tools/", "migrations/", "demo/"] {
        text = text.replace(&format!("\"{folder}"), &format!("\"{}/{folder}", root.display()));
    }
    let attempts = "max_attempts = 8";
    anyhow::ensure!(text.contains(attempts), "spin.toml has no longer {attempts}");
    Ok(text.replace(attempts, &format!("max_attempts = {MAX_ATTEMPTS}")))
}

/// Makes a data directory that finds the functions compiled: images go by their content, so all systems of all runs can
/// share them.
fn share_images(data_dir: &Path) -> anyhow::Result<()> {
    let images = target_dir()?.join("../tmp/fnhost-tests-images");
    // fnhost trusts what only its own account can write.
    DirBuilder::new().recursive(true).mode(0o700).create(&images)?;
    std::fs::create_dir(data_dir)?;
    std::os::unix::fs::symlink(images, data_dir.join("cache"))?;
    Ok(())
}

/// The `fnhost` that cargo built beside the running test.
///
/// # Errors
/// It is not there.
pub fn program() -> anyhow::Result<PathBuf> {
    let program = target_dir()?.join("fnhost");
    anyhow::ensure!(program.exists(), "{} is missing: run `./dev build`", program.display());
    Ok(program)
}

/// The folder `release` (or that of another profile) in which cargo built the running test.
fn target_dir() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder =
        test.parent().and_then(Path::parent).context("the test runs outside of a target directory")?;
    Ok(folder.to_owned())
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// A port that nobody listens on, and that no other caller in this process was given.
///
/// # Errors
/// There is none.
pub fn free_port() -> anyhow::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let len = PORTS.end - PORTS.start;
    // Test processes that run at the same time begin at different places.
    let first = u16::try_from(std::process::id() % 97).unwrap_or_default() * 80;
    for _ in 0..len {
        let port = PORTS.start + first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % len;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no port of {PORTS:?} is free")
}
