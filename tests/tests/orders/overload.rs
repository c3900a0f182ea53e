//! A host that is asked for more than it can carry says so at once, and confirms what it has taken.

use anyhow::{Context as _, bail};
use futures::future::try_join_all;
use http::{Method, StatusCode};
use std::time::Duration;
use tests::customer::{Customer, NewOrder, Order, Status};
use tests::outcome::Outcome;
use tests::scrape::Scrape;
use tests::system::{Fnhost, Setup};
use tests::wait::{Look, until};

/// Orders that are sent at the same time, again and again.
const AT_ONCE: usize = 32;
/// Rounds of them within which some are refused.
const ROUNDS_MAX: usize = 200;
/// Time in which the overload is forgotten.
const OVER_DEADLINE: Duration = Duration::from_secs(30);

/// The manifest with a target that a few orders exceed.
fn impatient(manifest: String) -> String {
    const TARGET: &str = "target_ms = 1000";
    assert!(manifest.contains(TARGET), "spin.toml declares another target");
    manifest.replace(TARGET, "target_ms = 10")
}

#[tokio::test]
async fn under_overload_new_orders_are_refused_and_those_that_were_taken_are_confirmed() -> Outcome {
    let fnhost = Fnhost::start(Setup { manifest: Some(impatient), ..Setup::default() }).await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let order = NewOrder::of(&[("TEA-250G", 1)]);
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS_MAX {
        let answers = try_join_all((0..AT_ONCE).map(|_| ada.try_order(&order, None))).await?;
        for answer in answers {
            match answer.status {
                StatusCode::ACCEPTED => taken.push(answer.json::<Order>(StatusCode::ACCEPTED)?.order_id),
                _ if answer.is_overload() => refused.push(answer),
                _ => return Err(anyhow::anyhow!("{answer}").into()),
            }
        }
        if !refused.is_empty() {
            break;
        }
    }
    let answer = refused.first().context("nothing was refused")?;
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer}");
    let seconds: u64 = answer.header("retry-after").parse().context("seconds")?;
    assert!((1..=5).contains(&seconds), "{seconds}");
    let scrape = Scrape::of(&fnhost.admin()?).await?;
    let counted = scrape.sum("fnhost_http_refused_total", &[("route", "/orders"), ("reason", "overload")]);
    assert_eq!(counted, refused.len() as f64);
    // What makes no new work is not refused with it.
    let path = format!("/orders/{}", taken.first().context("some were taken before")?);
    let read = ada.ask(Method::GET, &path, None).await?;
    assert_eq!(read.status, StatusCode::OK, "{read}");

    for order_id in taken {
        assert_eq!(ada.wait_final(order_id).await?.status, Status::Confirmed);
    }
    until("an order to be taken again", OVER_DEADLINE, async || {
        let answer = ada.try_order(&order, None).await?;
        if !answer.is_overload() && answer.status != StatusCode::ACCEPTED {
            bail!("{answer}");
        }
        Ok(Look::from_bool(answer.status == StatusCode::ACCEPTED, answer.to_string()))
    })
    .await?;
    Ok(())
}
