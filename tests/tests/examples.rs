//! The examples as they run: the real fnhost with their manifests.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use std::path::Path;
use tests::kafka::read_all;
use tests::outcome::Outcome;
use tests::system::{Fnhost, READY_DEADLINE, Setup};
use tests::wait::{Look, until};

/// An example's manifest for any place.
fn manifest(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned();
    let folder = root.join("examples").join(name);
    let text = std::fs::read_to_string(folder.join("spin.toml")).expect("the example's manifest");
    let text = text.replace("\"../../target", &format!("\"{}/target", root.display()));
    text.replace("\"migrations\"", &format!("\"{}/migrations\"", folder.display()))
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
