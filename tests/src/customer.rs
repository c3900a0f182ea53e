//! A customer of the order system: an account, its token, and what can be done with it.

use crate::client::{Answer, Client, request};
use crate::wait::{Look, until};
use anyhow::Context as _;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

/// Time in which an order becomes final, where nothing is broken.
pub const FINAL_DEADLINE: Duration = Duration::from_secs(30);
/// The password of every account made here.
pub const PASSWORD: &str = "correct horse battery staple";

/// An account that is logged in.
#[derive(Clone, Debug)]
pub struct Customer {
    /// The client that it uses.
    pub client: Client,
    /// Id of the account.
    pub user_id: Uuid,
    /// E-mail address that the account logs in with.
    pub email: String,
    /// The access token.
    pub token: String,
}

/// What to order, and how to pay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOrder {
    /// SKU and quantity of each line.
    pub items: Vec<(String, u32)>,
    /// What the simulated gateway answers by.
    pub payment_token: String,
}

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "named by the order system's contract")]
pub enum Status {
    Pending,
    Confirmed,
    Rejected,
    PaymentFailed,
    Cancelled,
    Expired,
}

/// An amount in minor units of a currency.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "named by the order system's contract")]
pub struct Money {
    pub amount: i64,
    pub currency: String,
}

/// An order as its customer sees it.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "named by the order system's contract")]
pub struct Order {
    pub order_id: Uuid,
    pub status: Status,
    pub version: i64,
    pub total: Money,
    pub reason: Option<String>,
}

/// One thing that happened to an order.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "named by the order system's contract")]
pub struct Entry {
    pub event: String,
    pub status: Option<Status>,
    pub detail: Option<String>,
    pub at: String,
}

/// An order's payment.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "named by the order system's contract")]
pub struct Payment {
    pub status: String,
    pub amount: Option<Money>,
    pub refunded: Option<Money>,
    pub reason: Option<String>,
}

/// A notification that was sent.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "named by the order system's contract")]
pub struct Notification {
    pub order_id: Uuid,
    pub status: String,
    pub messages: Vec<Message>,
}

/// A notification's text on one channel.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "named by the order system's contract")]
pub struct Message {
    pub channel: String,
    pub text: String,
}

/// Units of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "named by the order system's contract")]
pub struct Stock {
    pub on_hand: i64,
    pub reserved: i64,
    pub available: i64,
}

impl Status {
    /// True where only a cancellation can still change it.
    #[must_use]
    pub fn is_final(self) -> bool {
        self != Self::Pending
    }
}

impl NewOrder {
    /// Lines of `(sku, quantity)`, paid with a token that authorizes.
    #[must_use]
    pub fn of(items: &[(&str, u32)]) -> Self {
        let items = items.iter().map(|(sku, quantity)| ((*sku).to_owned(), *quantity)).collect();
        Self { items, payment_token: "tok_ok".to_owned() }
    }

    /// Paid with another token.
    #[must_use]
    pub fn paid_with(self, payment_token: &str) -> Self {
        Self { payment_token: payment_token.to_owned(), ..self }
    }

    /// The body of the request.
    #[must_use]
    pub fn body(&self) -> serde_json::Value {
        let line = |(sku, quantity): &(String, u32)| json!({ "sku": sku, "quantity": quantity });
        let items: Vec<_> = self.items.iter().map(line).collect();
        json!({ "items": items, "payment_token": self.payment_token })
    }
}

impl Customer {
    /// A new account with an address of its own, logged in.
    ///
    /// # Errors
    /// The account was not made, or the login refused.
    pub async fn register(client: &Client) -> anyhow::Result<Self> {
        let email = format!("{}@example.com", Uuid::new_v4().simple());
        let body = json!({ "email": email, "password": PASSWORD, "name": "Ada" });
        let request = request(Method::POST, "/auth/register", None, Some(&body))?;
        client.send(request).await?.json::<serde_json::Value>(StatusCode::ACCEPTED)?;
        Self::login(client, &email).await
    }

    /// An account that was registered here, logged in.
    ///
    /// # Errors
    /// The login was refused.
    pub async fn login(client: &Client, email: &str) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Session {
            access_token: String,
        }
        #[derive(Deserialize)]
        struct Me {
            user_id: Uuid,
        }
        let body = json!({ "email": email, "password": PASSWORD });
        let login = request(Method::POST, "/auth/login", None, Some(&body))?;
        let Session { access_token: token } = client.send(login).await?.json(StatusCode::OK)?;
        let me = request(Method::GET, "/auth/me", Some(&token), None)?;
        let Me { user_id } = client.send(me).await?.json(StatusCode::OK)?;
        Ok(Self { client: client.clone(), user_id, email: email.to_owned(), token })
    }

    /// Sends any request as this customer.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        json: Option<&serde_json::Value>,
    ) -> anyhow::Result<Answer> {
        self.client.send(request(method, path, Some(&self.token), json)?).await
    }

    /// Reads what is committed at this moment, past the cache.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn read_now(&self, path: &str) -> anyhow::Result<Answer> {
        let mut request = request(Method::GET, path, Some(&self.token), None)?;
        request.headers_mut().insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-cache"));
        self.client.send(request).await
    }

    /// Asks for an order, perhaps under an idempotency key; whatever the answer is.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn try_order(&self, order: &NewOrder, key: Option<&str>) -> anyhow::Result<Answer> {
        let mut request = request(Method::POST, "/orders", Some(&self.token), Some(&order.body()))?;
        if let Some(key) = key {
            request.headers_mut().insert("idempotency-key", key.parse()?);
        }
        self.client.send(request).await
    }

    /// Orders.
    ///
    /// # Errors
    /// The order was not accepted.
    pub async fn order(&self, order: &NewOrder) -> anyhow::Result<Order> {
        self.try_order(order, None).await?.json(StatusCode::ACCEPTED)
    }

    /// Orders, and waits until the order is final.
    ///
    /// # Errors
    /// The order was not accepted, or not final within [`FINAL_DEADLINE`].
    pub async fn order_to_end(&self, order: &NewOrder) -> anyhow::Result<Order> {
        let order_id = self.order(order).await?.order_id;
        self.wait_final(order_id).await
    }

    /// Waits until an order is final.
    ///
    /// # Errors
    /// It is not within [`FINAL_DEADLINE`].
    pub async fn wait_final(&self, order_id: Uuid) -> anyhow::Result<Order> {
        self.wait(order_id, "a final status", |order| order.status.is_final()).await
    }

    /// Waits until an order is as wanted; `what` says that.
    ///
    /// # Errors
    /// It is not within [`FINAL_DEADLINE`].
    pub async fn wait(
        &self,
        order_id: Uuid,
        what: &str,
        wanted: impl Fn(&Order) -> bool,
    ) -> anyhow::Result<Order> {
        until(&format!("{what} of order {order_id}"), FINAL_DEADLINE, async || {
            let order = self.get(order_id).await?;
            let seen = format!("{order:?}");
            Ok(Look::from_option(Some(order).filter(&wanted), seen))
        })
        .await
    }

    /// Waits until the order's timeline has these events, in any order and no other, and returns it.
    ///
    /// # Errors
    /// It has not within [`FINAL_DEADLINE`].
    pub async fn wait_timeline(&self, order_id: Uuid, events: &[&str]) -> anyhow::Result<Vec<Entry>> {
        let mut wanted = events.to_vec();
        wanted.sort_unstable();
        until(&format!("timeline {wanted:?} of order {order_id}"), FINAL_DEADLINE, async || {
            let timeline = self.timeline(order_id).await?;
            let mut found: Vec<&str> = timeline.iter().map(|entry| entry.event.as_str()).collect();
            found.sort_unstable();
            let (there, seen) = (found == wanted, format!("{found:?}"));
            Ok(Look::from_option(there.then_some(timeline), seen))
        })
        .await
    }

    /// Waits until the order's payment has this status.
    ///
    /// # Errors
    /// It has not within [`FINAL_DEADLINE`].
    pub async fn wait_payment(&self, order_id: Uuid, status: &str) -> anyhow::Result<Payment> {
        until(&format!("payment {status} of order {order_id}"), FINAL_DEADLINE, async || {
            let answer = self.read_now(&format!("/payments/{order_id}")).await?;
            if answer.status == StatusCode::NOT_FOUND {
                return Ok(Look::NotYet(answer.to_string()));
            }
            let payment: Payment = answer.json(StatusCode::OK)?;
            let seen = format!("{payment:?}");
            Ok(Look::from_option(Some(payment).filter(|payment| payment.status == status), seen))
        })
        .await
    }

    /// Waits until the order has notifications of these statuses, in any order and no other.
    ///
    /// # Errors
    /// It has not within [`FINAL_DEADLINE`].
    pub async fn wait_notifications(
        &self,
        order_id: Uuid,
        statuses: &[&str],
    ) -> anyhow::Result<Vec<Notification>> {
        let mut wanted = statuses.to_vec();
        wanted.sort_unstable();
        until(&format!("notifications {wanted:?} of order {order_id}"), FINAL_DEADLINE, async || {
            let mut all = self.notifications().await?;
            all.retain(|notification| notification.order_id == order_id);
            let mut found: Vec<&str> = all.iter().map(|notification| notification.status.as_str()).collect();
            found.sort_unstable();
            let (there, seen) = (found == wanted, format!("{found:?}"));
            Ok(Look::from_option(there.then_some(all), seen))
        })
        .await
    }

    /// An order.
    ///
    /// # Errors
    /// The customer has no such order.
    pub async fn get(&self, order_id: Uuid) -> anyhow::Result<Order> {
        self.read_now(&format!("/orders/{order_id}")).await?.json(StatusCode::OK)
    }

    /// Cancels an order; whatever the answer is.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn try_cancel(&self, order_id: Uuid) -> anyhow::Result<Answer> {
        self.ask(Method::POST, &format!("/orders/{order_id}/cancel"), None).await
    }

    /// Cancels an order.
    ///
    /// # Errors
    /// It cannot be cancelled.
    pub async fn cancel(&self, order_id: Uuid) -> anyhow::Result<Order> {
        self.try_cancel(order_id).await?.json(StatusCode::OK)
    }

    /// Asks for a refund; whatever the answer is.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn try_refund(&self, order_id: Uuid, body: &serde_json::Value) -> anyhow::Result<Answer> {
        self.ask(Method::POST, &format!("/orders/{order_id}/refund"), Some(body)).await
    }

    /// Asks for a refund.
    ///
    /// # Errors
    /// It is refused.
    pub async fn refund(&self, order_id: Uuid, body: &serde_json::Value) -> anyhow::Result<Order> {
        self.try_refund(order_id, body).await?.json(StatusCode::ACCEPTED)
    }

    /// What happened to an order, in the order of its happening.
    ///
    /// # Errors
    /// The customer has no such order.
    pub async fn timeline(&self, order_id: Uuid) -> anyhow::Result<Vec<Entry>> {
        #[derive(Deserialize)]
        struct Timeline {
            entries: Vec<Entry>,
        }
        let answer = self.ask(Method::GET, &format!("/orders/{order_id}/timeline"), None).await?;
        Ok(answer.json::<Timeline>(StatusCode::OK)?.entries)
    }

    /// The customer's latest notifications, up to 100.
    ///
    /// # Errors
    /// There was no such answer.
    pub async fn notifications(&self) -> anyhow::Result<Vec<Notification>> {
        #[derive(Deserialize)]
        struct Page {
            notifications: Vec<Notification>,
        }
        let answer = self.ask(Method::GET, "/notifications?limit=100", None).await?;
        Ok(answer.json::<Page>(StatusCode::OK)?.notifications)
    }

    /// Sets a product's units on hand, which needs the role admin.
    ///
    /// # Errors
    /// It was refused.
    pub async fn set_stock(&self, sku: &str, on_hand: i64) -> anyhow::Result<Stock> {
        let body = json!({ "on_hand": on_hand });
        self.ask(Method::PUT, &format!("/inventory/{sku}"), Some(&body)).await?.json(StatusCode::OK)
    }
}

/// A product's units.
///
/// # Errors
/// There is no such product.
pub async fn stock(client: &Client, sku: &str) -> anyhow::Result<Stock> {
    let answer = client.get(&format!("/inventory/{sku}")).await?;
    answer.json(StatusCode::OK).with_context(|| format!("the stock of {sku}"))
}
