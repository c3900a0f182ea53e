//! What fails: a Postgres, a Kafka and hosts, each by itself.

use crate::client::Connection;
use crate::cpu;
use crate::kafka::Kafka;
use crate::load;
use crate::system::{Base, Process, free_address};
use anyhow::Context as _;
use fnhost_embedded::Servers;
use hyper::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use uuid::Uuid;

/// Longest wait for anything to happen again.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Between two looks at what is awaited: the error of the figures.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Longest wait for one answer to one request of a customer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// The customer who orders.
const EMAIL: &str = "recovery@example.com";
const PASSWORD: &str = "correct horse battery";

/// A partition of a trigger: the trigger's id, topic, partition.
pub type Partition = (String, String, i32);
/// Position and owner of each partition.
pub type Positions = BTreeMap<Partition, (i64, Option<Uuid>)>;

/// One private server, which can be away.
pub struct Server {
    options: fnhost_embedded::Options,
    running: Option<Servers>,
}

/// How a server goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    /// It is stopped: connections are refused.
    Stopped,
    /// It is frozen (SIGSTOP): connections stay, and nothing is answered.
    Frozen,
}

/// Frozen processes; they go on when this is dropped.
pub struct Frozen(Vec<Pid>);

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill_process(*pid, Signal::CONT);
        }
    }
}

impl Server {
    async fn start(options: fnhost_embedded::Options) -> anyhow::Result<Self> {
        let running = Some(fnhost_embedded::start(options.clone()).await?);
        Ok(Self { options, running })
    }

    /// Stops the server in an orderly way.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }

    /// Starts it again, at the same address; answers when it is ready.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.running = Some(fnhost_embedded::start(self.options.clone()).await?);
        Ok(())
    }

    /// Freezes all its processes.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&self) -> anyhow::Result<Frozen> {
        let file = if self.options.postgres { "postgres/data/postmaster.pid" } else { "run/kafka.pid" };
        let text = std::fs::read_to_string(self.options.data_dir.join(file))?;
        let first: u32 = text.lines().next().unwrap_or_default().trim().parse()?;
        let mut frozen = Frozen(Vec::new());
        let mut stop = |pid: u32| {
            let pid = Pid::from_raw(i32::try_from(pid)?).context("no process id")?;
            kill_process(pid, Signal::STOP)?;
            frozen.0.push(pid);
            anyhow::Ok(())
        };
        // The first one before its children, so that it makes no more of them.
        stop(first)?;
        for child in cpu::children(first)? {
            // One that has just ended need not be frozen.
            let _ = stop(child);
        }
        Ok(frozen)
    }
}

/// A host with a data directory of its own.
pub struct Host {
    process: Process,
    folder: PathBuf,
    /// Where it serves HTTP.
    pub listen: SocketAddr,
    admin: SocketAddr,
}

impl Host {
    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        self.process.ready(self.admin).await
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// It cannot be killed.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill().await
    }

    /// Fails where it has ended.
    ///
    /// # Errors
    /// As said.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.process.check()
    }
}

/// Servers, each with a data directory of its own, and the connections that watch them.
pub struct World<'a> {
    base: &'a Base,
    folders: Vec<PathBuf>,
    /// The database.
    pub postgres: Server,
    /// The broker.
    pub kafka: Server,
    /// Watches the database.
    pub owner: PgPool,
    /// How the broker is reached.
    pub cluster: Kafka,
    environment: Vec<(&'static str, String)>,
    /// Asked by the payment function; in this process.
    _gateway: (Arc<payment_gateway::Gateway>, JoinSet<()>),
}

impl<'a> World<'a> {
    /// Starts the servers on fresh copies.
    ///
    /// # Errors
    /// They do not come up.
    pub async fn start(base: &'a Base) -> anyhow::Result<Self> {
        let (first, second) = (base.copy("recovery-postgres")?, base.copy("recovery-kafka")?);
        let options = fnhost_embedded::Options::new;
        let postgres = Server::start(fnhost_embedded::Options { kafka: false, ..options(&first) }).await?;
        let kafka = Server::start(fnhost_embedded::Options { postgres: false, ..options(&second) }).await?;
        let running =
            |server: &Server| server.running.as_ref().map(|s| (s.database_url.clone(), s.kafka.clone()));
        let database = running(&postgres).and_then(|(database, _)| database).context("no database")?;
        let cluster = Kafka::private(running(&kafka).and_then(|(_, kafka)| kafka).as_ref())?;
        let role_secret = std::fs::read_to_string(first.join("secrets/roles"))?.trim().to_owned();
        let owner = PgPoolOptions::new().max_connections(4).connect(&database).await?;
        let (gateway, address, serving) = payment_gateway::start(payment_gateway::Options::default()).await?;
        let mut environment = vec![
            ("FNHOST_DATABASE", database),
            ("FNHOST_ROLE_SECRET", role_secret),
            ("SPIN_VARIABLE_PAYMENT_GATEWAY_URL", format!("http://{address}")),
            ("SPIN_VARIABLE_PAYMENT_WEBHOOK_SECRET", "no webhooks here".to_owned()),
        ];
        environment.extend(cluster.variables());
        let (folders, _gateway) = (vec![first, second], (gateway, serving));
        Ok(Self { base, folders, postgres, kafka, owner, cluster, environment, _gateway })
    }

    /// Makes a folder for a host, with the compiled images of the prepared one, and starts the host in it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn host(&mut self, name: &str) -> anyhow::Result<Host> {
        let folder = self.folders[0].with_file_name(format!("recovery-{name}"));
        std::fs::create_dir_all(&folder)?;
        self.folders.push(folder.clone());
        let cache = self.folders[0].join("cache");
        let copied = std::process::Command::new("cp").arg("-a").arg(cache).arg(&folder).status()?;
        anyhow::ensure!(copied.success(), "cannot copy the compiled images");
        self.start_host(&folder)
    }

    /// Starts a host again that was killed, as a supervisor does: same folder, same name in its groups.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_host_again(&self, host: &mut Host) -> anyhow::Result<()> {
        *host = self.start_host(&host.folder)?;
        Ok(())
    }

    fn start_host(&self, folder: &Path) -> anyhow::Result<Host> {
        let (listen, admin) = (free_address()?, free_address()?);
        let mut command = self.base.fnhost(folder, listen, admin);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let process = Process::spawn(&mut command, &folder.with_extension("log"))?;
        Ok(Host { process, folder: folder.to_owned(), listen, admin })
    }

    /// Positions and owners now.
    ///
    /// # Errors
    /// The database did not answer.
    pub async fn positions(&self) -> anyhow::Result<Positions> {
        let rows: Vec<(String, String, i32, i64, Option<Uuid>)> = sqlx::query_as(
            "SELECT t.id, p.topic, p.partition, p.position, p.owner
               FROM fnhost.partition p JOIN fnhost.trigger t USING (trigger) WHERE t.kind = 'kafka'",
        )
        .fetch_all(&self.owner)
        .await?;
        Ok(rows
            .into_iter()
            .map(|(id, topic, n, position, owner)| ((id, topic, n), (position, owner)))
            .collect())
    }

    /// Waits until every partition of `before` has been processed further, by another owner than `not_by`; answers when each was
    /// first seen to be.
    ///
    /// # Errors
    /// One of them does not move; the message names it.
    pub async fn moves(&self, before: &Positions, not_by: Option<Uuid>) -> anyhow::Result<Vec<Instant>> {
        let deadline = Instant::now() + TIMEOUT;
        let mut waiting: Vec<(&Partition, i64)> =
            before.iter().map(|(at, (position, _))| (at, *position)).collect();
        let mut moved = Vec::with_capacity(waiting.len());
        while !waiting.is_empty() {
            anyhow::ensure!(
                Instant::now() < deadline,
                "not processed any more after {TIMEOUT:?}: {waiting:?}"
            );
            let now = self.positions().await?;
            let seen = Instant::now();
            waiting.retain(|(at, position)| {
                let goes_on = now.get(*at).is_some_and(|(now, owner)| {
                    now > position && owner.is_some() && (not_by.is_none() || *owner != not_by)
                });
                moved.extend(goes_on.then_some(seen));
                !goes_on
            });
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok(moved)
    }

    /// Waits until no more than `most` orders are undecided, besides those that are not sent yet.
    ///
    /// # Errors
    /// There are more in the end.
    pub async fn decided(&self, most: usize, unsent: impl Fn() -> usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let pending: i64 =
                sqlx::query_scalar("SELECT count(*) FROM orders.orders WHERE status = 'PENDING'")
                    .fetch_one(&self.owner)
                    .await?;
            let undecided = usize::try_from(pending)?.saturating_sub(unsent());
            if undecided <= most {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < deadline, "{undecided} orders are undecided after {TIMEOUT:?}");
            tokio::time::sleep(LOOK_INTERVAL * 10).await;
        }
    }

    /// Registers the customer, and logs in.
    ///
    /// # Errors
    /// A call was refused.
    pub async fn log_in(&self, host: &Host) -> anyhow::Result<String> {
        let mut connection = Connection::open(host.listen).await?;
        let login = json!({"email": EMAIL, "password": PASSWORD});
        // Refused from the second time on.
        connection.call(hyper::Method::POST, "/auth/register", "", login.to_string().into()).await?;
        let session = connection.post("/auth/login", "", &login, StatusCode::OK).await?;
        Ok(session["access_token"].as_str().context("no access_token")?.to_owned())
    }

    /// Orders until an order is accepted, and waits until that one is confirmed; answers when it was.
    ///
    /// # Errors
    /// It is not in time.
    pub async fn an_order(&self, listen: SocketAddr, token: &str) -> anyhow::Result<Instant> {
        let deadline = Instant::now() + TIMEOUT;
        let order = loop {
            let asked = tokio::time::timeout(ANSWER_TIMEOUT, async {
                load::post(&mut Connection::open(listen).await?, token, 0, load::OK_TOKEN).await
            });
            match asked.await {
                Ok(Ok(order)) => break order,
                refused => anyhow::ensure!(Instant::now() < deadline, "no order is accepted: {refused:?}"),
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        };
        loop {
            let status: String = sqlx::query_scalar("SELECT status FROM orders.orders WHERE id = $1")
                .bind(order)
                .fetch_one(&self.owner)
                .await?;
            if status == "CONFIRMED" {
                return Ok(Instant::now());
            }
            anyhow::ensure!(Instant::now() < deadline, "order {order} is {status} after {TIMEOUT:?}");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Stops the servers and removes their data.
    ///
    /// # Errors
    /// The data cannot be removed.
    pub async fn end(mut self) -> anyhow::Result<()> {
        self.owner.close().await;
        self.kafka.stop().await;
        self.postgres.stop().await;
        self.folders.iter().try_for_each(|folder| Ok(std::fs::remove_dir_all(folder)?))
    }
}
