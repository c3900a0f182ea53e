//! What an order is and how it changes. Pure: no clock, no database, no wire.

use contract::event::{Item, Money, Notice, OrderStatus};
use std::collections::{BTreeMap, BTreeSet};

/// The version of an order that was just created.
pub const FIRST_VERSION: i64 = 1;
/// Lines of one order.
pub const LINES_MAX: usize = 100;
/// Pieces in one line.
pub const QUANTITY_MAX: i64 = 10_000;
/// Bytes of a SKU, as in the schema.
pub const SKU_BYTES_MAX: usize = 64;
/// Bytes of a payment token.
pub const PAYMENT_TOKEN_BYTES_MAX: usize = 128;
/// How long an order may wait for stock and money, in seconds. Far longer than any request of a customer runs, so that
/// one which is just being written is never overlooked.
pub const PENDING_SECONDS_MAX: i64 = 15 * 60;

/// What decides about an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Current status of the order.
    pub status: OrderStatus,
    /// Raised with every change of status.
    pub version: i64,
    /// Its stock is reserved.
    pub reserved: bool,
    /// Its money is authorized.
    pub authorized: bool,
}

/// What can happen to an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Every line is reserved.
    Reserved,
    /// The stock does not suffice; why.
    OutOfStock(String),
    /// The money is authorized.
    Authorized,
    /// The payment was declined; why.
    Declined(String),
    /// The customer withdraws it.
    Cancel,
    /// It has waited for too long.
    Expire,
}

/// A change of status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The new status.
    pub status: OrderStatus,
    /// The order's version from here on.
    pub version: i64,
    /// Why, where it did not go well.
    pub reason: Option<String>,
}

impl Order {
    /// An order that was just created.
    #[must_use]
    pub fn new() -> Self {
        Self { status: OrderStatus::Pending, version: FIRST_VERSION, reserved: false, authorized: false }
    }

    /// Takes a step; `None` where it does not change the status.
    ///
    /// The first answer that decides wins, and what arrives after the order is final changes nothing: stock and money
    /// learn of the end from the order's own event and give back what they hold.
    pub fn take(&mut self, step: Step) -> Option<Transition> {
        use OrderStatus::{Cancelled, Confirmed, Expired, PaymentFailed, Pending, Rejected};
        let (status, reason) = match (self.status, step) {
            (Pending, Step::Reserved) => {
                self.reserved = true;
                (if self.authorized { Confirmed } else { Pending }, None)
            }
            (Pending, Step::Authorized) => {
                self.authorized = true;
                (if self.reserved { Confirmed } else { Pending }, None)
            }
            (Pending, Step::OutOfStock(reason)) => (Rejected, Some(reason)),
            (Pending, Step::Declined(reason)) => (PaymentFailed, Some(reason)),
            (Pending, Step::Expire) => (Expired, Some("stock or payment did not answer in time".to_owned())),
            (Pending | Confirmed, Step::Cancel) => (Cancelled, Some("cancelled by the customer".to_owned())),
            _ => return None,
        };
        if status == self.status {
            return None;
        }
        self.status = status;
        self.version += 1;
        Some(Transition { status, version: self.version, reason })
    }
}

impl Default for Order {
    fn default() -> Self {
        Self::new()
    }
}

/// What the customer is told when an order reaches `status`; nothing while it is pending.
#[must_use]
pub fn notice(status: OrderStatus) -> Option<Notice> {
    match status {
        OrderStatus::Pending => None,
        OrderStatus::Confirmed => Some(Notice::Confirmed),
        OrderStatus::Rejected => Some(Notice::Rejected),
        OrderStatus::PaymentFailed => Some(Notice::PaymentFailed),
        OrderStatus::Cancelled => Some(Notice::Cancelled),
        OrderStatus::Expired => Some(Notice::Expired),
    }
}

/// A line as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Line {
    /// The product.
    pub sku: String,
    /// Pieces.
    pub quantity: i64,
}

/// An input that is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Which: `items[3].sku`.
    pub field: String,
    /// Why, and what would be right.
    pub detail: String,
}

impl Invalid {
    fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }
}

/// Checks what can be checked without prices.
///
/// # Errors
/// The first input at fault.
pub fn check(lines: &[Line], payment_token: &str) -> Result<(), Invalid> {
    if lines.is_empty() || lines.len() > LINES_MAX {
        return Err(Invalid::new("items", format!("an order has 1 to {LINES_MAX} lines")));
    }
    let mut seen = BTreeSet::new();
    for (i, line) in lines.iter().enumerate() {
        if line.sku.is_empty() || line.sku.len() > SKU_BYTES_MAX {
            return Err(Invalid::new(sku(i), format!("a SKU has 1 to {SKU_BYTES_MAX} bytes")));
        }
        if !(1..=QUANTITY_MAX).contains(&line.quantity) {
            return Err(Invalid::new(
                format!("items[{i}].quantity"),
                format!("order 1 to {QUANTITY_MAX} pieces"),
            ));
        }
        if !seen.insert(&line.sku) {
            return Err(Invalid::new(sku(i), "the SKU is in an earlier line; add the quantities up"));
        }
    }
    if payment_token.is_empty() || payment_token.len() > PAYMENT_TOKEN_BYTES_MAX {
        let detail = format!("a payment token has 1 to {PAYMENT_TOKEN_BYTES_MAX} bytes");
        return Err(Invalid::new("payment_token", detail));
    }
    Ok(())
}

/// Puts the price of today on each line, and adds up.
///
/// # Errors
/// The SKU without a price or with another currency than the first, or a total that no 64-bit integer holds.
pub fn price(lines: &[Line], prices: &BTreeMap<String, Money>) -> Result<(Vec<Item>, Money), Invalid> {
    let mut items = Vec::with_capacity(lines.len());
    let mut total: Option<Money> = None;
    for (i, line) in lines.iter().enumerate() {
        let price =
            prices.get(&line.sku).ok_or_else(|| Invalid::new(sku(i), "there is no product of this SKU"))?;
        let total = total.get_or_insert_with(|| Money { amount: 0, currency: price.currency.clone() });
        if total.currency != price.currency {
            return Err(Invalid::new(sku(i), format!("an order has one currency, here {}", total.currency)));
        }
        let quantity = i32::try_from(line.quantity)
            .map_err(|_| Invalid::new(format!("items[{i}].quantity"), "the quantity is too large"))?;
        total.amount = price
            .amount
            .checked_mul(line.quantity)
            .and_then(|amount| total.amount.checked_add(amount))
            .ok_or_else(|| Invalid::new("items", "the total is too large"))?;
        items.push(Item { sku: line.sku.clone(), quantity, unit_price: price.amount });
    }
    let total = total.ok_or_else(|| Invalid::new("items", "an order has at least one line"))?;
    Ok((items, total))
}

fn sku(line: usize) -> String {
    format!("items[{line}].sku")
}

#[cfg(test)]
#[path = "domain_tests.rs"]
mod tests;
