//! `POST /orders/{id}/refund`: the whole of a confirmed order, or some of its lines.

use super::{DECISIONS_MAX, View, body_hash, cache_key, idempotency_key, invalid, no_order, order_id};
use crate::refund::{self, OWN_REFUND_SECONDS, REASON_CHARS_MAX, Refusal, Wanted};
use crate::sql::{self, NewRefund, Refundable, Stored};
use contract::event::{Event, Money, OrderRefunded};
use contract::token::{Caller, Role};
use fnhost_sdk::Host;
use fnhost_sdk::cache::{self, Cache};
use fnhost_sdk::http::{Request, Response};
use fnhost_sdk::outgoing::OutgoingEvents;
use fnhost_sdk::problem::Problem;
use serde::{Deserialize, Serialize};

/// The body. Its hash is what an idempotency key stands for.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = NewRefund))]
pub(crate) struct Input {
    /// All that is left where absent.
    #[serde(default, deserialize_with = "fnhost_sdk::object::list_or_null")]
    lines: Option<Vec<Wanted>>,
    /// For the timeline; no control characters.
    reason: Option<String>,
}

/// Customers refund their own orders for some days, an admin any order at any time. The money goes back once payment
/// has heard of it, so the answer is 202.
pub(super) async fn refund<H: Host + Cache>(
    host: &H,
    request: &Request,
    caller: Caller,
    id: &str,
) -> Result<Response, Problem> {
    let order_id = order_id(id)?;
    let input: Input = request.json()?;
    let reason = reason(input.reason.as_deref())?;
    let idempotency = idempotency_key(request)?.map(|key| (key, body_hash(&input)));
    let customer = (caller.role != Role::Admin).then_some(caller.user_id);
    for _ in 0..DECISIONS_MAX {
        let found = sql::refundable(host, order_id, customer, idempotency.as_ref()).await?;
        let found = found.ok_or_else(no_order)?;
        match found.key_used {
            None => {}
            Some(true) => return Ok(Response::json(202, &View::from(found.stored))),
            Some(false) => {
                let detail = "this idempotency key was used for a refund with another body";
                return Err(Problem::conflict(detail).with_field("idempotency-key"));
            }
        }
        if !found.recent && found.user_id == caller.user_id && caller.role != Role::Admin {
            let days = OWN_REFUND_SECONDS / (24 * 60 * 60);
            return Err(Problem::conflict(format!(
                "the order is older than {days} days; ask us for a refund"
            )));
        }
        let Stored { order, items, refunded, .. } = &found.stored;
        let this = refund::decide(order.status, items, refunded, input.lines.as_deref()).map_err(refused)?;
        let view = carry_out(host, request, caller, found, this, reason.clone(), idempotency.clone()).await?;
        if let Some(view) = view {
            cache::changed(host, &cache_key(order_id), view.version).await;
            return Ok(Response::json(202, &view));
        }
    }
    Err(Problem::unavailable(format!("order {order_id} kept changing while it was to be refunded")))
}

/// Writes a refund; `None` where the order has moved on since it was decided.
async fn carry_out<H: Host>(
    host: &H,
    request: &Request,
    caller: Caller,
    found: Refundable,
    this: refund::Refunded,
    reason: Option<String>,
    idempotency: Option<(String, Vec<u8>)>,
) -> Result<Option<View>, Problem> {
    let Refundable { mut stored, user_id, .. } = found;
    let money = |amount| Money { amount, currency: stored.total.currency.clone() };
    let in_all = stored.refunded.clone().and(&this);
    let event = Event::OrderRefunded(OrderRefunded {
        order_id: stored.order_id,
        user_id,
        version: stored.order.version + 1,
        refunded: money(in_all.amount),
        reason: reason.clone(),
    });
    let detail = match &reason {
        Some(reason) => format!("{}: {reason}", money(this.amount)),
        None => money(this.amount).to_string(),
    };
    let new = NewRefund {
        order_id: stored.order_id,
        decided_on: stored.order.version,
        refund: this,
        in_all: in_all.clone(),
        reason,
        requested_by: caller.user_id,
        idempotency,
        detail,
    };
    let events = OutgoingEvents::new(&[event], request.traceparent());
    let Some(updated_at) = sql::refund(host, new, events).await? else { return Ok(None) };
    stored.order.version += 1;
    Ok(Some(View::from(Stored { refunded: in_all, updated_at, ..stored })))
}

fn reason(text: Option<&str>) -> Result<Option<String>, Problem> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.chars().count() > REASON_CHARS_MAX || text.chars().any(char::is_control) {
        let detail = format!("at most {REASON_CHARS_MAX} characters, none of them a control");
        return Err(Problem::invalid("reason", detail));
    }
    Ok(Some(text.to_owned()))
}

fn refused(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Conflict(detail) => Problem::conflict(detail),
        Refusal::Invalid(fault) => invalid(fault),
    }
}
