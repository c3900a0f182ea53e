//! Starts that cannot succeed: one clear message, an exit code that says so, and nothing left running.

use std::net::TcpListener;
use tests::outcome::Outcome;
use tests::system::{Fnhost, Setup};

/// Runs an fnhost that must refuse to start, and holds what it says against `expected`, parts of its one message.
async fn refuses(what: &str, mut fnhost: Fnhost, expected: &[&str]) -> anyhow::Result<()> {
    fnhost.prepare().await?;
    fnhost.spawn()?;
    let status = fnhost.wait_end().await?;
    let log = fnhost.log();
    assert_eq!(status.code(), Some(1), "{what}: {log}");
    let messages: Vec<&str> = log.lines().filter(|line| line.starts_with("fnhost: ")).collect();
    assert_eq!(messages.len(), 1, "{what}: one message is expected:\n{log}");
    // A message may go on in further lines.
    let message = log.split_once("fnhost: ").map(|(_, message)| message).unwrap_or_default();
    for part in expected {
        assert!(message.contains(part), "{what}: {part:?} is not in the message:\n{message}");
    }
    assert!(!log.contains("panicked"), "{what}: {log}");
    fnhost.wait_nothing_left()?;
    if fnhost.database_url().is_ok() {
        assert!(fnhost.database().await.is_err(), "{what}: the database still answers");
    }
    Ok(())
}

#[tokio::test]
async fn a_manifest_that_is_wrong() -> Outcome {
    type Change = fn(String) -> String;
    let cases: [(&str, Change, &[&str]); 6] = [
        ("no TOML", |text| text + "\n[[[", &["spin.toml"]),
        (
            "an unknown key",
            |text| text.replace("max_batch = 500", "max_batsh = 500"),
            &["spin.toml", "max_batsh"],
        ),
        (
            "a topic that is a number",
            |text| text.replace("emits = [\"inventory-events\"]", "emits = [7]"),
            &["spin.toml:", "has to be a string"],
        ),
        (
            "a trigger of no component",
            |text| text.replace("component = \"notify\"", "component = \"notifi\""),
            &["notifi"],
        ),
        (
            "a missing wasm file",
            |text| text.replace("functions/order.wasm", "functions/nothing.wasm"),
            &["nothing.wasm", "./dev build order"],
        ),
        (
            "a variable without a value",
            |text| text.replace("[variables]", "[variables]\nplanet = { required = true }"),
            &["planet", "SPIN_VARIABLE_PLANET"],
        ),
    ];
    for (what, change, expected) in cases {
        let setup = Setup { manifest: Some(change), ..Setup::default() };
        refuses(what, Fnhost::new(setup)?, expected).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_component_that_is_none() -> Outcome {
    let change = |text: String| {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let line = text.lines().find(|line| line.contains("functions/notify.wasm")).unwrap_or_default();
        text.replace(line, &format!("source = \"{manifest}\""))
    };
    let setup = Setup { manifest: Some(change), ..Setup::default() };
    Ok(refuses("a text file as a component", Fnhost::new(setup)?, &["notify", "Cargo.toml"]).await?)
}

#[tokio::test]
async fn a_broker_or_a_database_that_cannot_be_reached() -> Outcome {
    // Bound and never accepted from, so that nobody else answers there.
    let nobody = TcpListener::bind("127.0.0.1:0").map_err(anyhow::Error::from)?;
    let port = nobody.local_addr().map_err(anyhow::Error::from)?.port();
    drop(nobody);
    let address = format!("127.0.0.1:{port}");
    let database = format!("postgres://owner:secret@{address}/orders");
    for (what, variable, value, expected) in [
        ("no broker", "FNHOST_KAFKA", address.clone(), [address.as_str(), "--kafka"]),
        ("no database", "FNHOST_DATABASE", database, [address.as_str(), "--database"]),
    ] {
        // A given database has no payment gateway beside it.
        let gateway = [
            ("SPIN_VARIABLE_PAYMENT_GATEWAY_URL", "http://127.0.0.1:9"),
            ("SPIN_VARIABLE_PAYMENT_WEBHOOK_SECRET", "unused"),
        ];
        let mut environment = vec![(variable.to_owned(), value)];
        environment.extend(gateway.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let setup = Setup { environment, ..Setup::default() };
        refuses(what, Fnhost::new(setup)?, &expected).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_address_that_is_taken() -> Outcome {
    let fnhost = Fnhost::new(Setup::default())?;
    let address = fnhost.client()?.address().to_owned();
    let _taken = TcpListener::bind(&address).map_err(anyhow::Error::from)?;
    refuses("HTTP", fnhost, &[&address, "--listen"]).await?;

    let fnhost = Fnhost::new(Setup::default())?;
    let address = fnhost.admin()?.address().to_owned();
    let _taken = TcpListener::bind(&address).map_err(anyhow::Error::from)?;
    Ok(refuses("admin", fnhost, &[&address, "--admin"]).await?)
}

#[tokio::test]
async fn a_data_directory_that_another_one_runs_on() -> Outcome {
    let first = Fnhost::start(Setup::default()).await?;
    let setup = Setup { data_dir: Some(first.data_dir()), ..Setup::default() };
    let mut second = Fnhost::new(setup)?;
    second.spawn()?;
    let status = second.wait_end().await?;
    assert_eq!(status.code(), Some(1), "{}", second.log());
    for part in ["another fnhost (pid ", "--data-dir"] {
        assert!(second.log().contains(part), "{}", second.log());
    }
    // The first one has noticed nothing.
    let ready = first.admin()?.get("/readyz").await?;
    assert_eq!(ready.status, http::StatusCode::OK, "{ready}");
    assert_eq!(first.database().await?.count("SELECT count(*) FROM orders.orders").await?, 0);
    drop(first);
    Ok(())
}

/// Two hosts with one name would take the partitions from each other for ever; the newer one keeps them.
#[tokio::test]
async fn a_data_directory_that_was_copied() -> Outcome {
    let servers = Fnhost::start(Setup::default()).await?;
    let mut older = servers.join().await?;
    let mut newer = Fnhost::new(servers.setup_of_joining()?)?;
    let name = "secrets/instance";
    std::fs::create_dir(newer.data_dir().join("secrets")).map_err(anyhow::Error::from)?;
    std::fs::copy(older.data_dir().join(name), newer.data_dir().join(name)).map_err(anyhow::Error::from)?;
    newer.spawn()?;
    let status = older.wait_end().await?;
    let log = older.log();
    assert_eq!(status.code(), Some(1), "{log}");
    let message = log.lines().find(|line| line.starts_with("fnhost: ")).unwrap_or_default();
    for part in ["another fnhost has taken this one's place", "--data-dir", name] {
        assert!(message.contains(part), "{part:?} is not in the message:\n{log}");
    }
    newer.wait_ready().await?;
    let ready = servers.admin()?.get("/readyz").await?;
    assert_eq!(ready.status, http::StatusCode::OK, "{ready}");
    Ok(())
}
