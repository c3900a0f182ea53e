//! The documents of the interface, held against a running system: every kind of record, the calls of the Postman collection,
//! and whatever schemathesis comes up with.

mod fuzz;
mod journey;
mod python;
mod stories;

use http::StatusCode;
use python::Python;
use serde_json::Value;
use tests::client::Client;
use tests::customer::Customer;
use tests::outcome::Outcome;
use tests::system::{Fnhost, Setup};

/// What is served at a path.
async fn document(client: &Client, path: &str) -> anyhow::Result<Value> {
    client.get(path).await?.json(StatusCode::OK)
}

/// One system for all three, one after the other: schemathesis fails to log in so often that its network has to wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_system_is_what_its_documents_say() -> Outcome {
    let python = match Python::find() {
        Ok(python) => python,
        Err(missing) => {
            println!("SKIPPED: {missing}");
            return Ok(());
        }
    };
    let every_second = |text: String| text.replace("every_s = 60", "every_s = 1");
    let fnhost = Fnhost::start(Setup { manifest: Some(every_second), ..Setup::default() }).await?;
    let client = fnhost.client()?;
    let (records, pushed) = stories::seen(&fnhost).await?;
    let answers = journey::answers(&client).await?;
    python.check(&[
        ("openapi.json", document(&client, "/openapi.json").await?),
        ("asyncapi.json", document(&client, "/asyncapi.json").await?),
        ("records.json", records),
        ("pushed.json", pushed),
        ("answers.json", answers),
    ])?;
    let customer = Customer::register(&client).await?;
    let admin = fnhost.database().await?.make_admin(&Customer::register(&client).await?).await?;
    fuzz::run(&python, &client, Some(&customer), fuzz::CUSTOMER_SECONDS).await?;
    fuzz::run(&python, &client, Some(&admin), fuzz::ADMIN_SECONDS).await?;
    fuzz::run(&python, &client, None, fuzz::NOBODY_SECONDS).await?;
    let log = fnhost.log();
    assert!(!log.contains("internal error:") && !log.contains("the function failed"), "{log}");
    Ok(())
}
