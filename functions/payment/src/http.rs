//! The caller's own payments, and what the payment gateway tells.

use crate::{domain, sql, webhook};
use contract::event::Money;
use contract::problem::answer;
use contract::token;
use fnhost_sdk::cache::{self, Cache};
use fnhost_sdk::http::{Request, Response};
use fnhost_sdk::problem::Problem;
use fnhost_sdk::{Host, routes};
use serde::Serialize;
use uuid::Uuid;

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct Payment {
    order_id: Uuid,
    payment_id: Uuid,
    status: &'static str,
    /// Absent where the order ended before payment heard what it costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<Money>,
    /// What of it went back; absent where nothing did.
    #[serde(skip_serializing_if = "Option::is_none")]
    refunded: Option<Money>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Answers a request.
pub async fn handle<H: Host + Cache>(host: &H, request: Request) -> Response {
    answer(route(host, &request).await)
}

async fn route<H: Host + Cache>(host: &H, request: &Request) -> Result<Response, Problem> {
    routes! {
        request;
        ["payments", "webhook"] => POST: webhook::take(host, request);
        // Who asks is found out by a read that the cache does not answer.
        ["payments", order_id] => GET: payment(host, request, order_id);
        _ => Problem::not_found("no such address");
    }
}

async fn payment<H: Host + Cache>(host: &H, request: &Request, id: &str) -> Result<Response, Problem> {
    let order_id = id.parse::<Uuid>().map_err(|_| unknown());
    let read = async || {
        let user_id = token::caller(host, request).await?.user_id;
        let order_id = order_id.clone()?;
        let payment = sql::payment_of_user(host, order_id, user_id).await?.ok_or_else(unknown)?;
        Ok((payment.version, Response::json(200, &shown(order_id, payment))))
    };
    match &order_id {
        Ok(id) => cache::through(host, request, &format!("payment/{id}"), read).await,
        // Who asks is told first.
        Err(_) => Ok(read().await?.1),
    }
}

fn shown(order_id: Uuid, payment: domain::Payment) -> Payment {
    let status = payment.state.as_str();
    let (payment_id, amount, reason) = (payment.payment_id, payment.amount, payment.reason);
    let refunded = amount.clone().filter(|_| payment.refunded > 0);
    let refunded = refunded.map(|money| Money { amount: payment.refunded, ..money });
    Payment { order_id, payment_id, status, amount, refunded, reason }
}

/// One answer for what does not exist and for what is another's: nobody learns which orders there are.
pub(crate) fn unknown() -> Problem {
    Problem::not_found("you have no payment for such an order").with_field("order_id")
}
