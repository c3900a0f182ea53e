//! `/orders`: taking, showing, listing, cancelling and refunding orders.

pub(crate) mod refund;

use crate::domain::{self, FIRST_VERSION, Invalid, Line, Order, Step};
use crate::kafka::announcement;
use crate::prices;
use crate::refund::Refunded;
use crate::sql::{self, Created, NewOrder, Stored};
use contract::event::{Event, Item, Money, OrderCreated, OrderStatus};
use contract::problem::answer;
use contract::token::{self, Caller};
use fnhost_sdk::cache::{self, Cache};
use fnhost_sdk::http::{Request, Response};
use fnhost_sdk::outgoing::OutgoingEvents;
use fnhost_sdk::page::Paging;
use fnhost_sdk::problem::Problem;
use fnhost_sdk::{Host, routes};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Orders on a page, where the caller does not say.
pub(crate) const PAGE_DEFAULT: i64 = 20;
/// Orders on a page at most.
pub(crate) const PAGE_MAX: i64 = 100;
/// Bytes of an idempotency key.
pub(crate) const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// How often a cancellation or a refund is decided anew because the order moved on meanwhile. An order moves a few
/// times at most, and not often at once.
const DECISIONS_MAX: u32 = 4;

/// Answers a request below `/orders`.
pub async fn handle<H: Host + Cache>(host: &H, request: Request) -> Response {
    answer(route(host, &request).await)
}

async fn route<H: Host + Cache>(host: &H, request: &Request) -> Result<Response, Problem> {
    routes! {
        request, caller: token::caller(host, request);
        ["orders"] => GET as caller: list(host, request, caller), POST as caller: create(host, request, caller);
        // Who asks is found out by a read that the cache does not answer.
        ["orders", id] => GET: get(host, request, id);
        ["orders", id, "timeline"] => GET as caller: timeline(host, caller, id);
        ["orders", id, "cancel"] => POST as caller: cancel(host, request, caller, id);
        ["orders", id, "refund"] => POST as caller: refund::refund(host, request, caller, id);
    }
}

/// The body of `POST /orders`. Its hash is what an idempotency key stands for.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = NewOrder))]
pub(crate) struct Input {
    /// At most one for each product.
    #[serde(deserialize_with = "fnhost_sdk::object::list")]
    items: Vec<Line>,
    /// What the payment gateway takes the money from.
    payment_token: String,
}

/// An order as its customer sees it.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Order))]
pub(crate) struct View {
    order_id: Uuid,
    status: OrderStatus,
    /// Raised with every change of status and every refund.
    version: i64,
    items: Vec<Item>,
    total: Money,
    /// Why it did not go well; absent where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What is to have gone back; absent where nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    refunded: Option<Refund>,
    created_at: String,
    updated_at: String,
}

/// What of an order is to have gone back.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Refunded))]
pub(crate) struct Refund {
    /// Integer minor units: cents for EUR.
    amount: i64,
    /// ISO 4217 code.
    currency: String,
    items: Vec<Line>,
}

/// Orders, newest first.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Orders))]
pub(crate) struct Page {
    orders: Vec<View>,
    /// For the parameter `cursor` of the next request; null on the last page.
    next_cursor: Option<String>,
}

/// What happened to an order, in the order of its happening.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct Timeline {
    order_id: Uuid,
    entries: Vec<sql::Happened>,
}

async fn create<H: Host + Cache>(host: &H, request: &Request, caller: Caller) -> Result<Response, Problem> {
    let Caller { user_id, .. } = caller;
    let key = idempotency_key(request)?;
    let input: Input = request.json()?;
    domain::check(&input.items, &input.payment_token).map_err(invalid)?;
    let idempotency = key.map(|key| (key, body_hash(&input)));
    // Remembered prices save a read; where they are old, the statement that makes the order says so, and they are read.
    let mut remembered = prices::remembered(host, &input.items).await;
    for _ in 0..DECISIONS_MAX {
        let (prices, read) = match remembered.take() {
            Some(prices) => (prices, false),
            None => (prices::read(host, &input.items).await?, true),
        };
        let (items, total) = match domain::price(&input.items, &prices) {
            Ok(priced) => priced,
            Err(reason) if read => return Err(invalid(reason)),
            Err(_) => continue,
        };
        let order_id = fnhost_sdk::time::Ids::new().next();
        let event = Event::OrderCreated(OrderCreated {
            order_id,
            user_id,
            version: FIRST_VERSION,
            items: items.clone(),
            total: total.clone(),
            payment_token: input.payment_token.clone(),
        });
        let events = OutgoingEvents::new(&[event], request.traceparent());
        let idempotency = idempotency.clone();
        let order = NewOrder { order_id, user_id, items: items.clone(), total: total.clone(), idempotency };
        let view = match sql::create(host, order, events).await? {
            Created::Now(at) => View::from(Stored {
                order_id,
                order: Order::new(),
                items,
                total,
                reason: None,
                refunded: Refunded::default(),
                created_at: at.clone(),
                updated_at: at,
            }),
            Created::Before(order_id) => View::from(own(host, order_id, user_id).await?),
            Created::Repriced => continue,
            Created::KeyTaken => {
                let detail = "this idempotency key was used for an order with another body";
                return Err(Problem::conflict(detail).with_field("idempotency-key"));
            }
        };
        let location = format!("/orders/{}", view.order_id);
        return Ok(Response::json(202, &view).with_header("location", location));
    }
    Err(Problem::unavailable("the prices kept changing while the order was to be made"))
}

async fn get<H: Host + Cache>(host: &H, request: &Request, id: &str) -> Result<Response, Problem> {
    let order_id = order_id(id);
    let read = async || {
        let Caller { user_id, .. } = token::caller(host, request).await?;
        let stored = own(host, order_id.clone()?, user_id).await?;
        Ok((stored.order.version, Response::json(200, &View::from(stored))))
    };
    match &order_id {
        Ok(id) => cache::through(host, request, &cache_key(*id), read).await,
        // Who asks is told first.
        Err(_) => Ok(read().await?.1),
    }
}

/// Under which an order's answers are kept.
fn cache_key(order_id: Uuid) -> String {
    format!("order/{order_id}")
}

async fn list<H: Host>(host: &H, request: &Request, caller: Caller) -> Result<Response, Problem> {
    let status = match request.parameter("status")? {
        None => None,
        Some(name) => Some(OrderStatus::from_name(&name).ok_or_else(|| {
            let names = OrderStatus::ALL.map(OrderStatus::as_str).join(", ");
            Problem::invalid("status", format!("one of {names}"))
        })?),
    };
    let paging = Paging::of(request, PAGE_DEFAULT, PAGE_MAX)?;
    let time = |name: &str| match request.parameter(name)? {
        None => Ok(None),
        Some(text) => fnhost_sdk::time::parse_rfc3339(&text).map(Some).ok_or_else(|| {
            Problem::invalid(name, "a date, or a time in RFC 3339 with its + escaped: 2026-01-31T08:00:00Z")
        }),
    };
    let filter = sql::Filter { status, from: time("from")?, to: time("to")?, after: paging.after };
    let found = sql::list(host, caller.user_id, filter, paging.rows()).await?;
    let (found, next_cursor) = paging.page(found, |last| last.order_id);
    let orders = found.into_iter().map(View::from).collect();
    Ok(Response::json(200, &Page { orders, next_cursor }))
}

async fn timeline<H: Host>(host: &H, caller: Caller, id: &str) -> Result<Response, Problem> {
    let order_id = order_id(id)?;
    let entries = sql::timeline(host, order_id, caller.user_id).await?;
    if entries.is_empty() {
        return Err(no_order());
    }
    Ok(Response::json(200, &Timeline { order_id, entries }))
}

async fn cancel<H: Host + Cache>(
    host: &H,
    request: &Request,
    caller: Caller,
    id: &str,
) -> Result<Response, Problem> {
    let Caller { user_id, .. } = caller;
    let order_id = order_id(id)?;
    for _ in 0..DECISIONS_MAX {
        let mut stored = own(host, order_id, user_id).await?;
        let decided_on = stored.order.version;
        let Some(transition) = stored.order.take(Step::Cancel) else {
            let status = stored.order.status;
            return Err(Problem::conflict(format!("the order is {status} and cannot be cancelled any more")));
        };
        let events = announcement(order_id, user_id, &transition);
        let events = OutgoingEvents::new(&events, request.traceparent());
        let changed = sql::change(host, order_id, user_id, decided_on, &transition, events).await?;
        if let Some(updated_at) = changed {
            cache::changed(host, &cache_key(order_id), transition.version).await;
            let stored = Stored { reason: transition.reason, updated_at, ..stored };
            return Ok(Response::json(200, &View::from(stored)));
        }
    }
    Err(Problem::unavailable(format!("order {order_id} kept changing while it was to be cancelled")))
}

impl From<Stored> for View {
    fn from(stored: Stored) -> Self {
        let Stored { order_id, order, items, total, reason, refunded, created_at, updated_at } = stored;
        let Order { status, version, .. } = order;
        let Refunded { amount, pieces } = refunded;
        let refunded = (!pieces.is_empty()).then(|| Refund {
            amount,
            currency: total.currency.clone(),
            items: pieces.into_iter().map(|(sku, quantity)| Line { sku, quantity }).collect(),
        });
        Self { order_id, status, version, items, total, reason, refunded, created_at, updated_at }
    }
}

async fn own<H: Host>(host: &H, order_id: Uuid, user_id: Uuid) -> Result<Stored, Problem> {
    sql::get(host, order_id, user_id).await?.ok_or_else(no_order)
}

fn order_id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| no_order())
}

/// The same for an order that is not there and for another's, so that nobody learns which ids exist.
pub(crate) fn no_order() -> Problem {
    Problem::not_found("you have no such order")
}

fn invalid(invalid: Invalid) -> Problem {
    Problem::invalid(invalid.field, invalid.detail)
}

fn idempotency_key(request: &Request) -> Result<Option<String>, Problem> {
    let Some(key) = request.header("idempotency-key")? else {
        return Ok(None);
    };
    let printable = key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX || !printable {
        let detail = format!("1 to {IDEMPOTENCY_KEY_BYTES_MAX} printable ASCII characters");
        return Err(Problem::invalid("idempotency-key", detail));
    }
    Ok(Some(key.to_owned()))
}

fn body_hash(input: &impl Serialize) -> Vec<u8> {
    // Strings and numbers: writing them into memory cannot fail.
    Sha256::digest(serde_json::to_vec(input).unwrap_or_default()).to_vec()
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
