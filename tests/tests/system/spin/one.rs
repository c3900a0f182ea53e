//! One `spin up` for everything: the order system's HTTP in Spin, its topics in fnhost, which `./dev spin-plugin` packed and
//! `spin plugins install` installed.

use super::spin;
use anyhow::Context as _;
use http::StatusCode;
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::client::Client;
use tests::customer::{Customer, NewOrder, Status};
use tests::outcome::Outcome;
use tests::system::{Companion, Fnhost, READY_DEADLINE, STOP_DEADLINE, Setup, program};
use tests::wait::{Look, until};

/// As `docs/operations.md` has it.
const SCRIPT: &str = r#"
"$FNHOST" migrate --variable "@$VARIABLES" && eval "$("$FNHOST" env)" &&
exec "$SPIN" up --from "$FNHOST_MANIFEST" --listen "$LISTEN" --variable "@$VARIABLES""#;

/// What begins a table of what consumes or sends.
const TRIGGERS: [&str; 2] = ["tool.fnhost.kafka]]", "tool.fnhost.schedule]]"];

/// The order system with its subscriptions where Spin's plugins are addressed.
fn for_spin(mut text: String) -> String {
    for component in ["order", "inventory", "payment", "notify", "forecast"] {
        let table = format!("[[component.{component}.tool.fnhost.kafka]]");
        assert!(text.contains(&table), "spin.toml has no longer {table}");
        text = text.replace(&table, &format!("[[trigger.kafka]]\ncomponent = \"{component}\""));
    }
    text
}

/// The order system without anything that touches a topic: it is run for its servers.
fn without_triggers(text: String) -> String {
    let keeps = |table: &&str| !TRIGGERS.iter().any(|end| table.lines().any(|line| line.ends_with(end)));
    let tables: Vec<&str> = text.split("\n\n").filter(keeps).collect();
    let sends = |line: &&str| line.starts_with("events =") || line.starts_with("event_topics =");
    tables.join("\n\n").lines().filter(|line| !sends(line)).map(|line| format!("{line}\n")).collect()
}

/// Runs a command to its end; answers what it printed.
fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{command:?}: {}\n{told}", output.status);
    Ok(told.into_owned())
}

/// Packs the plugin and installs it in a Spin that has no other.
fn install(spin: &Path, spin_data: &Path) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    run(Command::new(root.join("dev")).arg("spin-plugin").current_dir(&root))?;
    let manifest = root.join("target/spin-plugin/trigger-kafka.json");
    let spin = || {
        let mut command = Command::new(spin);
        command.env("SPIN_DATA_DIR", spin_data);
        command
    };
    run(spin().args(["plugins", "install", "--yes", "--file"]).arg(manifest))?;
    let installed = run(spin().args(["plugins", "list", "--installed"]))?;
    anyhow::ensure!(installed.contains("trigger-kafka"), "{installed}");
    let help = run(spin().args(["trigger-kafka", "--help"]))?;
    anyhow::ensure!(help.contains("Kafka Trigger Options:") && help.contains("--kafka"), "{help}");
    Ok(())
}

/// A `spin up` with all that it started. Ends with this value.
struct SpinUp {
    companion: Companion,
    client: Client,
}

impl SpinUp {
    /// Runs it until both sides serve.
    async fn start(place: &Fnhost, environment: &[(String, String)]) -> anyhow::Result<Self> {
        let log = place.data_dir().with_file_name("spin.log");
        let companion = Companion::run(SCRIPT, environment.iter().cloned(), &log)?;
        let mut up = Self { companion, client: place.client()? };
        let admin = place.admin()?;
        for (client, path) in [(&admin, "/readyz"), (&up.client, "/products")] {
            until("spin and fnhost to serve", READY_DEADLINE, async || {
                up.companion.check_runs()?;
                Ok(match client.get(path).await {
                    Ok(answer) => Look::from_bool(answer.status == StatusCode::OK, answer.to_string()),
                    Err(error) => Look::NotYet(format!("{error:#}")),
                })
            })
            .await?;
        }
        Ok(up)
    }

    /// Spin's process, which the script became, and with it the group.
    fn pid(&self) -> anyhow::Result<Pid> {
        Pid::from_raw(self.companion.id().try_into()?).context("a process id")
    }

    /// The one process of the group whose command line has this argument, or this end of its program's name.
    fn find(&self, argument: &str) -> anyhow::Result<Pid> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Some(pid) =
                entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw)
            else {
                continue;
            };
            let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            let fits = line.split('\0').any(|word| word == argument)
                || line.split('\0').next().is_some_and(|program| program.ends_with(&format!("/{argument}")));
            if fits
                && rustix::process::getpgid(Some(pid)).is_ok_and(|group| self.pid().is_ok_and(|p| p == group))
            {
                found.push(pid);
            }
        }
        let [pid] = found[..] else { anyhow::bail!("{found:?} have {argument}") };
        Ok(pid)
    }

    /// Waits until Spin and everything that it started has ended, after `end` was done to it; answers whether Spin
    /// called it a success, and what was logged since the start.
    async fn end(mut self, end: impl FnOnce(&Self) -> anyhow::Result<()>) -> anyhow::Result<(bool, String)> {
        let group = self.pid()?;
        end(&self)?;
        let status = self.companion.wait_end().await?;
        until("the end of what Spin started", STOP_DEADLINE, async || {
            let left = test_kill_process_group(group).is_ok();
            Ok(Look::from_bool(!left, "something is left"))
        })
        .await
        .with_context(|| self.companion.log())?;
        assert!(self.client.get("/products").await.is_err(), "HTTP is still served");
        Ok((status.success(), self.companion.log()))
    }
}

/// The addresses of the servers, and everything that `SCRIPT` names. What payment needs is in a file for `--variable`.
fn environment(spin: &Path, servers: &Fnhost, place: &Fnhost) -> anyhow::Result<Vec<(String, String)>> {
    const PREFIX: &str = "SPIN_VARIABLE_PAYMENT_";
    let beside = |name: &str| place.data_dir().with_file_name(name);
    let (payment, mut all): (Vec<_>, Vec<_>) =
        servers.setup_of_joining()?.environment.into_iter().partition(|(name, _)| name.starts_with(PREFIX));
    let variables = payment.into_iter().map(|(name, value)| {
        (name.trim_start_matches("SPIN_VARIABLE_").to_ascii_lowercase(), serde_json::Value::String(value))
    });
    let variables: serde_json::Map<_, _> = variables.collect();
    std::fs::write(beside("variables.json"), serde_json::Value::Object(variables).to_string())?;
    let text = |path: PathBuf| path.display().to_string();
    all.extend([
        ("FNHOST".to_owned(), text(program()?)),
        ("FNHOST_MANIFEST".to_owned(), text(place.manifest_path())),
        ("FNHOST_DATA_DIR".to_owned(), text(place.data_dir())),
        ("FNHOST_ADMIN".to_owned(), place.admin()?.address().to_owned()),
        ("LISTEN".to_owned(), place.client()?.address().to_owned()),
        ("SPIN".to_owned(), text(spin.to_owned())),
        ("SPIN_DATA_DIR".to_owned(), text(beside("spin"))),
        ("VARIABLES".to_owned(), text(beside("variables.json"))),
    ]);
    Ok(all)
}

#[tokio::test]
async fn one_spin_up_serves_http_and_topics_and_ends_both() -> Outcome {
    let Some(spin) = spin() else { return Ok(()) };
    let servers = Fnhost::start(Setup { manifest: Some(without_triggers), ..Setup::default() }).await?;
    let place = Fnhost::new(Setup { manifest: Some(for_spin), ..Setup::default() })?;
    install(&spin, &place.data_dir().with_file_name("spin"))?;
    let environment = environment(&spin, &servers, &place)?;

    let up = SpinUp::start(&place, &environment).await?;
    let ada = Customer::register(&up.client).await?;
    let order = ada.order_to_end(&NewOrder::of(&[("COFFEE-1KG", 1)])).await?;
    assert_eq!(order.status, Status::Confirmed);
    ada.wait_notifications(order.order_id, &["CONFIRMED"]).await?;
    // Ctrl-C: the terminal signals the group, and Spin its triggers.
    let (success, log) = up.end(|up| Ok(kill_process_group(up.pid()?, Signal::INT)?)).await?;
    assert!(success && log.contains("drained") && !log.contains("stopped without draining"), "{log}");

    // Spin says nothing to the others when one ends without a failure.
    let up = SpinUp::start(&place, &environment).await?;
    let before = up.companion.log().len();
    let (success, log) = up.end(|up| Ok(kill_process(up.find("http")?, Signal::TERM)?)).await?;
    assert!(success && log[before..].contains("drained"), "{log}");

    // And the other way round: what fnhost dies of ends Spin.
    let up = SpinUp::start(&place, &environment).await?;
    let (success, log) =
        up.end(|up| Ok(kill_process(up.find("trigger-kafka/trigger-kafka")?, Signal::KILL)?)).await?;
    assert!(!success, "{log}");
    Ok(())
}
