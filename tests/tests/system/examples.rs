//! The examples as they run: the real fnhost with their manifests.

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use std::path::Path;
use tests::kafka::read_all;
use tests::outcome::Outcome;
use tests::system::{Fnhost, READY_DEADLINE, Setup, program};
use tests::wait::{Look, until};

/// An example's manifest for any place.
fn manifest(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned();
    let folder = root.join("examples").join(name);
    let text = std::fs::read_to_string(folder.join("spin.toml")).expect("the example's manifest");
    let text = text.replace("\"../../target", &format!("\"{}/target", root.display()));
    // By convention they lie beside the manifest, and this one is written elsewhere.
    let migrations = format!("migrations = \"{}/migrations\"", folder.display());
    let text = text.replace("database = {}", &format!("database = {{ {migrations} }}"));
    let text = text.replace("tool.fnhost.database]\n", &format!("tool.fnhost.database]\n{migrations}\n"));
    assert!(text.contains(&migrations), "{name}: {text}");
    text
}

#[tokio::test]
async fn a_webhook_is_in_the_topic_once() -> Outcome {
    let setup = Setup { manifest: Some(|_| manifest("webhook")), ..Setup::default() };
    let mut fnhost = Fnhost::new(setup)?;
    fnhost.restart().await?;
    let client = fnhost.client()?;
    for (id, repeated) in [("1", false), ("1", true), ("2", false)] {
        let request = Request::post("/hooks/shop")
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .body(Full::new(Bytes::from(format!("{{\"n\":{id}}}"))))
            .map_err(anyhow::Error::from)?;
        let answer: serde_json::Value = client.send(request).await?.json(StatusCode::ACCEPTED)?;
        assert_eq!(answer["repeated"], repeated);
    }
    let kafka = fnhost.kafka()?;
    let arrived = until("both hooks", READY_DEADLINE, async || {
        let kafka = kafka.clone();
        let arrived = tokio::task::spawn_blocking(move || read_all(&kafka, "hooks")).await??;
        Ok(Look::from_option((arrived.len() >= 2).then_some(arrived), "not yet there"))
    });
    let arrived = arrived.await?;
    let told: Vec<_> = arrived
        .iter()
        .map(|record| {
            let text = |bytes: &Option<Vec<u8>>| {
                String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned()
            };
            (text(&record.key), text(&record.value), record.headers["webhook-id"].clone())
        })
        .collect();
    let of = |id: &str| ("shop".to_owned(), format!("{{\"n\":{id}}}"), id.to_owned());
    assert_eq!(told, [of("1"), of("2")], "one key, one partition, one order");
    assert!(fnhost.interrupt().await?.success());
    Ok(())
}

#[test]
fn records_of_a_file_are_handled_without_a_broker() -> Outcome {
    let folder = std::env::temp_dir().join(format!("fnhost-test-command-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(anyhow::Error::from)?;
    std::fs::write(folder.join("spin.toml"), manifest("word-count")).map_err(anyhow::Error::from)?;
    let run = |records: &str| {
        std::fs::write(folder.join("records.jsonl"), records)?;
        let mut command = std::process::Command::new(program()?);
        command
            .args(["test", "records.jsonl", "--output", "json", "--data-dir", "data"])
            .current_dir(&folder);
        let output = command.env_remove("FNHOST_DATABASE").output()?;
        let told: serde_json::Value = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        let word = |told: &serde_json::Value| told["outcome"].as_str().unwrap_or_default().to_owned();
        let words: Vec<String> = told.as_array().context("a list")?.iter().map(word).collect();
        anyhow::Ok((output.status.code(), words.join(" ")))
    };
    let good = "{\"topic\":\"sentences\",\"key\":\"a\",\"value\":\"the dog\"}\n";
    let tombstone = "{\"topic\":\"sentences\",\"key\":\"b\"}\n";
    let outcomes = [run(good), run(&format!("{good}{tombstone}{good}"))];
    // The private Postgres may be kept elsewhere, where its account can reach it; a link leads there.
    if let Ok(elsewhere) = std::fs::read_link(folder.join("data/test/postgres")) {
        let _ = std::fs::remove_dir_all(elsewhere);
    }
    std::fs::remove_dir_all(&folder).map_err(anyhow::Error::from)?;
    let [first, second] = outcomes;
    assert_eq!(first?, (Some(0), "done".to_owned()));
    assert_eq!(second?, (Some(3), "done reject done".to_owned()));
    Ok(())
}
