//! `/healthz` says that the process lives, `/readyz` what it waits for.

use http::StatusCode;
use rustix::process::Signal;
use serde::Deserialize;
use tests::client::Client;
use tests::customer::{Customer, NewOrder, Status};
use tests::outcome::Outcome;
use tests::scrape::Scrape;
use tests::system::{Fnhost, READY_DEADLINE, Setup};
use tests::wait::{Look, until};

/// What `/readyz` answers.
#[derive(Debug, Deserialize)]
pub struct Readiness {
    pub ready: bool,
    pub checks: Vec<Check>,
}

/// One check of it.
#[derive(Debug, Deserialize)]
pub struct Check {
    pub check: String,
    pub state: String,
    #[serde(default)]
    pub detail: Vec<String>,
}

impl Readiness {
    /// Asks; the status has to say the same as the body.
    pub async fn of(admin: &Client) -> anyhow::Result<Self> {
        let answer = admin.get("/readyz").await?;
        let readiness: Self = answer.json(answer.status)?;
        let expected = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        assert_eq!(answer.status, expected, "{answer}");
        Ok(readiness)
    }

    /// Names of the checks that do not pass.
    pub fn failing(&self) -> Vec<&str> {
        self.checks.iter().filter(|check| check.state != "ok").map(|check| check.check.as_str()).collect()
    }
}

#[tokio::test]
async fn every_check_is_named_and_a_broker_that_hangs_shows() -> Outcome {
    let arguments = ["--ready-max-lag", "100000"].map(str::to_owned).to_vec();
    let fnhost = Fnhost::start(Setup { arguments, ..Setup::default() }).await?;
    let admin = fnhost.admin()?;
    let readiness = Readiness::of(&admin).await?;
    let names: Vec<&str> = readiness.checks.iter().map(|check| check.check.as_str()).collect();
    assert_eq!(
        names,
        ["stage", "components", "database", "broker", "partitions", "tasks", "schedules", "lag"]
    );
    // A schedule says when it was done last; the others speak of faults alone.
    let quiet = readiness.checks.iter().all(|c| c.detail.is_empty() || c.check == "schedules");
    assert!(readiness.ready && quiet, "{readiness:?}");

    fnhost.signal_kafka(Signal::STOP)?;
    until("the broker to be missed", READY_DEADLINE, async || {
        let readiness = Readiness::of(&admin).await?;
        Ok(Look::from_bool(readiness.failing().contains(&"broker"), format!("{readiness:?}")))
    })
    .await?;
    assert_eq!(admin.get("/healthz").await?.status, StatusCode::OK);
    assert_eq!(Scrape::of(&admin).await?.sum("fnhost_health_check", &[("check", "broker")]), 0.0);
    // Requests go on: they need no broker.
    let customer = Customer::register(&fnhost.client()?).await?;
    let order = customer.order(&NewOrder::of(&[("COFFEE-1KG", 1)])).await?;
    until("the outbox to wait", READY_DEADLINE, async || {
        let scrape = Scrape::of(&admin).await?;
        let age = scrape.sum("fnhost_outbox_oldest_age_seconds", &[("trigger", "order:events")]);
        Ok(Look::from_bool(age > 0.0, format!("its oldest row is {age} s old")))
    })
    .await?;

    fnhost.signal_kafka(Signal::CONT)?;
    until_ready(&admin).await?;
    assert_eq!(customer.wait_final(order.order_id).await?.status, Status::Confirmed);
    Ok(())
}

#[tokio::test]
async fn a_private_server_that_dies_is_counted() -> Outcome {
    let fnhost = Fnhost::start(Setup::default()).await?;
    let admin = fnhost.admin()?;
    let restarts = async || -> anyhow::Result<f64> {
        Ok(Scrape::of(&admin).await?.sum("fnhost_embedded_restarts_total", &[("server", "kafka")]))
    };
    assert_eq!(restarts().await?, 0.0);
    fnhost.signal_kafka(Signal::KILL)?;
    until("the restart", READY_DEADLINE, async || {
        let restarts = restarts().await?;
        Ok(Look::from_bool(restarts == 1.0, format!("{restarts} restarts")))
    })
    .await?;
    until("errors of Kafka", READY_DEADLINE, async || {
        let errors = Scrape::of(&admin).await?.sum("fnhost_kafka_errors_total", &[]);
        Ok(Look::from_bool(errors > 0.0, format!("{errors} errors")))
    })
    .await?;
    until_ready(&admin).await?;
    let customer = Customer::register(&fnhost.client()?).await?;
    let order = customer.order_to_end(&NewOrder::of(&[("COFFEE-1KG", 1)])).await?;
    assert_eq!(order.status, Status::Confirmed);
    Ok(())
}

async fn until_ready(admin: &Client) -> anyhow::Result<()> {
    until("readiness", READY_DEADLINE, async || {
        let readiness = Readiness::of(admin).await?;
        Ok(Look::from_bool(readiness.ready, format!("{readiness:?}")))
    })
    .await
}
