//! What of an order's money may go back. Pure.

use crate::domain::Invalid;
use contract::event::{Item, OrderStatus};
use std::collections::BTreeMap;

/// How long after ordering customers may ask for a refund themselves, in seconds; an admin may at any time.
pub const OWN_REFUND_SECONDS: i64 = 14 * 24 * 60 * 60;
/// Characters of a reason.
pub const REASON_CHARS_MAX: usize = 200;

/// What has gone back of an order so far, or is to have gone back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refunded {
    /// Minor units of the order's currency.
    pub amount: i64,
    /// Pieces by SKU.
    pub pieces: BTreeMap<String, i64>,
}

/// A line that a refund is asked for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = RefundLine))]
pub struct Wanted {
    /// The product.
    pub sku: String,
    /// Pieces; all that are left of the line where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<i64>,
}

/// Why there is no refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The order does not allow it.
    Conflict(String),
    /// The request is not acceptable.
    Invalid(Invalid),
}

/// Decides on a refund of these lines, or of all that is left: what goes back this time.
///
/// An order's total is the sum of its lines, so no line is refunded at more than it cost, and the order at no more than
/// was paid. Goods are another matter: what comes back is put on the shelf with `PUT /inventory/{sku}`.
///
/// # Errors
/// The order is not confirmed, there is nothing left, or a line is not in the order or more than is left of it.
pub fn decide(
    status: OrderStatus,
    items: &[Item],
    so_far: &Refunded,
    wanted: Option<&[Wanted]>,
) -> Result<Refunded, Refusal> {
    if status != OrderStatus::Confirmed {
        return Err(Refusal::Conflict(format!(
            "the order is {status}, and only a CONFIRMED one is refunded"
        )));
    }
    let left: BTreeMap<&str, (i64, i64)> = items
        .iter()
        .map(|item| {
            let gone = so_far.pieces.get(&item.sku).copied().unwrap_or_default();
            (item.sku.as_str(), (i64::from(item.quantity) - gone, item.unit_price))
        })
        .collect();
    let mut refund = Refunded::default();
    let mut add = |sku: &str, pieces: i64, price: i64| {
        refund.amount += pieces * price;
        refund.pieces.insert(sku.to_owned(), pieces);
    };
    match wanted {
        None => {
            for (sku, (pieces, price)) in left.iter().filter(|(_, (pieces, _))| *pieces > 0) {
                add(sku, *pieces, *price);
            }
        }
        Some(lines) => {
            for (sku, pieces, price) in check(lines, &left)? {
                add(sku, pieces, price);
            }
        }
    }
    if refund.pieces.is_empty() {
        return Err(Refusal::Conflict("all of the order has been refunded".to_owned()));
    }
    Ok(refund)
}

/// SKU, pieces and price of each wanted line.
fn check<'a>(
    wanted: &'a [Wanted],
    left: &BTreeMap<&str, (i64, i64)>,
) -> Result<Vec<(&'a str, i64, i64)>, Refusal> {
    let invalid = |field: String, detail: String| Err(Refusal::Invalid(Invalid { field, detail }));
    if wanted.is_empty() {
        return invalid(
            "lines".to_owned(),
            "name a line, or leave lines out to refund all that is left".to_owned(),
        );
    }
    let mut lines = Vec::with_capacity(wanted.len());
    for (i, Wanted { sku, quantity }) in wanted.iter().enumerate() {
        let Some((available, price)) = left.get(sku.as_str()) else {
            return invalid(format!("lines[{i}].sku"), "the order has no such line".to_owned());
        };
        if wanted[..i].iter().any(|earlier| earlier.sku == *sku) {
            let detail = "the SKU is in an earlier line; add the quantities up";
            return invalid(format!("lines[{i}].sku"), detail.to_owned());
        }
        if quantity.is_some_and(|quantity| quantity < 1) {
            return invalid(format!("lines[{i}].quantity"), "refund at least 1 piece".to_owned());
        }
        let pieces = quantity.unwrap_or(*available);
        if pieces > *available || *available == 0 {
            let detail = format!("{sku} has {available} pieces left to refund");
            return Err(Refusal::Conflict(detail));
        }
        lines.push((sku.as_str(), pieces, *price));
    }
    Ok(lines)
}

impl Refunded {
    /// What has gone back once `refund` has, too.
    #[must_use]
    pub fn and(mut self, refund: &Self) -> Self {
        self.amount += refund.amount;
        for (sku, pieces) in &refund.pieces {
            *self.pieces.entry(sku.clone()).or_default() += pieces;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two at 990 and one at 1250: 3230.
    fn items() -> Vec<Item> {
        let item = |sku: &str, quantity, unit_price| Item { sku: sku.to_owned(), quantity, unit_price };
        vec![item("MUG", 2, 990), item("TEA", 1, 1250)]
    }

    fn wanted(lines: &[(&str, Option<i64>)]) -> Vec<Wanted> {
        lines.iter().map(|(sku, quantity)| Wanted { sku: (*sku).to_owned(), quantity: *quantity }).collect()
    }

    fn refunded(amount: i64, pieces: &[(&str, i64)]) -> Refunded {
        Refunded { amount, pieces: pieces.iter().map(|(sku, pieces)| ((*sku).to_owned(), *pieces)).collect() }
    }

    #[test]
    fn only_a_confirmed_order_is_refunded() {
        for status in OrderStatus::ALL {
            let decided = decide(status, &items(), &Refunded::default(), None);
            assert_eq!(decided.is_ok(), status == OrderStatus::Confirmed, "{status}: {decided:?}");
        }
    }

    #[test]
    fn what_is_left_can_go_back_and_no_more() {
        let one_mug = refunded(990, &[("MUG", 1)]);
        let all = refunded(3230, &[("MUG", 2), ("TEA", 1)]);
        let nothing = Refunded::default();
        type Case<'a> = (&'a Refunded, Option<Vec<Wanted>>, Result<Refunded, &'a str>);
        let cases: Vec<Case<'_>> = vec![
            (&nothing, None, Ok(all.clone())),
            (&one_mug, None, Ok(refunded(2240, &[("MUG", 1), ("TEA", 1)]))),
            (&all, None, Err("conflict")),
            (&nothing, Some(wanted(&[("MUG", Some(1))])), Ok(one_mug.clone())),
            (&nothing, Some(wanted(&[("MUG", None)])), Ok(refunded(1980, &[("MUG", 2)]))),
            (&one_mug, Some(wanted(&[("MUG", None)])), Ok(one_mug.clone())),
            (&one_mug, Some(wanted(&[("MUG", Some(2))])), Err("conflict")),
            (&all, Some(wanted(&[("TEA", None)])), Err("conflict")),
            (&nothing, Some(wanted(&[("TEA", Some(i64::MAX))])), Err("conflict")),
            (&nothing, Some(wanted(&[("TEA", Some(0))])), Err("lines[0].quantity")),
            (&nothing, Some(wanted(&[("TEA", Some(-1))])), Err("lines[0].quantity")),
            (&nothing, Some(wanted(&[("TEA", None), ("CAP", None)])), Err("lines[1].sku")),
            (&nothing, Some(wanted(&[("MUG", Some(1)), ("MUG", Some(1))])), Err("lines[1].sku")),
            (&nothing, Some(vec![]), Err("lines")),
        ];
        for (so_far, lines, expected) in cases {
            let decided = decide(OrderStatus::Confirmed, &items(), so_far, lines.as_deref());
            let told = decided.as_ref().map_err(|refusal| match refusal {
                Refusal::Conflict(_) => "conflict",
                Refusal::Invalid(invalid) => invalid.field.as_str(),
            });
            assert_eq!(told, expected.as_ref().map_err(|field| *field), "{so_far:?}, {lines:?}");
            if let Ok(refund) = &decided {
                let in_all = so_far.clone().and(refund);
                assert!(in_all.amount <= all.amount && in_all.pieces <= all.pieces, "{in_all:?}");
            }
        }
    }

    #[test]
    fn refunds_add_up() {
        let mug = refunded(990, &[("MUG", 1)]);
        let both = mug.clone().and(&mug).and(&refunded(1250, &[("TEA", 1)]));
        assert_eq!(both, refunded(3230, &[("MUG", 2), ("TEA", 1)]));
    }
}
