//! Carries a fault out, and undoes it after its time.

use super::audit::Audit;
use super::load::Load;
use super::odd::{self, Odd};
use super::oracle;
use super::proxy::{Mode, Proxy};
use super::schedule::Fault;
use super::world::World;
use anyhow::Context as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, RwLock};
use tokio::time::{sleep, timeout};

/// Time in which a COMMIT of a role comes where orders come all the time.
pub(super) const CATCH_DEADLINE: Duration = Duration::from_secs(5);
/// Time in which the database takes what ends a fault, while other faults strike it.
const UNDO_DEADLINE: Duration = Duration::from_secs(60);
/// Pause before it is asked again.
const UNDO_PAUSE: Duration = Duration::from_millis(200);
/// Time in which a moment without orders under way comes.
const CALM_DEADLINE: Duration = Duration::from_secs(90);
/// Pause between two looks at whether a host has ended by itself.
const KEEP_PAUSE: Duration = Duration::from_millis(500);
/// What came of a fault that found its host ended by itself.
pub(super) const ENDED: &str = "it had ended by itself";
/// How long a canary has its share, seconds.
const CANARY_S: &str = "4";

/// Strikes a world.
pub struct Striker {
    /// What is struck.
    pub world: World,
    /// The load that goes on meanwhile.
    pub load: Arc<Load>,
    /// Odd records that were sent.
    pub odd: Mutex<Vec<Odd>>,
    /// What deleted topics held.
    pub audit: Mutex<Audit>,
    /// Hosts that ended by themselves and were started again, as a service manager does.
    pub ended: AtomicU32,
    /// Read by faults; written by what wants none.
    pub(super) calm: RwLock<()>,
    /// One broker fails at a time.
    broker: Mutex<()>,
    /// Changes of roles, one at a time.
    role: Mutex<()>,
    /// Hosts that are stopped in a COMMIT, one at a time: another has to take over.
    pub(super) aim: Mutex<()>,
    variants: AtomicU32,
}

impl Striker {
    /// A striker of `world` under `load`.
    #[must_use]
    pub fn new(world: World, load: Arc<Load>, audit: Audit) -> Self {
        Self {
            world,
            load,
            odd: Mutex::default(),
            audit: Mutex::new(audit),
            ended: AtomicU32::default(),
            calm: RwLock::default(),
            broker: Mutex::default(),
            role: Mutex::default(),
            aim: Mutex::default(),
            variants: AtomicU32::default(),
        }
    }

    /// Carries a fault out and undoes it; answers what came of it.
    ///
    /// # Errors
    /// It cannot be carried out or undone.
    pub async fn strike(&self, fault: &Fault) -> anyhow::Result<String> {
        if let Fault::RecreateTopic { topic } = fault {
            let _calm = self.calm.write().await;
            return self.recreate(topic).await;
        }
        let _struck = self.calm.read().await;
        let world = &self.world;
        match *fault {
            Fault::KillHost { host, ms } => self.kill(host, after(ms)).await?,
            Fault::FreezeHost { host, ms } => {
                let host = world.hosts[host].lock().await;
                if host.freeze().is_err() {
                    return Ok(ENDED.to_owned());
                }
                sleep(after(ms)).await;
                host.thaw()?;
            }
            Fault::KillBroker { broker, ms } => {
                let _one = self.broker.lock().await;
                world.brokers.kill_and_start(broker, after(ms)).await?;
            }
            Fault::CutBroker { broker, ms } => disturb([world.brokers.proxy(broker)], Mode::Refuse, ms).await,
            Fault::FreezeBroker { broker, ms } => {
                disturb([world.brokers.proxy(broker)], Mode::Freeze, ms).await
            }
            Fault::StopPostgres { ms } => {
                if world.stop_postgres().is_err() {
                    return Ok("it was down".to_owned());
                }
                disturb(&world.databases, Mode::Refuse, ms).await;
            }
            Fault::CutDatabase { host, ms } => disturb([&world.databases[host]], Mode::Refuse, ms).await,
            Fault::FreezeDatabase { host, ms } => disturb([&world.databases[host]], Mode::Freeze, ms).await,
            Fault::LoseCommit { role, deliver, ms } => {
                return self.lose_commit(role, deliver, after(ms)).await;
            }
            Fault::CloseRole { role, ms } => {
                let closed = format!("ALTER ROLE {role} CONNECTION LIMIT 0");
                self.trouble(role, closed, format!("ALTER ROLE {role} CONNECTION LIMIT -1"), after(ms))
                    .await?;
            }
            Fault::RestrainRole { role, ms } => {
                let setting = "default_transaction_read_only";
                let restrained = format!("ALTER ROLE {role} SET {setting} = on");
                self.trouble(role, restrained, format!("ALTER ROLE {role} RESET {setting}"), after(ms))
                    .await?;
            }
            Fault::OddRecords { seed } => return self.send_odd(seed).await,
            Fault::Swap { function, canary } => return self.swap(function, canary).await,
            Fault::RollBack { function } => return self.command(&["rollback", function]).await,
            Fault::KillPaymentGateway => world.kill_payment_gateway()?,
            Fault::KillUnacknowledged { host, ms } => {
                world.brokers.proxies().for_each(|proxy| proxy.set(Mode::Freeze));
                sleep(after(ms)).await;
                // Held until it runs again, as by every fault that ends a host.
                let mut host = world.hosts[host].lock().await;
                let killed = host.kill();
                world.brokers.proxies().for_each(|proxy| proxy.set(Mode::Pass));
                if killed.is_err() {
                    return Ok(ENDED.to_owned());
                }
                host.spawn()?;
            }
            Fault::CommitInTakeOver { host } => return self.commit_in_take_over(host).await,
            Fault::JudgeAfterTakeOver { host } => return self.judge_after_take_over(host).await,
            Fault::RecreateTopic { .. } => {}
        }
        Ok("over".to_owned())
    }

    /// Starts hosts that have ended by themselves, for as long as it is polled.
    ///
    /// # Errors
    /// One cannot be started.
    pub async fn keep_hosts(&self) -> anyhow::Result<()> {
        loop {
            for host in &self.world.hosts {
                let Ok(mut host) = host.try_lock() else { continue };
                if host.ended().is_ok_and(|ended| ended.is_some()) {
                    host.wait_end().await?;
                    self.ended.fetch_add(1, Ordering::Relaxed);
                    host.spawn()?;
                }
            }
            sleep(KEEP_PAUSE).await;
        }
    }

    async fn kill(&self, host: usize, gone: Duration) -> anyhow::Result<()> {
        let mut host = self.world.hosts[host].lock().await;
        host.kill()?;
        sleep(gone).await;
        host.spawn()
    }

    async fn lose_commit(&self, role: &str, deliver: bool, silence: Duration) -> anyhow::Result<String> {
        let proxies = &self.world.databases;
        let caught = futures::future::select_ok(proxies.iter().map(|proxy| proxy.snare(role)));
        let caught = timeout(CATCH_DEADLINE, caught).await;
        proxies.iter().for_each(Proxy::disarm);
        let Ok(Ok((caught, _))) = caught else { return Ok("no COMMIT came".to_owned()) };
        caught.decide(deliver, silence);
        sleep(silence).await;
        Ok("one was caught".to_owned())
    }

    /// Changes a role and ends its sessions, which begin anew with the change; then the other way.
    async fn trouble(&self, role: &str, change: String, undo: String, lasts: Duration) -> anyhow::Result<()> {
        let _one = self.role.lock().await;
        self.change(role, change).await?;
        sleep(lasts).await;
        self.change(role, undo).await
    }

    async fn change(&self, role: &str, change: String) -> anyhow::Result<()> {
        let sessions =
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'");
        let sql = format!("{change}; {sessions}");
        let changed = async {
            while let Err(error) =
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql.clone())).execute(&self.world.db.pool).await
            {
                // A role that is not there is a mistake of the suite.
                anyhow::ensure!(
                    error.as_database_error().is_none_or(|e| e.code().as_deref() != Some("42704")),
                    error
                );
                sleep(UNDO_PAUSE).await;
            }
            Ok(())
        };
        timeout(UNDO_DEADLINE, changed).await.with_context(|| change.clone())?
    }

    async fn send_odd(&self, seed: u64) -> anyhow::Result<String> {
        let incarnation = "SELECT name FROM fnhost.incarnation";
        let stream = async {
            loop {
                match sqlx::query_scalar::<_, String>(incarnation).fetch_one(&self.world.db.pool).await {
                    Ok(name) => return format!("orders/{name}/order:events"),
                    Err(_) => sleep(UNDO_PAUSE).await,
                }
            }
        };
        let stream = timeout(UNDO_DEADLINE, stream).await?;
        let sent = odd::send(&self.world.brokers.cluster(), seed, &stream, 3).await?;
        let said = format!("{} sent", sent.len());
        self.odd.lock().await.extend(sent);
        Ok(said)
    }

    async fn swap(&self, function: &str, canary: Option<u32>) -> anyhow::Result<String> {
        let number = self.variants.fetch_add(1, Ordering::Relaxed);
        let file = self.world.folder().join(format!("{function}-{number}.wasm"));
        std::fs::write(&file, variant(function, &format!("variant {number}"))?)?;
        let (file, share) = (file.display().to_string(), canary.map(|percent| format!("{percent}%")));
        let mut arguments = vec!["swap", function, &file];
        if let Some(share) = &share {
            arguments.extend(["--canary", share, "--for", CANARY_S]);
        }
        self.command(&arguments).await
    }

    /// Asks one host after the other. That the command fails is no fault: the hosts are struck meanwhile.
    async fn command(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut said = String::new();
        for host in 0..self.world.hosts.len() {
            match timeout(CALM_DEADLINE, self.world.command(host, arguments)).await {
                Ok(Ok(printed)) => return Ok(printed.trim().to_owned()),
                Ok(Err(error)) => said = format!("refused: {error:#}").trim().to_owned(),
                Err(_) => "no answer".clone_into(&mut said),
            }
        }
        Ok(said)
    }

    /// Deletes a topic while nothing is under way, makes it anew, and says where its trigger goes on.
    async fn recreate(&self, topic: &'static str) -> anyhow::Result<String> {
        let _closed = self.load.gate.write().await;
        let world = &self.world;
        if let Err(error) = oracle::settle(world, CALM_DEADLINE).await {
            return Ok(format!("left out: {error:#}"));
        }
        let cluster = world.brokers.cluster();
        let mut audit = std::mem::take(&mut *self.audit.lock().await);
        let read = tokio::task::spawn_blocking(move || {
            let read = audit.read(&cluster, topic, &[]);
            (audit, read)
        });
        let (audit, read) = read.await?;
        *self.audit.lock().await = audit;
        read?;
        super::topic::make_anew(world, topic).await
    }
}

/// Changes what happens at proxies for a time.
async fn disturb<'p>(proxies: impl IntoIterator<Item = &'p Proxy>, mode: Mode, ms: u64) {
    let proxies: Vec<&Proxy> = proxies.into_iter().collect();
    proxies.iter().for_each(|proxy| proxy.set(mode));
    sleep(after(ms)).await;
    proxies.iter().for_each(|proxy| proxy.set(Mode::Pass));
}

fn after(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A function's file with a digest of its own: a custom section changes nothing that runs.
fn variant(function: &str, name: &str) -> anyhow::Result<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("a workspace")?;
    let path: PathBuf = root.join(format!("target/functions/{function}.wasm"));
    let mut wasm = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let length = u8::try_from(name.len())?;
    wasm.extend([0, length + 1, length]);
    wasm.extend(name.as_bytes());
    Ok(wasm)
}
