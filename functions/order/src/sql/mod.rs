//! Every statement of the order function: those of a batch, and those of a request.
//!
//! Parameters are typed by the server, so each says what it is given; see `fnhost_sdk::sql`.

mod batch;
mod refund;
mod request;

pub use batch::*;
pub use refund::*;
pub use request::*;

use contract::event::OrderStatus;
use fnhost_sdk::{Row, SqlError};

/// The type of the event that tells of this status.
#[must_use]
pub fn entry_event(status: OrderStatus) -> &'static str {
    match status {
        OrderStatus::Pending => "order.created",
        OrderStatus::Confirmed => "order.confirmed",
        OrderStatus::Rejected | OrderStatus::PaymentFailed => "order.rejected",
        OrderStatus::Cancelled => "order.cancelled",
        OrderStatus::Expired => "order.expired",
    }
}

/// The timeline's name of an event that can happen to an order more than once: `number` tells it from the others.
fn repeated(event: &str, number: i64) -> String {
    format!("{event}#{number}")
}

fn status(row: &Row, index: usize) -> Result<OrderStatus, SqlError> {
    let name = row.text(index)?;
    OrderStatus::from_name(name).ok_or_else(|| SqlError::new(None, format!("there is no status {name:?}")))
}
