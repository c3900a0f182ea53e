//! What customers live through.

use tests::customer::{Customer, NewOrder, Status, stock};
use tests::system::Fnhost;

/// The events of an order that goes well.
const CONFIRMED: [&str; 6] = [
    "order.created",
    "inventory.reserved",
    "payment.authorized",
    "order.confirmed",
    "inventory.committed",
    "payment.captured",
];

#[tokio::test]
async fn an_order_with_stock_and_money_is_confirmed() -> anyhow::Result<()> {
    let fnhost = Fnhost::shared().await?;
    let ada = Customer::register(&fnhost.client()?).await?;

    let order = ada.order(&NewOrder::of(&[("COFFEE-1KG", 2), ("MUG-BLUE", 1)])).await?;
    assert_eq!((order.status, order.version, order.total.amount), (Status::Pending, 1, 2 * 1890 + 990));
    let order = ada.wait_final(order.order_id).await?;
    assert_eq!((order.status, order.version, order.reason), (Status::Confirmed, 2, None));

    let timeline = ada.wait_timeline(order.order_id, &CONFIRMED).await?;
    let statuses: Vec<Status> = timeline.iter().filter_map(|entry| entry.status).collect();
    assert_eq!(statuses, [Status::Pending, Status::Confirmed]);
    assert_eq!(timeline[0].event, "order.created");
    let payment = ada.wait_payment(order.order_id, "CAPTURED").await?;
    assert_eq!(payment.amount, Some(order.total));

    let notifications = ada.wait_notifications(order.order_id, &["CONFIRMED"]).await?;
    let channels: Vec<&str> =
        notifications[0].messages.iter().map(|message| message.channel.as_str()).collect();
    assert_eq!(channels, ["email", "sms"]);
    assert!(notifications[0].messages[0].text.starts_with("Your order is confirmed!"));
    let line = format!("Notification sent to user {}: Your order is confirmed!", ada.user_id);
    assert_eq!(fnhost.log().matches(&line).count(), 1, "the log says it once: {line}");
    let _ = stock(&ada.client, "COFFEE-1KG").await?;
    Ok(())
}
