//! `./dev demo`: three orders against a running system, each with what became of it.

use anyhow::Context as _;
use std::process::ExitCode;
use tests::client::Client;
use tests::customer::{Customer, NewOrder, Order, Status};
use tests::wait::{Look, until};

const USAGE: &str = "\
Usage: ./dev demo [--url http://127.0.0.1:3000]

Against a running system (`./dev up`): registers a user, places an order that is confirmed, one that is out of stock and
one whose payment is declined, and prints what became of each.";
const URL_DEFAULT: &str = "http://127.0.0.1:3000";

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match url(std::env::args().skip(1)) {
        Ok(Some(url)) => demo(&url).await,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The address of the system; none where help is asked for.
fn url(arguments: impl Iterator<Item = String>) -> anyhow::Result<Option<String>> {
    let (mut arguments, mut url) = (arguments, URL_DEFAULT.to_owned());
    while let Some(argument) = arguments.next() {
        match argument.split_once('=').map_or((argument.as_str(), None), |(name, value)| (name, Some(value)))
        {
            ("--url", Some(value)) => url = value.to_owned(),
            ("--url", None) => url = arguments.next().context("--url needs a value")?,
            ("-h" | "--help", None) => return Ok(None),
            _ => anyhow::bail!("there is no argument {argument}\n{USAGE}"),
        }
    }
    Ok(Some(url))
}

async fn demo(url: &str) -> anyhow::Result<()> {
    let client = Client::new(url)?;
    let nothing = || {
        format!("nothing answers at {url}: start the system with `./dev up`, or give its address with --url")
    };
    client.get("/products").await.with_context(nothing)?;
    let ada = Customer::register(&client).await.context("register a user")?;
    println!("registered {} as user {}", ada.email, ada.user_id);
    let good = [("COFFEE-1KG", 2), ("MUG-BLUE", 1)];
    for (order, expected) in [
        (NewOrder::of(&good), Status::Confirmed),
        (NewOrder::of(&[("OUT-OF-STOCK", 1)]), Status::Rejected),
        (NewOrder::of(&good).paid_with("tok_declined"), Status::PaymentFailed),
    ] {
        let order = story(&ada, &order).await?;
        anyhow::ensure!(
            order.status == expected,
            "the order is {:?}, and {expected:?} was expected",
            order.status
        );
    }
    Ok(())
}

/// Orders, and prints what became of it.
async fn story(ada: &Customer, order: &NewOrder) -> anyhow::Result<Order> {
    let lines: Vec<String> =
        order.items.iter().map(|(sku, quantity)| format!("{quantity} x {sku}")).collect();
    println!("\norder {}, paid with {}", lines.join(", "), order.payment_token);
    let order_id = ada.order(order).await?.order_id;
    let order = ada.wait_final(order_id).await?;
    // The stock, the money and the notification follow a final status.
    ada.wait_notifications(order_id, &[name(order.status)]).await?;
    let timeline = until("the end of the story", tests::customer::FINAL_DEADLINE, async || {
        let timeline = ada.timeline(order_id).await?;
        let told = |event: &str| timeline.iter().any(|entry| entry.event == event);
        let ended = match order.status {
            Status::Confirmed => told("inventory.committed") && told("payment.captured"),
            Status::PaymentFailed => told("payment.declined"),
            _ => true,
        };
        let seen = format!("{} entries", timeline.len());
        Ok(Look::from_option(ended.then_some(timeline), seen))
    })
    .await?;
    let reason = order.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let (units, cents) = (order.total.amount / 100, order.total.amount % 100);
    println!("  {} {units}.{cents:02} {}{reason}", name(order.status), order.total.currency);
    for entry in timeline {
        let time = entry.at.split('T').nth(1).unwrap_or(&entry.at);
        let status = entry.status.map(|status| format!("  -> {}", name(status))).unwrap_or_default();
        let detail = entry.detail.map(|detail| format!("  ({detail})")).unwrap_or_default();
        println!("    {time}  {}{status}{detail}", entry.event);
    }
    for notification in ada.wait_notifications(order_id, &[name(order.status)]).await? {
        for message in notification.messages {
            println!("    {}: {}", message.channel, message.text.lines().next().unwrap_or_default());
        }
    }
    Ok(order)
}

/// A status as the order system writes it.
fn name(status: Status) -> &'static str {
    match status {
        Status::Pending => "PENDING",
        Status::Confirmed => "CONFIRMED",
        Status::Rejected => "REJECTED",
        Status::PaymentFailed => "PAYMENT_FAILED",
        Status::Cancelled => "CANCELLED",
        Status::Expired => "EXPIRED",
    }
}
