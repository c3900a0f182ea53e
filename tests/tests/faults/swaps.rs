//! Functions that are swapped while orders run: no order is lost or doubled, no request fails, and nobody is told.

use super::{Story, alone};
use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tests::load::Load;
use tests::outcome::Outcome;
use tests::system::{Fnhost, Setup};

const FUNCTIONS: [&str; 6] = ["auth", "forecast", "inventory", "notify", "order", "payment"];
/// Swaps of each function.
const ROUNDS: usize = 20;
/// Orders that run meanwhile.
const ORDERS: usize = 2_000;

/// What a swap answers, and what the components' list says.
#[derive(Deserialize)]
struct Component {
    #[serde(alias = "component")]
    id: String,
    version: i64,
    digest: String,
}

/// A function's file with a digest of its own: a custom section changes nothing that runs.
fn variant(function: &str, name: &str) -> anyhow::Result<Bytes> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join(format!("target/functions/{function}.wasm"));
    let mut wasm = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let length = u8::try_from(name.len())?;
    wasm.extend([0, length + 1, length]);
    wasm.extend(name.as_bytes());
    Ok(wasm.into())
}

async fn swap(fnhost: &Fnhost, function: &str, wasm: Bytes) -> anyhow::Result<Component> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/components/{function}/versions"))
        .header(header::CONTENT_TYPE, "application/wasm")
        .body(Full::new(wasm))?;
    fnhost.admin()?.send(request).await?.json(StatusCode::CREATED)
}

async fn running(fnhost: &Fnhost, function: &str) -> anyhow::Result<Component> {
    let list: Vec<Component> = fnhost.admin()?.get("/components").await?.json(StatusCode::OK)?;
    list.into_iter().find(|component| component.id == function).context("it runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_function_is_swapped_twenty_times_while_orders_run() -> Outcome {
    let _alone = alone().await;
    let mut fnhost = Fnhost::start(Setup::default()).await?;
    let variants = FUNCTIONS.map(|function| (function, ["even", "odd"].map(|name| variant(function, name))));
    // Each is compiled once; the images are kept from run to run.
    for (function, variants) in &variants {
        for wasm in variants.iter().flatten() {
            swap(&fnhost, function, wasm.clone()).await?;
        }
    }
    let story = Story::begin("20 swaps of every function");
    let mut load = Load::start(&fnhost.client()?, ORDERS, story.seed).await?;
    let failures = load.failures();
    let mut slowest = Duration::ZERO;
    for round in 0..ROUNDS {
        load.wait_accepted(ORDERS * (round + 1) / (ROUNDS + 2)).await?;
        for (function, variants) in &variants {
            let wasm = variants[round % 2].as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            let began = Instant::now();
            swap(&fnhost, function, wasm.clone()).await?;
            slowest = slowest.max(began.elapsed());
        }
    }
    story.say(&format!("swapped; the slowest answer took {slowest:?}"));
    story.end(&fnhost, load, ORDERS).await?;
    assert_eq!(failures.load(Ordering::Relaxed), 0, "requests failed");
    let db = fnhost.database().await?;
    let withdrawn = db.count("SELECT count(*) FROM fnhost.version WHERE withdrawn_at IS NOT NULL").await?;
    assert_eq!(withdrawn, 0, "as good as the one before, and so none was rolled back");
    let kept = db
        .count("SELECT max(n) FROM (SELECT count(*) AS n FROM fnhost.version GROUP BY component) v")
        .await?;
    assert!(kept <= 22, "{kept} versions of a component are kept");

    // What runs outlives the host, and another host runs the same.
    let before = running(&fnhost, "order").await?;
    assert!(fnhost.interrupt().await?.success());
    fnhost.restart().await?;
    let after = running(&fnhost, "order").await?;
    assert_eq!((after.version, &after.digest), (before.version, &before.digest));
    let other = fnhost.join().await?;
    assert_eq!(running(&other, "order").await?.digest, before.digest);
    commands(&fnhost, &other, &before.digest).await?;
    Ok(())
}

/// The commands, each asked at one host and seen at the other.
async fn commands(one: &Fnhost, other: &Fnhost, digest: &str) -> anyhow::Result<()> {
    let hosts = other.run(&["ps"]).await?;
    assert_eq!(hosts.matches(" up ").count(), 2, "{hosts}");
    assert!(hosts.contains("owns") && hosts.contains(&digest[..12]), "{hosts}");
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let file = root.join("target/functions/order.wasm").display().to_string();
    let said = one.run(&["swap", "order", &file, "--variable", "greeting=hello"]).await?;
    assert!(said.starts_with("order: version ") && said.trim_end().ends_with("runs"), "{said}");
    let listed = other.run(&["versions", "order"]).await?;
    assert!(listed.contains("running*") && listed.contains("order.wasm with greeting"), "{listed}");
    let said = other.run(&["rollback", "order", "--output", "json"]).await?;
    let changed: serde_json::Value = serde_json::from_str(&said)?;
    assert!(
        changed["component"] == "order" && changed["behind"].as_array().is_some_and(Vec::is_empty),
        "{said}"
    );
    let refused = one.run(&["swap", "order", "/dev/null"]).await.expect_err("refused").to_string();
    assert!(refused.contains("not a WebAssembly file"), "{refused}");
    let refused = one.run(&["swap", "nobody", &file]).await.expect_err("refused").to_string();
    assert!(refused.contains("the deployment has auth, forecast, inventory"), "{refused}");
    // What a page in a browser could send.
    let plain = Request::post("/components/order/rollback").body(Full::new(Bytes::new()))?;
    assert_eq!(one.admin()?.send(plain).await?.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    Ok(())
}
