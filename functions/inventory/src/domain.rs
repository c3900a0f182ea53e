//! What an order event does to stock and to the order's reservation. Pure: state and event in, decision out.
//!
//! A [`Ledger`] holds the locked rows of one batch and applies its events in the batch's order, so that orders of the
//! same batch compete for stock exactly as if each had come alone.

use contract::event::Shortage;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Where a reservation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Units are promised: they count in `reserved`.
    Reserved,
    /// The stock did not suffice; nothing is held.
    Rejected,
    /// Units have left the stock.
    Committed,
    /// Final: nothing is held, or ever will be.
    Released,
}

impl State {
    /// Every state, in the order of a reservation's life.
    pub const ALL: [Self; 4] = [Self::Reserved, Self::Rejected, Self::Committed, Self::Released];

    /// The name used in SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "RESERVED",
            Self::Rejected => "REJECTED",
            Self::Committed => "COMMITTED",
            Self::Released => "RELEASED",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// Units of each product in one order; every number at least 1.
pub type Lines = BTreeMap<String, i64>;

/// What inventory knows of one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// State of the reservation.
    pub state: State,
    /// Why it was rejected.
    pub reason: Option<String>,
    /// The highest order version seen.
    pub version: i64,
    /// What it holds or has held; empty where nothing ever was.
    pub lines: Lines,
}

/// Units of one product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stock {
    /// In the warehouse, the reserved ones included.
    pub on_hand: i64,
    /// Promised to orders that are not yet confirmed.
    pub reserved: i64,
}

impl Stock {
    /// Units that can still be promised.
    #[must_use]
    pub fn available(self) -> i64 {
        self.on_hand - self.reserved
    }
}

/// What happened to an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was placed and wants these units.
    Created(Lines),
    /// It has stock and money; also where money of it went back since.
    Confirmed,
    /// It was rejected or cancelled, or has expired.
    Ended,
}

/// What came of an event; all but `None` are told to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing to tell: the event is old news, or nothing was held.
    None,
    /// Every line is reserved.
    Reserved,
    /// No line is reserved.
    Rejected {
        /// Why the order is rejected, shown to the customer.
        reason: String,
        /// The lines that lacked stock.
        shortages: Vec<Shortage>,
    },
    /// The reserved units have left the stock.
    Committed,
    /// The units are available again.
    Released,
}

/// An event that contradicts what inventory itself decided: it becomes a dead letter for an operator to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction(pub String);

/// The rows a batch is about, and how it changes them.
#[derive(Debug, Default)]
pub struct Ledger {
    reservations: BTreeMap<Uuid, Reservation>,
    stock: BTreeMap<String, Stock>,
    before: BTreeMap<String, Stock>,
    created: BTreeSet<Uuid>,
    changed: BTreeSet<Uuid>,
}

impl Ledger {
    /// A ledger over the reservations that exist for the batch's orders, without stock as yet.
    #[must_use]
    pub fn new(reservations: BTreeMap<Uuid, Reservation>) -> Self {
        Self { reservations, ..Self::default() }
    }

    /// The products whose stock an event may move: to be locked, in this order, before it is applied.
    pub fn products<'a>(&'a self, order_id: Uuid, change: &'a Change) -> impl Iterator<Item = &'a str> {
        let lines = match (self.reservations.get(&order_id), change) {
            (None, Change::Created(lines)) => Some(lines),
            (None, _) | (Some(_), Change::Created(_)) => None,
            (Some(reservation), _) => Some(&reservation.lines),
        };
        lines.into_iter().flat_map(BTreeMap::keys).map(String::as_str)
    }

    /// Takes the locked stock in; a product that is not in it does not exist.
    pub fn set_stock(&mut self, stock: BTreeMap<String, Stock>) {
        self.before.clone_from(&stock);
        self.stock = stock;
    }

    /// Applies one event, `version` being the order's after it.
    ///
    /// # Errors
    /// The event contradicts the reservation; the ledger is unchanged.
    pub fn apply(&mut self, order_id: Uuid, version: i64, change: &Change) -> Result<Effect, Contradiction> {
        let Some(reservation) = self.reservations.get(&order_id) else {
            return self.begin(order_id, version, change);
        };
        // The creation is an order's first event, so whatever is known already is newer.
        if version <= reservation.version || matches!(change, Change::Created(_)) {
            return Ok(Effect::None);
        }
        let (state, effect) = match (reservation.state, change) {
            (State::Reserved, Change::Confirmed) => (State::Committed, Effect::Committed),
            (State::Committed, Change::Confirmed) => (State::Committed, Effect::None),
            (State::Rejected | State::Released, Change::Confirmed) => {
                let state = reservation.state.as_str();
                return Err(Contradiction(format!("the order is confirmed, but its reservation is {state}")));
            }
            (State::Reserved | State::Committed, _) => (State::Released, Effect::Released),
            (unheld, _) => (unheld, Effect::None),
        };
        self.settle(order_id, version, state);
        Ok(effect)
    }

    /// The first event of an order.
    fn begin(&mut self, order_id: Uuid, version: i64, change: &Change) -> Result<Effect, Contradiction> {
        let (state, lines, effect) = match change {
            Change::Created(lines) => {
                let shortages = self.shortages(lines);
                if shortages.is_empty() {
                    for (sku, quantity) in lines {
                        self.stock.entry(sku.clone()).and_modify(|stock| stock.reserved += quantity);
                    }
                    (State::Reserved, lines.clone(), Effect::Reserved)
                } else {
                    let reason = describe(&shortages);
                    (State::Rejected, Lines::new(), Effect::Rejected { reason, shortages })
                }
            }
            // The creation is still on its way: this row keeps it from reserving anything.
            Change::Ended => (State::Released, Lines::new(), Effect::None),
            Change::Confirmed => {
                return Err(Contradiction(
                    "the order is confirmed, but nothing was ever reserved".to_owned(),
                ));
            }
        };
        let reason = if let Effect::Rejected { reason, .. } = &effect { Some(reason.clone()) } else { None };
        self.reservations.insert(order_id, Reservation { state, reason, version, lines });
        self.created.insert(order_id);
        self.changed.insert(order_id);
        Ok(effect)
    }

    fn shortages(&self, lines: &Lines) -> Vec<Shortage> {
        let short = |(sku, &requested): (&String, &i64)| {
            let available = self.stock.get(sku).map_or(0, |stock| stock.available());
            (available < requested).then(|| Shortage { sku: sku.clone(), requested, available })
        };
        lines.iter().filter_map(short).collect()
    }

    /// Moves a reservation to its next state, and its units with it.
    fn settle(&mut self, order_id: Uuid, version: i64, state: State) {
        let Some(reservation) = self.reservations.get_mut(&order_id) else {
            return;
        };
        for (sku, quantity) in &reservation.lines {
            let Some(stock) = self.stock.get_mut(sku) else {
                continue;
            };
            match (reservation.state, state) {
                (State::Reserved, State::Committed) => {
                    stock.on_hand -= quantity;
                    stock.reserved -= quantity;
                }
                (State::Reserved, State::Released) => stock.reserved -= quantity,
                (State::Committed, State::Released) => stock.on_hand += quantity,
                _ => {}
            }
        }
        reservation.state = state;
        reservation.version = version;
        self.changed.insert(order_id);
    }

    /// The products whose stock is not what it was, by SKU, with what was added to `on_hand` and to `reserved`.
    pub fn moved(&self) -> impl Iterator<Item = (&str, Stock)> {
        self.stock.iter().filter_map(|(sku, now)| {
            let was = self.before.get(sku)?;
            let delta = Stock { on_hand: now.on_hand - was.on_hand, reserved: now.reserved - was.reserved };
            (now != was).then_some((sku.as_str(), delta))
        })
    }

    /// The stock of an order's products as it is now, by SKU.
    pub fn levels(&self, order_id: Uuid) -> impl Iterator<Item = (&str, Stock)> {
        let lines = self.reservations.get(&order_id).map(|reservation| &reservation.lines);
        lines.into_iter().flatten().filter_map(|(sku, _)| Some((sku.as_str(), *self.stock.get(sku)?)))
    }

    /// The reservations to write, by order id.
    pub fn written(&self) -> impl Iterator<Item = (Uuid, &Reservation)> {
        self.changed.iter().filter_map(|id| Some((*id, self.reservations.get(id)?)))
    }

    /// The lines to write: those of reservations that are new.
    pub fn new_lines(&self) -> impl Iterator<Item = (Uuid, &str, i64)> {
        self.created.iter().filter_map(|id| Some((*id, self.reservations.get(id)?))).flat_map(
            |(id, reservation)| {
                reservation.lines.iter().map(move |(sku, quantity)| (id, sku.as_str(), *quantity))
            },
        )
    }
}

/// For the customer: which products are short.
fn describe(shortages: &[Shortage]) -> String {
    let each = |short: &Shortage| match short.available {
        0 => format!("{} is out of stock", short.sku),
        available => format!("{} has {available} of {} left", short.sku, short.requested),
    };
    shortages.iter().map(each).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "domain_tests.rs"]
mod tests;
