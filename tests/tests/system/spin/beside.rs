//! Plain Spin serves the HTTP functions while `fnhost up --only kafka` runs beside it.

use super::spin;
use tests::browser::Browser;
use tests::client::Client;
use tests::customer::{Customer, NewOrder, Status};
use tests::outcome::Outcome;
use tests::system::{Companion, Fnhost, READY_DEADLINE, Setup, program};
use tests::wait::{Look, until};

#[tokio::test]
async fn spin_serves_http_beside_the_daemon_for_topics() -> Outcome {
    let Some(spin) = spin() else { return Ok(()) };
    let only_kafka = Setup { arguments: vec!["--only".into(), "kafka".into()], ..Setup::default() };
    let fnhost = Fnhost::start(only_kafka).await?;

    // As the README says: the daemon's own words are Spin's variables.
    let client: Client = fnhost.client()?;
    let script =
        "eval \"$(\"$FNHOST\" env)\" && exec \"$SPIN\" up --from \"$FNHOST_MANIFEST\" --listen \"$LISTEN\"";
    let environment = fnhost.setup_of_joining()?.environment.into_iter().chain([
        ("FNHOST".to_owned(), program()?.display().to_string()),
        ("SPIN".to_owned(), spin.display().to_string()),
        ("FNHOST_MANIFEST".to_owned(), fnhost.manifest_path().display().to_string()),
        ("FNHOST_DATA_DIR".to_owned(), fnhost.data_dir().with_file_name("spin").display().to_string()),
        ("LISTEN".to_owned(), client.address().to_owned()),
    ]);
    let mut companion = Companion::run(script, environment, &fnhost.data_dir().with_file_name("spin.log"))?;
    until("spin to serve", READY_DEADLINE, async || {
        companion.check_runs()?;
        match client.get("/products").await {
            Ok(answer) => Ok(Look::from_bool(answer.status.is_success(), answer.to_string())),
            Err(error) => Ok(Look::NotYet(format!("{error:#}"))),
        }
    })
    .await?;

    let ada = Customer::register(&client).await?;
    let order = ada.order_to_end(&NewOrder::of(&[("COFFEE-1KG", 1)])).await?;
    assert_eq!(order.status, Status::Confirmed);
    ada.wait_notifications(order.order_id, &["CONFIRMED"]).await?;
    let order = ada.order_to_end(&NewOrder::of(&[("OUT-OF-STOCK", 1)])).await?;
    assert_eq!(order.status, Status::Rejected);

    // The same pages, without live push: they ask.
    match Browser::find() {
        Ok(browser) => browser.run(client.address(), &["journey.test.mjs"]).await?,
        Err(missing) => println!("SKIPPED in a browser: {missing}"),
    }
    Ok(())
}
