//! The built component with a real Postgres: what its batches and requests leave behind.

use contract::event::{AccountMail, Event, InventorySettled, MailRequested, Notice, NotificationRequested};
use fnhost_test_function::{Function, Sent};
use serde_json::json;
use uuid::Uuid;

const USER: Uuid = Uuid::from_u128(7);

fn requested(order_id: Uuid, status: Notice) -> Sent {
    let reason = (status == Notice::Rejected).then(|| "MUG is out of stock".to_owned());
    let request = NotificationRequested { order_id, user_id: USER, status, reason };
    Sent::new(&Event::NotificationRequested(request))
}

async fn stored(function: &Function) -> i64 {
    function.value("SELECT count(*) FROM notification").await.as_i64().expect("a number")
}

#[tokio::test]
async fn each_notice_is_stored_with_the_text_of_both_channels() {
    let function = Function::start("notify").await;
    let order = Uuid::now_v7();
    let all =
        [Notice::Confirmed, Notice::Rejected, Notice::PaymentFailed, Notice::Cancelled, Notice::Refunded];
    let delivery = function.deliver(&all.map(|notice| requested(order, notice))).await;
    assert_eq!((delivery.told().as_str(), delivery.types().as_str()), ("done done done done done", ""));
    let rows = function.rows("SELECT status, email_text, sms_text FROM notification ORDER BY id").await;
    let found: Vec<_> = rows.iter().map(|row| row["status"].as_str().unwrap_or_default()).collect();
    assert_eq!(found, all.map(Notice::as_str));
    assert_eq!(rows[0]["sms_text"], format!("Your order is confirmed! Order {order}"));
    assert!(rows[1]["email_text"].to_string().contains("MUG is out of stock"));
}

#[tokio::test]
async fn the_same_event_never_sends_twice() {
    let function = Function::start("notify").await;
    let event = requested(Uuid::now_v7(), Notice::Confirmed);
    let other = requested(Uuid::now_v7(), Notice::Confirmed);
    // Twice in one batch, again in another, and again together with a new one.
    for (batch, expected) in
        [(vec![event.clone(), event.clone()], 1), (vec![event.clone()], 1), (vec![event.clone(), other], 2)]
    {
        let delivery = function.deliver(&batch).await;
        assert!(delivery.told().split(' ').all(|outcome| outcome == "done"), "{}", delivery.told());
        assert_eq!(stored(&function).await, expected);
    }
}

fn mail(mail: AccountMail, token: Option<&str>, expires_at: Option<i64>) -> Sent {
    let (email, token) = ("ada@example.com".to_owned(), token.map(str::to_owned));
    Sent::new(&Event::MailRequested(MailRequested { user_id: USER, email, mail, token, expires_at }))
}

#[tokio::test]
async fn mails_about_accounts_are_stored_once_with_their_link_and_in_nobodys_list() {
    let function = Function::start("notify").await;
    let soon = i64::try_from(fnhost_sdk::time::unix_seconds()).expect("a time") + 600;
    let reset = mail(AccountMail::ResetPassword, Some("to.ke.n"), Some(soon));
    let other = mail(AccountMail::AddressTaken, None, None);
    for batch in [vec![reset.clone(), requested(Uuid::now_v7(), Notice::Confirmed), other], vec![reset]] {
        let delivery = function.deliver(&batch).await;
        assert!(delivery.told().split(' ').all(|outcome| outcome == "done"), "{}", delivery.told());
    }
    let links = "SELECT array_agg(mail || ' ' || coalesce(link, '-') ORDER BY mail) FROM mail";
    let link = "http://127.0.0.1:3000/#/reset/to.ke.n";
    assert_eq!(function.value(links).await, json!(["ADDRESS_TAKEN -", format!("RESET_PASSWORD {link}")]));
    let list = function.get("/notifications").by(USER).send().await;
    assert!(!list.body.to_string().contains("to.ke.n"), "{list:?}");
    assert_eq!(list.body["notifications"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_link_that_has_expired_is_forgotten_and_not_sent_again() {
    let function = Function::start("notify").await;
    let past = mail(AccountMail::ConfirmAddress, Some("to.ke.n"), Some(1));
    function.deliver(std::slice::from_ref(&past)).await;
    function.deliver(&[past]).await;
    function.deliver(&[mail(AccountMail::PasswordChanged, None, None)]).await;
    assert_eq!(function.value("SELECT count(*) FROM mail").await, 2);
    assert_eq!(function.value("SELECT count(*) FROM mail WHERE link IS NOT NULL").await, 0);
}

#[tokio::test]
async fn two_partitions_with_the_same_event_send_it_once() {
    let function = Function::start("notify").await;
    let event = requested(Uuid::now_v7(), Notice::Confirmed);
    let batch = [event.clone(), requested(Uuid::now_v7(), Notice::Confirmed)];
    let held = function.hold("LOCK TABLE notification IN SHARE MODE").await;
    let both = async { tokio::join!(function.deliver(&batch), function.deliver(&batch)) };
    let release = async {
        function.until_waiting(2).await;
        held.rollback().await.expect("released");
    };
    let ((one, other), ()) = tokio::join!(both, release);
    assert_eq!((one.told().as_str(), other.told().as_str()), ("done done", "done done"));
    assert_eq!(stored(&function).await, 2);
}

#[tokio::test]
async fn what_was_rolled_back_was_not_sent() {
    let function = Function::start("notify").await;
    let batch = [requested(Uuid::now_v7(), Notice::Cancelled)];
    function.deliver_in_vain(&batch).await;
    assert_eq!(stored(&function).await, 0);
    function.deliver(&batch).await;
    assert_eq!(stored(&function).await, 1);
}

#[tokio::test]
async fn what_cannot_be_told_is_rejected_and_the_rest_is_sent() {
    let function = Function::start("notify").await;
    let good = || requested(Uuid::now_v7(), Notice::Confirmed);
    let mut nameless = good();
    nameless.headers.retain(|(name, _)| name != "ce_id");
    let foreign =
        Sent::new(&Event::InventoryReleased(InventorySettled { order_id: Uuid::now_v7(), stock: vec![] }));
    let delivery = function.deliver(&[nameless, good(), foreign, Sent { value: None, ..good() }]).await;
    assert_eq!(
        delivery.told(),
        "reject(the header ce_id is missing: without it a second copy could not be told) done \
         reject(notify does not handle inventory.released) reject(a tombstone is no event)"
    );
    assert_eq!(stored(&function).await, 1);
}

#[tokio::test]
async fn a_user_reads_the_own_ones_newest_first_in_pages() {
    let function = Function::start("notify").await;
    let orders = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
    function.deliver(&orders.map(|order| requested(order, Notice::Confirmed))).await;
    let page = function.get("/notifications?limit=2").by(USER).send().await;
    assert_eq!(page.status, 200);
    let order = |page: &fnhost_test_function::Answer, index: usize| {
        page.body["notifications"][index]["order_id"].clone()
    };
    assert_eq!((order(&page, 0), order(&page, 1)), (json!(orders[2]), json!(orders[1])));
    let cursor = page.body["next_cursor"].as_str().expect("a further page");
    let page = function.get(&format!("/notifications?limit=2&cursor={cursor}")).by(USER).send().await;
    assert_eq!((order(&page, 0), &page.body["next_cursor"]), (json!(orders[0]), &json!(null)));
    let others = function.get("/notifications").by(Uuid::now_v7()).send().await;
    assert_eq!(others.body, json!({"notifications": [], "next_cursor": null}));
    assert_eq!(function.get("/notifications").send().await.status, 401);
    assert_eq!(function.get("/notifications?cursor=x").by(USER).send().await.status, 422);
}
