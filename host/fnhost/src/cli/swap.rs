//! `fnhost swap`, `fnhost rollback` and `fnhost versions`.

use super::remote::Remote;
use super::{Format, VARIABLE, progress};
use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use fnhost_db::hosts::VersionView;
use fnhost_deployment::signed::EXTENSION;
use fnhost_engine::{digest_of, short_digest};
use fnhost_manifest::given;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Deploys a new version of a component on all hosts, without downtime. Without --canary it gets all batches and requests at
/// once. It is rolled back if it fails too often in its first minute.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fnhost swap order target/functions/order.wasm
  fnhost swap order target/functions/order.wasm --canary 10% --for 300
  fnhost swap order https://example.com/order.wasm --sha256 5f70bf18a08660…
  fnhost swap order --sha256 5f70bf18a08660…            # an earlier version, see: fnhost versions order
  fnhost swap order order.wasm --variable gateway_url=https://pay.example.com")]
pub struct SwapArgs {
    #[command(flatten)]
    remote: Remote,
    /// Component id
    component: String,
    /// WebAssembly file, or a URL that the host downloads; without it --sha256 names an earlier version
    #[arg(value_name = "FILE|URL", required_unless_present = "sha256")]
    source: Option<String>,
    /// SHA-256 that the code must have
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// Signature of the code, made with minisign -S; without it FILE.minisig where that is there
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// Share of the batches and requests that the new version gets at first, for example 10%
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    canary: Option<u32>,
    /// Seconds until the canary gets all of them
    #[arg(long = "for", value_name = "SECONDS", requires = "canary")]
    canary_s: Option<u64>,
    /// A variable's value from this version on, or a file of values; stored with the version; may be repeated
    #[arg(long = "variable", value_name = VARIABLE)]
    variables: Vec<String>,
    /// Drop the variable values of earlier swaps
    #[arg(long)]
    clear_variables: bool,
    /// Output format; json is the answer of the admin address
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Rolls back to the previous version, or drops the canary. Records that failed are tried again.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  fnhost rollback order")]
pub struct RollbackArgs {
    #[command(flatten)]
    remote: Remote,
    /// Component id
    component: String,
    /// Output format; json is the answer of the admin address
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Lists the stored versions of a component.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fnhost versions order
  fnhost versions order --output json")]
pub struct VersionsArgs {
    #[command(flatten)]
    remote: Remote,
    /// Output format; json is the answer of the admin address
    #[arg(long, value_enum, default_value_t)]
    output: Format,
    /// Component id
    component: String,
}

#[derive(Deserialize)]
struct Changed {
    component: String,
    version: i64,
    digest: String,
    behind: Vec<String>,
}

fn percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse();
    number.ok().filter(|percent| (1..=99).contains(percent)).ok_or("give 1% to 99%".to_owned())
}

/// Brings a version in and says when it runs.
pub async fn run(args: SwapArgs) -> anyhow::Result<()> {
    let mut offer = json!({
        "canary_percent": args.canary, "canary_s": args.canary_s, "clear_variables": args.clear_variables,
        "variables": variables(&args.variables)?, "sha256": args.sha256,
    });
    match &args.source {
        Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
            anyhow::ensure!(
                args.sha256.is_some(),
                "pass --sha256 with a URL, so that whoever controls the URL cannot change what runs"
            );
            offer["url"] = json!(url);
        }
        Some(path) => {
            let wasm = std::fs::read(path).with_context(|| format!("cannot read {path}"))?;
            offer["sha256"] = json!(args.sha256.unwrap_or_else(|| digest_of(&wasm)));
            offer["origin"] = json!(path);
            offer["wasm"] = json!(BASE64_STANDARD.encode(wasm));
        }
        None => {}
    }
    let signature = args.signature.clone().or_else(|| {
        let beside = PathBuf::from(format!("{}.{EXTENSION}", args.source.as_deref()?));
        beside.is_file().then_some(beside)
    });
    if let Some(file) = signature {
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        offer["signature"] = json!(text);
    }
    let path = format!("/components/{}/versions", args.component);
    // The host answers when every host of the deployment has compiled and loaded it, or was given up.
    let waiting = format!("{}: waiting until every host has loaded it", args.component);
    let how = match args.canary {
        Some(percent) => format!("runs for {percent}%"),
        None => "runs".to_owned(),
    };
    let answer: Value = progress::live(&waiting, args.remote.post(&path, &offer)).await?;
    say(args.output, answer, |changed| {
        format!("version {} ({}) {how}", changed.version, short_digest(&changed.digest))
    })
}

/// Goes back and says to what.
pub async fn roll_back(args: RollbackArgs) -> anyhow::Result<()> {
    let path = format!("/components/{}/rollback", args.component);
    let waiting = format!("{}: waiting until every host has rolled back", args.component);
    let answer: Value = progress::live(&waiting, args.remote.post(&path, &Value::Null)).await?;
    say(args.output, answer, |changed| {
        format!("version {} was rolled back, {} runs", changed.version, short_digest(&changed.digest))
    })
}

/// Prints the versions.
pub async fn versions(args: VersionsArgs) -> anyhow::Result<()> {
    let path = format!("/components/{}/versions", args.component);
    let answer: Value = args.remote.get(&path).await?;
    if args.output == Format::Json {
        println!("{answer}");
        return Ok(());
    }
    let versions: Vec<VersionView> = serde_json::from_value(answer)?;
    println!(
        "{:>7}  {:64}  {:24}  {:11}  {:>9}  {:>7}  ORIGIN",
        "VERSION", "DIGEST", "SINCE", "STATE", "HANDLED", "ERRORS"
    );
    for v in versions {
        let trial = if v.on_trial { "*" } else { "" };
        let mut origin = v.origin;
        if !v.variables.is_empty() {
            origin += &format!(" with {}", v.variables.join(", "));
        }
        if let Some(reason) = v.reason {
            origin += &format!(": {reason}");
        }
        let state = format!("{}{trial}", v.state);
        println!(
            "{:>7}  {:64}  {:24}  {state:11}  {:>9}  {:>7}  {origin}",
            v.version, v.digest, v.since, v.handled, v.errors
        );
    }
    Ok(())
}

fn variables(given: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    for argument in given {
        let given = given::variables(argument).map_err(anyhow::Error::msg)?;
        values.extend(given.into_iter().map(|(name, value)| (name, value.expose().to_owned())));
    }
    Ok(values)
}

/// Prints what changed, and who does not follow.
fn say(output: Format, answer: Value, what: impl Fn(&Changed) -> String) -> anyhow::Result<()> {
    if output == Format::Json {
        println!("{answer}");
        return Ok(());
    }
    let changed: Changed = serde_json::from_value(answer)?;
    println!("{}: {}", changed.component, what(&changed));
    if !changed.behind.is_empty() {
        eprintln!("these hosts do not run it yet; see their logs: {}", changed.behind.join(", "));
    }
    Ok(())
}
