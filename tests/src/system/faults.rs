//! What tests do to an fnhost and to its servers.

use super::Fnhost;
use crate::process;
use anyhow::Context as _;
use rustix::process::{Pid, Signal};

impl Fnhost {
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

    /// Sends a signal to its private Kafka.
    ///
    /// # Errors
    /// It has none.
    pub fn signal_kafka(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(self.kept("run/kafka.pid")?.parse()?).context("a process id")?;
        Ok(rustix::process::kill_process(pid, signal)?)
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
}
