//! The systems under test: data directories, private servers, and the processes that run on them.
//!
//! One data directory is prepared once, by fnhost itself: migrated, seeded, its topics made. Every run works on a copy of
//! it, so that no run sees what another has left.

use crate::cpu::{self, Pids};
use crate::kafka::Kafka;
pub use crate::scratch::{Scratch, free_address};
use anyhow::Context as _;
use base64ct::{Base64UrlUnpadded, Encoding as _};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// Longest wait for a process to become ready.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest wait for a process to stop by itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);
/// How often readiness is asked for: a part of what is measured, so short.
const READY_INTERVAL: Duration = Duration::from_millis(10);

/// The keys that sign and check access tokens, as the variables of the manifest.
pub struct Keys {
    private_pem: String,
    public_jwks: String,
}

impl Keys {
    /// A fresh pair.
    ///
    /// # Errors
    /// The key cannot be encoded.
    pub fn generate() -> anyhow::Result<Self> {
        let mut seed = [0; 32];
        seed[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        seed[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        let key = SigningKey::from_bytes(&seed);
        let x = Base64UrlUnpadded::encode_string(key.verifying_key().as_bytes());
        let key_set = serde_json::json!({
            "keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "bench", "alg": "EdDSA", "use": "sig"}]
        });
        let private_pem = key.to_pkcs8_pem(LineEnding::LF)?.to_string();
        Ok(Self { private_pem, public_jwks: key_set.to_string() })
    }
}

/// Where servers are, and the secrets that go with them. Handed to processes by environment, under fnhost's own names.
#[derive(Clone, Debug, clap::Args)]
pub struct Servers {
    /// Its Kafka
    #[command(flatten)]
    pub kafka: Kafka,
    /// URL of the database as its owner
    #[arg(long, env = "FNHOST_DATABASE", hide_env_values = true)]
    pub database: String,
    /// Secret of the functions' passwords
    #[arg(long, env = "FNHOST_ROLE_SECRET", hide_env_values = true)]
    pub role_secret: String,
    /// Name of the member in its groups
    #[arg(long, env = "BENCH_INSTANCE")]
    pub instance: String,
}

/// What runs the functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runner {
    /// fnhost with the components.
    Wasm,
    /// fnhost's dispatch with native code.
    Native,
    /// rdkafka and sqlx in a loop.
    Plain,
}

impl Runner {
    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Native => "native",
            Self::Plain => "plain",
        }
    }
}

/// The prepared data directory and what is needed to run on copies of it.
pub struct Base {
    fnhost: PathBuf,
    manifest: PathBuf,
    scratch: PathBuf,
    keys: Keys,
}

impl Base {
    /// Runs fnhost once on an empty directory, until it is ready.
    ///
    /// # Errors
    /// fnhost is not built or does not become ready.
    pub async fn prepare(fnhost: PathBuf, manifest: PathBuf, scratch: &Path) -> anyhow::Result<Self> {
        anyhow::ensure!(fnhost.is_file(), "there is no {}: run ./dev build first", fnhost.display());
        let base = Self { fnhost, manifest, scratch: scratch.to_owned(), keys: Keys::generate()? };
        let mut running = base.up(&base.path()).await?;
        running.process.stop().await?;
        anyhow::ensure!(
            !base.path().join("postgres").is_symlink(),
            "the account that runs Postgres cannot enter {}: choose another folder with --folder",
            scratch.display()
        );
        Ok(base)
    }

    fn path(&self) -> PathBuf {
        self.scratch.join("base")
    }

    /// A copy of the prepared data directory.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn copy(&self, name: &str) -> anyhow::Result<PathBuf> {
        let copy = self.scratch.join(name);
        // `cp` keeps owners and holes, and `sync` keeps the writing of the copy out of what is measured.
        let copied = std::process::Command::new("cp").arg("-a").arg(self.path()).arg(&copy).status()?;
        anyhow::ensure!(copied.success(), "cannot copy {}", self.path().display());
        rustix::fs::sync();
        Ok(copy)
    }

    /// fnhost as a user runs it, private servers and all; answers when it is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn up(&self, data_dir: &Path) -> anyhow::Result<Running> {
        self.up_with(data_dir, &[]).await
    }

    /// As [`Base::up`], with further arguments.
    ///
    /// # Errors
    /// As there.
    pub async fn up_with(&self, data_dir: &Path, arguments: &[OsString]) -> anyhow::Result<Running> {
        let (listen, admin) = (free_address()?, free_address()?);
        let mut command = self.fnhost(data_dir, listen, admin);
        command.args(arguments);
        let began = Instant::now();
        let mut process = Process::spawn(&mut command, &data_dir.with_extension("log"))?;
        process.ready(admin).await?;
        let ready_s = began.elapsed().as_secs_f64();
        Ok(Running { process, listen, admin, ready_s, data_dir: data_dir.to_owned() })
    }

    /// The command that runs fnhost on a data directory.
    pub fn fnhost(&self, data_dir: &Path, listen: SocketAddr, admin: SocketAddr) -> Command {
        let mut command = Command::new(&self.fnhost);
        command.args(["up", "--from"]).arg(&self.manifest).arg("--data-dir").arg(data_dir);
        command.args(["--listen", &listen.to_string(), "--admin", &admin.to_string()]);
        self.give_keys(&mut command);
        // All viewers of the benchmark are one customer's.
        command.env("SPIN_VARIABLE_MAX_VIEWERS_PER_USER", "3000");
        command
    }

    fn give_keys(&self, command: &mut Command) {
        command.env("SPIN_VARIABLE_TOKEN_PRIVATE_KEY", &self.keys.private_pem);
        command.env("SPIN_VARIABLE_TOKEN_PUBLIC_KEYS", &self.keys.public_jwks);
    }

    /// Private servers alone, on a fresh copy.
    ///
    /// # Errors
    /// They do not come up.
    pub async fn stage(&self, name: &str) -> anyhow::Result<Stage> {
        let data_dir = self.copy(name)?;
        let secret = |name: &str| {
            anyhow::Ok(fs::read_to_string(data_dir.join("secrets").join(name))?.trim().to_owned())
        };
        let (role_secret, instance) = (secret("roles")?, secret("instance")?);
        let private = fnhost_embedded::start(fnhost_embedded::Options::new(&data_dir)).await?;
        let servers = Servers {
            kafka: Kafka::private(private.kafka.as_ref())?,
            database: private.database_url.clone().context("no database")?,
            role_secret,
            instance,
        };
        Ok(Stage { data_dir, private, servers })
    }

    /// Starts `runner` on the servers of `stage`, with these variables.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(
        &self,
        runner: Runner,
        environment: &[(&str, String)],
        stage: &Stage,
    ) -> anyhow::Result<Process> {
        // The servers hold the lock on their directory; the host gets one of its own, with the same images and names.
        let host_dir = stage.data_dir.with_extension("host");
        fs::create_dir_all(&host_dir)?;
        for folder in ["cache", "secrets"] {
            let from = stage.data_dir.join(folder);
            if from.exists() {
                let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(&host_dir).status()?;
                anyhow::ensure!(copied.success(), "cannot copy {folder}");
            }
        }
        let mut command = match runner {
            Runner::Wasm => self.fnhost(&host_dir, free_address()?, free_address()?),
            Runner::Native | Runner::Plain => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg(runner.name()).arg("--manifest").arg(&self.manifest);
                // The manifest is resolved as a whole, its gateway too.
                self.give_keys(&mut command);
                command
            }
        };
        command.envs(stage.servers.kafka.variables());
        command.env("FNHOST_DATABASE", &stage.servers.database);
        command.env("FNHOST_ROLE_SECRET", &stage.servers.role_secret);
        command.env("BENCH_INSTANCE", &stage.servers.instance);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        Process::spawn(&mut command, &host_dir.with_extension("host.log"))
    }
}

/// fnhost with its private servers.
pub struct Running {
    /// fnhost.
    pub process: Process,
    /// Where it serves HTTP.
    pub listen: SocketAddr,
    /// Admin address of the running host.
    pub admin: SocketAddr,
    /// Seconds from its start until it was ready.
    pub ready_s: f64,
    /// Its data directory, with the token of its admin address.
    pub data_dir: PathBuf,
}

impl Running {
    /// Whose CPU is measured.
    ///
    /// # Errors
    /// One of them does not run.
    pub fn pids(&self) -> anyhow::Result<Pids> {
        let (postgres, kafka) = cpu::server_pids(&self.data_dir)?;
        Ok(Pids { host: self.process.pid()?, postgres, kafka })
    }

    /// The private database and broker.
    ///
    /// # Errors
    /// Their addresses are not in the data directory.
    pub fn addresses(&self) -> anyhow::Result<(String, Kafka)> {
        Ok((self.database()?, Kafka::of(&self.data_dir, &self.read("run/kafka.port")?)))
    }

    /// The private database.
    ///
    /// # Errors
    /// Its address is not in the data directory.
    pub fn database(&self) -> anyhow::Result<String> {
        let (password, port) = (self.read("secrets/postgres")?, self.read("run/postgres.port")?);
        Ok(format!("postgres://fnhost:{password}@127.0.0.1:{port}/fnhost"))
    }

    fn read(&self, path: &str) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.data_dir.join(path))?.trim().to_owned())
    }

    /// Stops it and removes its data.
    ///
    /// # Errors
    /// It did not stop.
    pub async fn end(mut self) -> anyhow::Result<()> {
        self.process.stop().await?;
        Ok(fs::remove_dir_all(&self.data_dir)?)
    }
}

/// Private servers without a host.
pub struct Stage {
    data_dir: PathBuf,
    private: fnhost_embedded::Servers,
    /// Addresses of the servers.
    pub servers: Servers,
}

impl Stage {
    /// Whose CPU is measured while `process` is the host.
    ///
    /// # Errors
    /// One of them does not run.
    pub fn pids(&self, process: &Process) -> anyhow::Result<Pids> {
        let (postgres, kafka) = cpu::server_pids(&self.data_dir)?;
        Ok(Pids { host: process.pid()?, postgres, kafka })
    }

    /// Stops the servers and removes their data.
    ///
    /// # Errors
    /// The data cannot be removed.
    pub async fn end(self) -> anyhow::Result<()> {
        self.private.stop().await;
        Ok(fs::remove_dir_all(&self.data_dir)?)
    }
}

/// A process that was started here; killed when dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; what it prints goes to `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        // A group of its own, so that Ctrl-C reaches the measurement alone, which then stops what it started.
        command.process_group(0).kill_on_drop(true).stdin(Stdio::null());
        command.stdout(output.try_clone()?).stderr(output);
        Ok(Self { child: command.spawn().context("cannot start a process")?, log: log.to_owned() })
    }

    fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().with_context(|| self.why("ended"))
    }

    /// Fails where the process has ended.
    ///
    /// # Errors
    /// As said, with the last lines of its output.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!(self.why(&format!("ended ({status})"))),
        }
    }

    fn why(&self, what: &str) -> String {
        const LINES: usize = 15;
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("the process {what}; it said:\n{}", lines[lines.len().saturating_sub(LINES)..].join("\n"))
    }

    /// Waits until the host at this admin address says that it is ready.
    ///
    /// # Errors
    /// It ended, or does not become ready.
    pub async fn ready(&mut self, admin: SocketAddr) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        while !crate::client::answers(admin, "/readyz").await {
            self.check()?;
            anyhow::ensure!(Instant::now() < deadline, "{}", self.why("does not become ready"));
            tokio::time::sleep(READY_INTERVAL).await;
        }
        Ok(())
    }

    /// Kills it with SIGKILL, and answers when it is gone.
    ///
    /// # Errors
    /// It cannot be killed.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Stops it with SIGINT, as Ctrl-C does.
    ///
    /// # Errors
    /// It ended with a failure, or had to be killed.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid()?)?).context("no process id")?;
        kill_process(pid, Signal::INT)?;
        match tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(|status| status.success()) => Ok(()),
            Ok(status) => anyhow::bail!(self.why(&format!("ended with {}", status?))),
            Err(_) => {
                self.child.kill().await?;
                anyhow::bail!(self.why("did not stop"))
            }
        }
    }
}
