//! `fnhost up --watch`: a changed source is built and brought in while requests run, and a build that fails changes nothing.

use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tests::outcome::Outcome;
use tests::system::{Fnhost, READY_DEADLINE, Setup};
use tests::wait::{Look, until};

/// The source of the built component: its build puts the text into a custom section at the component's end.
const SOURCE: &str = "page.txt";
/// A build of a moment: as a compiler does, it fails on some sources and leaves the former output then.
const BUILD: &str = r#"#!/bin/sh
set -e
if grep -q broken page.txt; then echo "page.txt: broken" >&2; exit 1; fi
{ cat base.wasm; printf '\000\005\004'; printf %.4s "$(cat page.txt)"; } > page.part
mv page.part page.wasm
"#;

/// The manifest with the pages' component built in the manifest's folder.
fn manifest(text: String) -> String {
    let lines = text.lines().map(|line| match line {
        line if line.starts_with("source = ") && line.ends_with("/web.wasm\"") => {
            "source = \"page.wasm\"".to_owned()
        }
        "command = \"./dev build web\"" => format!("command = \"./build.sh\"\nwatch = [\"{SOURCE}\"]"),
        line => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

async fn digest(fnhost: &Fnhost) -> anyhow::Result<String> {
    let list: Value = fnhost.admin()?.get("/components").await?.json(http::StatusCode::OK)?;
    let web = list.as_array().into_iter().flatten().find(|component| component["id"] == "web");
    Ok(web.and_then(|component| component["digest"].as_str()).unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_source_is_built_and_runs_and_a_build_that_fails_changes_nothing() -> Outcome {
    let arguments = ["--watch", "--only", "http"].map(str::to_owned).to_vec();
    let mut fnhost = Fnhost::new(Setup { manifest: Some(manifest), arguments, ..Setup::default() })?;
    let folder = fnhost.manifest_path().parent().unwrap_or(Path::new(".")).to_owned();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes);
    let web = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/functions/web.wasm"))?;
    for name in ["base.wasm", "page.wasm"] {
        write(name, &web)?;
    }
    write(SOURCE, b"none")?;
    write("build.sh", BUILD.as_bytes())?;
    std::fs::set_permissions(folder.join("build.sh"), std::fs::Permissions::from_mode(0o755))?;
    fnhost.restart().await?;
    let first = digest(&fnhost).await?;

    let (client, stop) = (fnhost.client()?, Arc::new(AtomicBool::new(false)));
    let (answered, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let traffic = tokio::spawn({
        let (stop, answered, failed) = (stop.clone(), answered.clone(), failed.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                let ok = client.get("/").await.is_ok_and(|answer| answer.status == http::StatusCode::OK);
                if ok { &answered } else { &failed }.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    write(SOURCE, b"two!")?;
    let second = until("the built version to run", READY_DEADLINE, async || {
        let now = digest(&fnhost).await?;
        Ok(if now == first { Look::NotYet(fnhost.log()) } else { Look::Found(now) })
    })
    .await?;
    let built = std::fs::read(folder.join("page.wasm"))?;
    assert!(built.ends_with(b"two!") && built.len() == web.len() + 7, "the build's output is what runs");

    write(SOURCE, b"broken")?;
    until("the failed build to be told", READY_DEADLINE, async || {
        let log = fnhost.log();
        let told = log.contains("the build failed; the current version keeps running")
            && log.contains("page.txt: broken");
        Ok(Look::from_bool(told, log))
    })
    .await?;
    // Traffic goes on after it, on the version before.
    let so_far = answered.load(Ordering::Relaxed);
    until("further answers", READY_DEADLINE, async || {
        let now = answered.load(Ordering::Relaxed);
        Ok(Look::from_bool(now > so_far + 10, format!("{now} answers, {so_far} before")))
    })
    .await?;
    assert_eq!(digest(&fnhost).await?, second);
    stop.store(true, Ordering::Relaxed);
    traffic.await?;
    assert_eq!(failed.load(Ordering::Relaxed), 0, "requests failed");
    assert!(fnhost.interrupt().await?.success());
    Ok(())
}
