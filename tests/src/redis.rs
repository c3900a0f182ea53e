//! The real Redis, where it is installed: Debian's package `redis-server`, or any other on PATH.

use crate::process::{self, Folder};
use crate::system::free_port;
use crate::wait::{Look, until};
use anyhow::Context as _;
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Time until it answers.
const DEADLINE: Duration = Duration::from_secs(30);

/// A Redis that keeps nothing on disk, running or not. Ends with this value.
#[derive(Debug)]
pub struct Redis {
    program: PathBuf,
    port: u16,
    /// How it is started, besides its address and folder.
    arguments: Vec<String>,
    child: Option<Child>,
    // Dropped last.
    folder: Folder,
}

impl Redis {
    /// A running one; none where the program is not installed, which is said.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn start() -> anyhow::Result<Option<Self>> {
        Self::start_with(|_| Ok(vec![])).await
    }

    /// One with further arguments, made for its folder.
    ///
    /// # Errors
    /// Those of `arguments`, or it does not answer.
    pub async fn start_with(
        arguments: impl FnOnce(&Path) -> anyhow::Result<Vec<String>>,
    ) -> anyhow::Result<Option<Self>> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut programs = std::env::split_paths(&path).map(|folder| folder.join("redis-server"));
        let Some(program) = programs.find(|program| program.is_file()) else {
            eprintln!("skipped: there is no redis-server; `./dev setup --tests` installs it");
            return Ok(None);
        };
        let folder = Folder::new()?;
        let arguments = arguments(folder.path())?;
        let mut redis = Self { program, port: free_port()?, arguments, child: None, folder };
        redis.restart().await?;
        Ok(Some(redis))
    }

    /// Starts it where it does not run, empty, on its port, and waits until it answers.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(self.child.is_none(), "it runs already");
        let child = process::spawn(&self.program, |command| {
            command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--dir"]);
            command.arg(self.folder.path()).args(["--save", "", "--appendonly", "no"]).args(&self.arguments);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        })?;
        self.child = Some(child);
        until("Redis", DEADLINE, async || {
            Ok(match self.ask("PING").await {
                Ok(answer) => Look::from_bool(answer.starts_with("+PONG"), answer),
                Err(error) => Look::NotYet(format!("{error:#}")),
            })
        })
        .await
    }

    /// The answer to a command in one line, as it comes: what Redis says to `redis-cli`, with its marks.
    ///
    /// # Errors
    /// There is none.
    pub async fn ask(&self, command: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.context("no answer")??;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// URL of the server, as `runtime-config.toml` has it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A file of its folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A runtime-config file with this Redis as the store `default`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn runtime_config(&self) -> anyhow::Result<PathBuf> {
        self.runtime_config_of(&self.url())
    }

    /// The same with another URL of it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn runtime_config_of(&self, url: &str) -> anyhow::Result<PathBuf> {
        let path = self.file("runtime-config.toml");
        let text = format!("[key_value_store.default]\ntype = \"redis\"\nurl = \"{url}\"\n");
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        process::kill(&mut self.child.take().context("it is not running")?)?;
        Ok(())
    }

    /// Stops it where it stands: its connections stay, and nothing is answered.
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

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let sent = self.child.as_ref().is_some_and(|child| process::signal(child, signal));
        anyhow::ensure!(sent, "it is not running");
        Ok(())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = process::kill(&mut child);
        }
    }
}
