//! The real Prometheus, where it is installed: Debian's package, or any other on PATH.

use crate::client::Client;
use crate::process::{self, Folder};
use crate::wait::{Look, until};
use anyhow::Context as _;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Time until it answers, and until it has scraped.
const DEADLINE: Duration = Duration::from_secs(30);

/// The programs of an installed Prometheus.
#[derive(Debug)]
pub struct Installed {
    prometheus: PathBuf,
    promtool: PathBuf,
}

/// A running Prometheus that scrapes one fnhost every second. Ends with this value.
#[derive(Debug)]
pub struct Prometheus {
    client: Client,
    child: Child,
    // Dropped last.
    _folder: Folder,
}

/// An alert, as it has loaded it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Name of the alert.
    pub name: String,
    /// `ok` where its query could be run.
    pub health: String,
    /// Why the query could not run, if it could not.
    pub last_error: Option<String>,
    /// `inactive`, `pending` or `firing`.
    pub state: String,
}

impl Prometheus {
    /// Looks for the programs.
    #[must_use]
    pub fn installed() -> Option<Installed> {
        let find = |name: &str| {
            let path = std::env::var_os("PATH")?;
            std::env::split_paths(&path).map(|folder| folder.join(name)).find(|found| found.is_file())
        };
        Some(Installed { prometheus: find("prometheus")?, promtool: find("promtool")? })
    }

    /// Waits until it has scraped so many times, so that rates have something to begin from.
    ///
    /// # Errors
    /// It does not scrape, or the scrape fails.
    pub async fn wait_scrapes(&self, times: u32) -> anyhow::Result<()> {
        until("scrapes", DEADLINE, async || {
            let query = format!("count_over_time(up{{job=\"fnhost\"}}[1m]) >= {times} and up == 1");
            let done = self.query(&query).await?;
            Ok(Look::from_bool(!done.is_empty(), format!("{:?}", self.query("up").await?)))
        })
        .await
    }

    /// The results of a query at this moment.
    ///
    /// # Errors
    /// It refuses the query.
    pub async fn query(&self, query: &str) -> anyhow::Result<Vec<Value>> {
        let url: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.client.get(&format!("/api/v1/query?query={url}")).await?;
        anyhow::ensure!(answer.status == StatusCode::OK, "{query}: {answer}");
        let answer: Value = answer.json(StatusCode::OK)?;
        Ok(answer["data"]["result"].as_array().context("results")?.clone())
    }

    /// The alerts that it has loaded, each evaluated at least once.
    ///
    /// # Errors
    /// It does not evaluate them.
    pub async fn rules(&self) -> anyhow::Result<Vec<Rule>> {
        until("the alerts to be evaluated", DEADLINE, async || {
            let answer: Value = self.client.get("/api/v1/rules").await?.json(StatusCode::OK)?;
            let groups = answer["data"]["groups"].as_array().context("groups")?;
            let rules = groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten());
            let rules: Vec<Rule> =
                rules.map(|rule| serde_json::from_value(rule.clone())).collect::<Result<_, _>>()?;
            let waits = rules.iter().any(|rule| rule.health == "unknown");
            Ok(if waits { Look::NotYet(format!("{rules:?}")) } else { Look::Found(rules) })
        })
        .await
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = process::kill(&mut self.child);
    }
}

impl Installed {
    /// Runs `promtool` with these arguments on a file.
    ///
    /// # Errors
    /// It finds fault; the error is what it said.
    pub fn check(&self, arguments: &[&str], file: &Path) -> anyhow::Result<()> {
        let output = Command::new(&self.promtool).args(arguments).arg(file).output()?;
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
        anyhow::ensure!(
            output.status.success(),
            "promtool {} {}: {}",
            arguments.join(" "),
            file.display(),
            said.join("\n")
        );
        Ok(())
    }

    /// Starts one that scrapes `target` as the job `fnhost` and evaluates `rules`, every second.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn start(&self, target: &str, rules: &Path) -> anyhow::Result<Prometheus> {
        let folder = Folder::new()?;
        let config = serde_json::json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [rules.canonicalize()?],
            "scrape_configs": [{ "job_name": "fnhost", "static_configs": [{ "targets": [target] }] }],
        });
        // JSON is YAML.
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config.to_string())?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        let address = free_address()?;
        let child = process::spawn(&self.prometheus, |command| {
            command.arg(format!("--config.file={}", file.display()));
            command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
            command.arg(format!("--web.listen-address={address}"));
            command.stdin(Stdio::null()).stderr(log);
        })?;
        let prometheus = Prometheus { client: Client::new(&address)?, child, _folder: folder };
        until("Prometheus", DEADLINE, async || match prometheus.client.get("/-/ready").await {
            Ok(answer) => Ok(Look::from_bool(answer.status == StatusCode::OK, answer.to_string())),
            Err(error) => Ok(Look::NotYet(format!("{error:#}"))),
        })
        .await?;
        Ok(prometheus)
    }
}

/// An address of this machine that nobody listens on.
fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
