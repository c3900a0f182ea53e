//! What an order's events say about demand. Pure: state and event in, units of a day out.
//!
//! The day is the one on which the order was placed, since that is when the customer wanted the goods. The units count once the
//! order is confirmed, and no longer once it is cancelled or all of its money has gone back. A partial refund changes nothing: its
//! event names money and no goods, and inventory keeps them sold too.

use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Seconds of a day.
const DAY_SECONDS: u64 = 86_400;

/// Units of each product in one order; every number at least 1.
pub type Lines = BTreeMap<String, i64>;

/// Days since 1970, in UTC.
pub type Day = i32;

/// Where an order stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Nothing is decided yet, or not heard of.
    #[default]
    Open,
    /// It is confirmed.
    Confirmed,
    /// It ended otherwise: nothing of it is demand.
    Ended,
}

impl Stage {
    /// Every stage.
    pub const ALL: [Self; 3] = [Self::Open, Self::Confirmed, Self::Ended];

    /// The name used in SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Confirmed => "CONFIRMED",
            Self::Ended => "ENDED",
        }
    }

    /// The stage of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == name)
    }
}

/// What is known of one order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The highest version seen.
    pub version: i64,
    /// Where it stands.
    pub stage: Stage,
    /// What was ordered; `None` until its creation is heard of.
    pub placed: Option<Placed>,
    /// Minor units of money that have gone back in all.
    pub refunded: i64,
}

/// What an order's creation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The day in UTC on which it was placed.
    pub day: Day,
    /// What was ordered.
    pub lines: Lines,
    /// What it costs, in minor units.
    pub total: i64,
}

/// What happened to an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was placed.
    Created(Placed),
    /// It has stock and money.
    Confirmed,
    /// So much of its money has gone back in all. Only a confirmed order is refunded.
    Refunded(i64),
    /// It was rejected or cancelled, or has expired.
    Ended,
}

impl Order {
    /// Takes an event in, `version` being the order's after it. Events of different streams come in any order.
    fn take(&mut self, version: i64, change: Change) {
        if let Change::Created(placed) = change {
            self.placed.get_or_insert(placed);
            self.version = self.version.max(version);
            return;
        }
        // What has gone back in all only grows, so a refund that comes late still counts.
        if let Change::Refunded(in_all) = change {
            self.refunded = self.refunded.max(in_all);
        }
        if version > self.version {
            self.version = version;
            self.stage = if change == Change::Ended { Stage::Ended } else { Stage::Confirmed };
        }
    }

    /// What of it is demand now.
    fn demand(&self) -> Option<&Placed> {
        let placed = self.placed.as_ref()?;
        let kept = self.refunded == 0 || self.refunded < placed.total;
        (self.stage == Stage::Confirmed && kept).then_some(placed)
    }
}

/// What is added to the demand of a product on a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Units; negative if more was given back than came.
    pub units: i64,
    /// Somebody wanted more than there was, so the day's units are less than the demand.
    pub short: bool,
}

/// The orders that a batch is about, and what it changes.
#[derive(Debug, Default)]
pub struct Ledger {
    orders: BTreeMap<Uuid, Order>,
    changed: BTreeSet<Uuid>,
    added: BTreeMap<(String, Day), Added>,
}

impl Ledger {
    /// A ledger over the orders that are known already.
    #[must_use]
    pub fn new(orders: BTreeMap<Uuid, Order>) -> Self {
        Self { orders, ..Self::default() }
    }

    /// Applies an event of an order.
    pub fn apply(&mut self, order_id: Uuid, version: i64, change: Change) {
        let order = self.orders.entry(order_id).or_default();
        let before = order.clone();
        order.take(version, change);
        if *order == before {
            return;
        }
        self.changed.insert(order_id);
        for (demand, sign) in [(before.demand(), -1), (order.demand(), 1)] {
            let Some(Placed { day, lines, .. }) = demand else { continue };
            for (sku, quantity) in lines {
                self.added.entry((sku.clone(), *day)).or_default().units += sign * quantity;
            }
        }
        self.added.retain(|_, added| *added != Added::default());
    }

    /// Somebody who ordered on this day was refused for want of this product.
    pub fn note_shortage(&mut self, sku: &str, day: Day) {
        self.added.entry((sku.to_owned(), day)).or_default().short = true;
    }

    /// The orders to write.
    pub fn orders(&self) -> impl Iterator<Item = (Uuid, &Order)> {
        self.changed.iter().filter_map(|id| Some((*id, self.orders.get(id)?)))
    }

    /// What to add, by product and day.
    pub fn added(&self) -> impl Iterator<Item = (&str, Day, Added)> {
        self.added.iter().map(|((sku, day), added)| (sku.as_str(), *day, *added))
    }
}

/// The day on which an order was placed: its id is a UUIDv7, which has the time in it. An id that has none, or one of the future,
/// counts as placed `today`.
#[must_use]
pub fn day_of(order_id: Uuid, today: Day) -> Day {
    let timestamp = order_id.get_timestamp().map(|timestamp| timestamp.to_unix().0);
    timestamp.map_or(today, |seconds| day_of_seconds(seconds).min(today))
}

/// The day of a time in seconds since 1970.
#[must_use]
pub fn day_of_seconds(seconds: u64) -> Day {
    Day::try_from(seconds / DAY_SECONDS).unwrap_or(Day::MAX)
}

#[cfg(test)]
#[path = "domain_tests.rs"]
mod tests;
