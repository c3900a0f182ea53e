//! `fnhost doctor`: what is missing or wrong, each with its cure.

mod database;

use super::{Application, Format, KafkaArgs, Unsatisfied};
use clap::Args;
use fnhost_engine::{ComponentSpec, Engine, EngineOptions};
use fnhost_kafka::access::Access;
use fnhost_kafka::cluster::Cluster;
use fnhost_manifest::{Manifest, Secret, VariableSources};
use fnhost_types::causes::chain;
use serde::Serialize;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

/// What functions are built for.
const WASM_TARGET: &str = "wasm32-wasip2";

/// Checks what `fnhost up` and a build need, and suggests fixes. Starts nothing and changes nothing.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fnhost doctor
  fnhost doctor --kafka broker:9092 --database postgres://owner:secret@db/orders --output json

Exit codes: 0 `fnhost up` has everything it needs, 3 a check failed.")]
pub struct DoctorArgs {
    #[command(flatten)]
    app: Application,
    /// HTTP address
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3000", env = "FNHOST_LISTEN")]
    listen: SocketAddr,
    /// Admin address
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3001", env = "FNHOST_ADMIN")]
    admin: SocketAddr,
    #[command(flatten)]
    kafka: KafkaArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    /// `fnhost up` works all the same.
    Warning,
    Failed,
}

/// What one check found.
#[derive(Serialize, Debug)]
struct Finding {
    check: &'static str,
    status: Status,
    found: String,
    /// What to do; with a message of an error, it is in that.
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, found: found.into(), cure: None }
    }

    fn warning(check: &'static str, found: impl Into<String>, cure: impl Into<Option<String>>) -> Self {
        Self { check, status: Status::Warning, found: found.into(), cure: cure.into() }
    }

    fn failed(check: &'static str, found: impl Into<String>, cure: impl Into<Option<String>>) -> Self {
        Self { check, status: Status::Failed, found: found.into(), cure: cure.into() }
    }
}

/// Checks and prints.
///
/// # Errors
/// [`Unsatisfied`] where a check failed.
pub async fn run(args: DoctorArgs) -> anyhow::Result<()> {
    let mut findings = vec![toolchain()];
    match &args.app.database {
        Some(url) => findings.extend(database::check(url, &args.app.manifest).await),
        None => findings.push(told("postgres", fnhost_embedded::find_postgres(&args.app.data_dir))),
    }
    findings.push(kafka(&args.kafka).await);
    findings.push(port("http address", args.listen, "--listen"));
    findings.push(port("admin address", args.admin, "--admin"));
    findings.extend(application(&args.app).await);
    match args.output {
        Format::Human => findings.iter().for_each(print_human),
        Format::Json => println!("{}", serde_json::to_string(&findings)?),
    }
    let failed = findings.iter().filter(|finding| finding.status == Status::Failed).count();
    if failed > 0 {
        return Err(Unsatisfied(format!("{failed} of {} checks failed", findings.len())).into());
    }
    Ok(())
}

fn print_human(finding: &Finding) {
    let Finding { check, status, found, cure } = finding;
    let status = match status {
        Status::Ok => "ok     ",
        Status::Warning => "warning",
        Status::Failed => "FAILED ",
    };
    println!("{status}  {check:<14} {}", found.replace('\n', "\n                        "));
    if let Some(cure) = cure {
        println!("                        cure: {cure}");
    }
}

/// A result whose error says what to do.
fn told<E: std::error::Error + 'static>(check: &'static str, result: Result<String, E>) -> Finding {
    match result {
        Ok(found) => Finding::ok(check, found),
        Err(error) => Finding::failed(check, chain(&error), None),
    }
}

/// Rust with the functions' target; only building needs it.
fn toolchain() -> Finding {
    let asked = Command::new("rustc").args(["--print", "sysroot"]).output();
    let sysroot = asked.ok().filter(|output| output.status.success());
    let sysroot = sysroot.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let (found, cure) = match sysroot {
        None => ("no Rust, which is needed to build functions", "install rustup (https://rustup.rs)"),
        Some(sysroot) if Path::new(&sysroot).join("lib/rustlib").join(WASM_TARGET).is_dir() => {
            return Finding::ok("toolchain", format!("Rust with {WASM_TARGET} in {sysroot}"));
        }
        Some(_) => ("Rust without the functions' target", "rustup target add wasm32-wasip2"),
    };
    Finding::warning("toolchain", found, cure.to_owned())
}

fn port(check: &'static str, address: SocketAddr, flag: &str) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(check, format!("{address} is free")),
        Err(error) => {
            let cure = format!("choose another address with {flag}, or stop what listens there");
            Finding::failed(check, format!("{address}: {error}"), cure)
        }
    }
}

async fn kafka(args: &KafkaArgs) -> Finding {
    const CHECK: &str = "kafka";
    let Some(brokers) = &args.addresses else {
        let found = fnhost_embedded::find_kafka();
        return told(
            CHECK,
            found.map(|(java, jars)| format!("{}, run by {}", jars.display(), java.display())),
        );
    };
    match args.properties() {
        Ok(properties) => {
            let connected = Cluster::connect(&Access::new(brokers, properties)).await;
            told(CHECK, connected.map(|_| format!("{brokers} answers")))
        }
        Err(error) => Finding::failed(CHECK, format!("{error:#}"), None),
    }
}

/// The manifest, its variables and its components.
async fn application(app: &Application) -> Vec<Finding> {
    let manifest = match Manifest::load(&app.manifest) {
        Ok(manifest) => manifest,
        Err(error) => return vec![Finding::failed("manifest", chain(&error), None)],
    };
    let mut findings = vec![Finding::ok("manifest", app.manifest.display().to_string())];
    let mut sources =
        match VariableSources::new(app.variables.iter().map(String::as_str), super::setup::environment()) {
            Ok(sources) => sources,
            Err(error) => return vec![Finding::failed("variables", chain(&error), None)],
        };
    // What the host fills in itself; nothing is connected to.
    let host = manifest.application.database_host_variable.iter();
    let urls = manifest.components.values().filter_map(|c| c.database.as_ref()).map(|d| &d.url_variable);
    for name in host.chain(urls) {
        sources.host.insert(name.clone(), Secret::new("127.0.0.1:5432"));
    }
    if app.database.is_none() {
        for service in &manifest.application.services {
            let address = Secret::new(format!("http://127.0.0.1:{}", service.port));
            sources.host.insert(service.url_variable.clone(), address);
            sources.host.extend(service.secret_variable.clone().map(|name| (name, Secret::new(""))));
        }
    }
    let values = match manifest.resolve(&sources) {
        Ok(values) => values,
        Err(error) => {
            findings.push(Finding::failed("variables", chain(&error), None));
            return findings;
        }
    };
    findings.push(Finding::ok("variables", format!("{} have values", manifest.variables.len())));
    let specs = ComponentSpec::all(&manifest, &values);
    let cache_dir = app.data_dir.is_dir().then(|| app.data_dir.join("cache"));
    // Without a data directory the images of this check are not kept, nor are files copied.
    let copies = cache_dir.is_some();
    let loaded = tokio::task::spawn_blocking(move || {
        let engine = Engine::new(EngineOptions { cache_dir, ..EngineOptions::default() })?;
        let load = |mut spec: ComponentSpec| {
            if !copies {
                spec.files.mounts.clear();
            }
            engine.load(&spec).map(|component| format!("{} {}", component.id(), component.digest()))
        };
        Ok::<_, fnhost_engine::LoadError>(specs.into_iter().map(load).collect::<Vec<_>>())
    });
    match loaded.await {
        Ok(Ok(components)) => findings.extend(components.into_iter().map(|found| told("component", found))),
        Ok(Err(error)) => findings.push(Finding::failed("component", chain(&error), None)),
        Err(error) => findings.push(Finding::failed("component", error.to_string(), None)),
    }
    findings
}
