//! What the suite runs: a private Postgres, the payment gateway, brokers, hosts, and a proxy in front of each server.

use super::brokers::Brokers;
use super::proxy::Proxy;
use crate::client::Client;
use crate::database::Database;
use crate::payment_gateway::PaymentGateway;
use crate::process::{self, Folder};
use crate::system::{Fnhost, Setup, free_port};
use anyhow::Context as _;
use fnhost_embedded::{Options, Servers, ServiceOptions};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::sync::Mutex;

/// Products with plenty of units, and of what there is little.
pub const PLENTY: [&str; 8] = ["P-0", "P-1", "P-2", "P-3", "P-4", "P-5", "P-6", "P-7"];
/// Sold out on the way, so that who gets the last one is decided under faults.
pub const SCARCE: [&str; 2] = ["S-0", "S-1"];
/// There is none.
pub const NONE: &str = "NONE";
/// Units of the first and of the second.
const PLENTY_UNITS: i64 = 10_000_000;
const SCARCE_UNITS: i64 = 25;
/// The secret that the passwords of the functions' roles follow from.
const ROLE_SECRET: &str = "the fault suite's own";
const GATEWAY: &str = "payment-gateway";

/// How a world is made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Hosts.
    pub hosts: usize,
    /// Brokers.
    pub brokers: usize,
    /// The program that hosts run.
    pub program: PathBuf,
    /// The guard that is taken away, of a program that was built for that.
    pub guard_off: Option<String>,
}

/// Everything that runs. Ends with this value.
pub struct World {
    /// The hosts. Whoever kills or stops one holds it until it runs again.
    pub hosts: Vec<Mutex<Fnhost>>,
    /// Where each host serves HTTP.
    pub clients: Vec<Client>,
    /// The admin address of each host.
    pub admins: Vec<Client>,
    /// The data directory of each host.
    data_dirs: Vec<PathBuf>,
    /// Between each host and Postgres.
    pub databases: Vec<Proxy>,
    /// The brokers.
    pub brokers: Brokers,
    /// The database, as its owner and past the proxies.
    pub db: Database,
    /// The payment gateway.
    pub gateway: PaymentGateway,
    /// Program of the hosts.
    pub program: PathBuf,
    // In front of the first host, for the payment gateway.
    _webhooks: Proxy,
    servers: Option<Servers>,
    // Dropped last.
    folder: Folder,
}

/// The payment gateway as a service of `data_dir`, with its webhooks sent to this port.
fn gateway(data_dir: &Path, webhook_port: u16) -> anyhow::Result<ServiceOptions> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("a workspace")?;
    let arguments = [
        "--listen",
        "{address}",
        "--journal",
        "{folder}/journal.jsonl",
        "--webhook-url",
        "http://{http}/payments/webhook",
        "--webhook-secret-file",
        "{secret_file}",
    ];
    Ok(ServiceOptions {
        name: GATEWAY.to_owned(),
        command: root.join("target/tools/payment-gateway"),
        arguments: arguments.map(str::to_owned).to_vec(),
        ready: "listens on".to_owned(),
        port: free_port()?,
        secret_file: Some(fnhost_embedded::secret_file(data_dir, "webhooks")?),
        http: format!("127.0.0.1:{webhook_port}"),
        url_variable: "payment_gateway_url".to_owned(),
    })
}

impl World {
    /// Starts everything, and waits until all hosts are ready.
    ///
    /// # Errors
    /// Something does not start; the error says what.
    pub async fn start(plan: &Plan) -> anyhow::Result<Self> {
        let folder = Folder::new()?;
        let data_dir = folder.path().join("data");
        let webhook_port = free_port()?;
        let gateway = gateway(&data_dir, webhook_port)?;
        let options = Options { kafka: false, services: vec![gateway], ..Options::new(&data_dir) };
        let (servers, brokers) = tokio::try_join!(
            async { Ok(fnhost_embedded::start(options).await?) },
            Brokers::start(plan.brokers, folder.path())
        )?;
        let url = servers.database_url.clone().context("a private database")?;
        let gateway = format!("http://{}", servers.services.get(GATEWAY).context("a payment gateway")?);
        let environment = [
            ("FNHOST_KAFKA", brokers.addresses()),
            ("FNHOST_ROLE_SECRET", ROLE_SECRET.to_owned()),
            ("SPIN_VARIABLE_PAYMENT_GATEWAY_URL", gateway.clone()),
            ("SPIN_VARIABLE_PAYMENT_WEBHOOK_SECRET", fnhost_embedded::secret(&data_dir, "webhooks")?),
        ];
        let environment: Vec<(String, String)> = environment
            .into_iter()
            .chain(plan.guard_off.clone().map(|guard| ("FNHOST_GUARD_OFF", guard)))
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let (mut hosts, mut databases) = (Vec::new(), Vec::new());
        for _ in 0..plan.hosts {
            let proxy = Proxy::start(free_port()?, port_of(&url)?).await?;
            let through = url.replace(&format!(":{}/", port_of(&url)?), &format!(":{}/", proxy.port()));
            let mut environment = environment.clone();
            environment.push(("FNHOST_DATABASE".to_owned(), through));
            let program = Some(plan.program.clone());
            hosts.push(Fnhost::new(Setup {
                manifest: Some(with_ledger),
                environment,
                program,
                ..Setup::default()
            })?);
            databases.push(proxy);
        }
        let clients = hosts.iter().map(Fnhost::client).collect::<anyhow::Result<Vec<_>>>()?;
        let admins = hosts.iter().map(Fnhost::admin).collect::<anyhow::Result<Vec<_>>>()?;
        let data_dirs = hosts.iter().map(Fnhost::data_dir).collect();
        let webhooks = Proxy::start(webhook_port, port_of(&format!("{}/", clients[0].address()))?).await?;
        // The first one makes the schemas and the topics.
        for host in &mut hosts {
            host.restart().await?;
        }
        let db = Database::connect(&url).await?;
        stock(&db).await?;
        Ok(Self {
            hosts: hosts.into_iter().map(Mutex::new).collect(),
            clients,
            admins,
            data_dirs,
            databases,
            brokers,
            db,
            gateway: PaymentGateway::at(&gateway)?,
            program: plan.program.clone(),
            _webhooks: webhooks,
            servers: Some(servers),
            folder,
        })
    }

    /// A folder for files of the suite.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a command at a host's admin address; answers what it printed.
    ///
    /// # Errors
    /// It failed; the error has what it said.
    pub async fn command(&self, host: usize, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(arguments).args(["--admin", self.admins[host].address()]).stdin(Stdio::null());
        command.arg("--data-dir").arg(&self.data_dirs[host]);
        let output = command.kill_on_drop(true).output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "fnhost {}: {said}", arguments.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Stops Postgres at once, as `pg_ctl stop -m immediate` does. It is started again by itself.
    ///
    /// # Errors
    /// It does not run.
    pub fn stop_postgres(&self) -> anyhow::Result<()> {
        let file = std::fs::read_to_string(self.folder().join("data/postgres/data/postmaster.pid"))?;
        let pid = file.lines().next().and_then(|pid| pid.trim().parse().ok()).and_then(Pid::from_raw);
        Ok(kill_process(pid.context("Postgres's process id")?, Signal::QUIT)?)
    }

    /// `kill -9` of the payment gateway, which is started again by itself.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill_payment_gateway(&self) -> anyhow::Result<()> {
        let journal = self.folder().join("data/services").join(GATEWAY).join("journal.jsonl");
        process::kill_server(&self.folder().join("data"), &journal.display().to_string())
    }

    /// Stops everything; the folders go, or are kept there with all logs.
    ///
    /// # Errors
    /// Something cannot be kept.
    pub async fn end(mut self, keep: Option<&Path>) -> anyhow::Result<()> {
        for host in &self.hosts {
            let _ = host.lock().await.kill();
        }
        if let Some(servers) = self.servers.take() {
            servers.stop().await;
        }
        if let Some(keep) = keep {
            for (number, host) in self.hosts.iter().enumerate() {
                host.lock().await.keep(&keep.join(format!("host-{number}")))?;
            }
            self.folder.keep(&keep.join("servers"))?;
        }
        Ok(())
    }
}

/// The port of `…:PORT/…`.
fn port_of(url: &str) -> anyhow::Result<u16> {
    let port = url.rsplit_once(':').and_then(|(_, rest)| rest.split('/').next()?.parse().ok());
    port.with_context(|| format!("{url} has a port"))
}

/// The manifest of the order system with the ledger as a further component.
fn with_ledger(manifest: String) -> String {
    let tests = env!("CARGO_MANIFEST_DIR");
    let root = Path::new(tests).parent().unwrap_or(Path::new("/")).display();
    let topics = "\"order-events\" = { partitions = 3 }";
    let variables = "[variables]\n";
    let manifest =
        manifest.replacen(topics, &format!("{topics}, \"ledger-events\" = {{ partitions = 3 }}"), 1);
    let variable = "ledger_database_url = { required = true, secret = true }\n";
    let manifest = manifest.replacen(variables, &format!("{variables}{variable}"), 1);
    let triggers = [("ledger", "\"order-events\", \"payment-events\""), ("receipts", "\"ledger-events\"")];
    let triggers = triggers.map(|(id, topics)| {
        format!(
            "[[component.ledger.tool.fnhost.kafka]]\nid = \"{id}\"\ngroup = \"{id}\"\ntopics = [{topics}]\n\
             emits = [\"ledger-events\"]\nstart = \"earliest\"\nmax_attempts = 100\nmax_back_off_s = 2\n"
        )
    });
    format!(
        "{manifest}\n[component.ledger]\nsource = \"{root}/target/functions/ledger.wasm\"\n\
         allowed_outbound_hosts = [\"postgres://{{{{ database_host }}}}\"]\n\
         [component.ledger.variables]\ndatabase_url = \"{{{{ ledger_database_url }}}}\"\n\
         [component.ledger.tool.fnhost.database]\nschema = \"ledger\"\nurl_variable = \"ledger_database_url\"\n\
         migrations = \"{tests}/ledger/migrations\"\n{}",
        triggers.concat()
    )
}

/// Products, and the note of their units that the oracle compares with.
async fn stock(db: &Database) -> anyhow::Result<()> {
    db.note_stock().await?;
    let plenty = PLENTY.map(|sku| (sku, PLENTY_UNITS));
    let scarce = SCARCE.map(|sku| (sku, SCARCE_UNITS));
    for (sku, units) in plenty.into_iter().chain(scarce).chain([(NONE, 0)]) {
        db.add_product(sku, units).await?;
    }
    Ok(())
}
