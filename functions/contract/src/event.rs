//! Every event of the order system: its type, its payload, its topic and who sends it.
//!
//! Payloads ignore fields they do not know, so that a producer may add one before its consumers are deployed.

pub use crate::mail::{AccountMail, MailRequested};
pub use crate::money::Money;
use fnhost_sdk::event::{CloudEvent, DecodeError};
use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// Events of the `order` function.
pub const ORDER_EVENTS: &str = "order-events";
/// Events of the `inventory` function.
pub const INVENTORY_EVENTS: &str = "inventory-events";
/// Events of the `payment` function.
pub const PAYMENT_EVENTS: &str = "payment-events";
/// What `notify` is asked to send.
pub const NOTIFICATION_EVENTS: &str = "notification-events";

/// One line of an order, with the price at the time of ordering.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Item {
    /// The product.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[A-Za-z0-9._-]{1,64}$"))]
    pub sku: String,
    /// Pieces, at least 1.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub quantity: i32,
    /// Minor units of the order's currency, for one piece.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub unit_price: i64,
}

/// A line that could not be reserved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Shortage {
    /// The product.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[A-Za-z0-9._-]{1,64}$"))]
    pub sku: String,
    /// Pieces ordered.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub requested: i64,
    /// Pieces that were there.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub available: i64,
}

/// Stock of a product after what an event tells of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StockLevel {
    /// The product.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[A-Za-z0-9._-]{1,64}$"))]
    pub sku: String,
    /// Pieces in the warehouse, the reserved ones included.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub on_hand: i64,
    /// Pieces promised to orders that are not yet confirmed.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub reserved: i64,
}

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OrderStatus {
    /// Waiting for stock and money.
    Pending,
    /// Stock is reserved and money authorized.
    Confirmed,
    /// Final: the stock did not suffice.
    Rejected,
    /// Final: the payment was declined.
    PaymentFailed,
    /// Final: the customer withdrew it.
    Cancelled,
    /// Final: it waited for stock or money for too long.
    Expired,
}

impl OrderStatus {
    /// Every status, in the order of an order's life.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Confirmed, Self::Rejected, Self::PaymentFailed, Self::Cancelled, Self::Expired];

    /// The name used in JSON, SQL and query parameters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Confirmed => "CONFIRMED",
            Self::Rejected => "REJECTED",
            Self::PaymentFailed => "PAYMENT_FAILED",
            Self::Cancelled => "CANCELLED",
            Self::Expired => "EXPIRED",
        }
    }

    /// The status of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

impl fmt::Display for OrderStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `order.created`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(missing_docs, reason = "named by the types")]
pub struct OrderCreated {
    pub order_id: Uuid,
    pub user_id: Uuid,
    /// Of the order; its first.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub version: i64,
    pub items: Vec<Item>,
    pub total: Money,
    /// What the gateway takes the money from.
    pub payment_token: String,
}

/// `order.confirmed`, `order.rejected`, `order.cancelled`, `order.expired`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(missing_docs, reason = "named by the types")]
pub struct OrderChanged {
    pub order_id: Uuid,
    pub user_id: Uuid,
    /// Of the order after the change. Consumers keep the highest per order and do nothing for a lower one.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub version: i64,
    pub status: OrderStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `order.refunded`: of a confirmed order, and so it says also that the order is confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(missing_docs, reason = "named by the types")]
pub struct OrderRefunded {
    pub order_id: Uuid,
    pub user_id: Uuid,
    /// Of the order after it. Consumers keep the highest per order and do nothing for a lower one.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub version: i64,
    /// What is to have gone back in all, earlier refunds included: two that change places come to the same.
    pub refunded: Money,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `inventory.reserved`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(missing_docs, reason = "named by the types")]
pub struct InventoryReserved {
    pub order_id: Uuid,
    /// Of the order, as in the event that was answered.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub version: i64,
    /// Of the order's products; absent where there is none to tell of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stock: Vec<StockLevel>,
}

/// `inventory.rejected`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(missing_docs, reason = "named by the types")]
pub struct InventoryRejected {
    pub order_id: Uuid,
    /// Of the order, as in the event that was answered.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub version: i64,
    pub reason: String,
    pub shortages: Vec<Shortage>,
}

/// `inventory.committed`, `inventory.released`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(missing_docs, reason = "named by the types")]
pub struct InventorySettled {
    pub order_id: Uuid,
    /// Of the order's products; absent where there is none to tell of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stock: Vec<StockLevel>,
}

/// `payment.authorized`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(missing_docs, reason = "named by the types")]
pub struct PaymentAuthorized {
    pub order_id: Uuid,
    pub payment_id: Uuid,
    pub amount: Money,
}

/// `payment.declined`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(missing_docs, reason = "named by the types")]
pub struct PaymentDeclined {
    pub order_id: Uuid,
    pub reason: String,
}

/// `payment.captured`, `payment.voided`, `payment.refunded`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(missing_docs, reason = "named by the types")]
pub struct PaymentSettled {
    pub order_id: Uuid,
    pub payment_id: Uuid,
    /// What was captured, voided or, this time, refunded.
    pub amount: Money,
    /// Of `payment.refunded`: what has gone back in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refunded: Option<Money>,
}

/// What a notification tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "each is the final status of its name, or the refund")]
pub enum Notice {
    Confirmed,
    Rejected,
    PaymentFailed,
    Cancelled,
    Expired,
    /// Money went back; the reason says how much.
    Refunded,
}

impl Notice {
    /// Every notice.
    pub const ALL: [Self; 6] = [
        Self::Confirmed,
        Self::Rejected,
        Self::PaymentFailed,
        Self::Cancelled,
        Self::Expired,
        Self::Refunded,
    ];

    /// The name used in JSON and SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "CONFIRMED",
            Self::Rejected => "REJECTED",
            Self::PaymentFailed => "PAYMENT_FAILED",
            Self::Cancelled => "CANCELLED",
            Self::Expired => "EXPIRED",
            Self::Refunded => "REFUNDED",
        }
    }
}

/// `notification.requested`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(missing_docs, reason = "named by the types")]
pub struct NotificationRequested {
    pub order_id: Uuid,
    pub user_id: Uuid,
    pub status: Notice,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Declares [`Event`] from one table, so that type, payload, topic, source and key cannot disagree.
macro_rules! events {
    ($($variant:ident($payload:ty) = $name:literal, $topic:ident, $source:literal, $key:ident;)*) => {
        /// Any event of the order system.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Event {
            $(
                #[doc = concat!("`", $name, "`")]
                $variant($payload),
            )*
        }

        impl Event {
            /// Every `ce_type` there is.
            pub const TYPES: &'static [&'static str] = &[$($name),*];

            /// Every event, described.
            #[cfg(feature = "openapi")]
            #[must_use]
            pub fn described() -> Vec<fnhost_sdk::openapi::Described> {
                vec![$(fnhost_sdk::openapi::Described {
                    event_type: $name,
                    topic: $topic,
                    source: $source,
                    payload: <$payload as utoipa::ToSchema>::name().into_owned(),
                    schemas: fnhost_sdk::openapi::schemas_of::<$payload>(),
                }),*]
            }

            /// The record's key: the order it is about; of a mail about an account, the account.
            #[must_use]
            pub fn order_id(&self) -> Uuid {
                match self { $(Self::$variant(payload) => payload.$key,)* }
            }
        }

        impl CloudEvent for Event {
            const KEY: &'static str = "order id";

            fn event_type(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)* }
            }

            fn topic(&self) -> &'static str {
                match self { $(Self::$variant(_) => $topic,)* }
            }

            fn source(&self) -> &'static str {
                match self { $(Self::$variant(_) => $source,)* }
            }

            fn key(&self) -> String {
                self.order_id().to_string()
            }

            fn to_json(&self) -> Vec<u8> {
                match self {
                    // Structs of strings, numbers and lists: writing them into memory cannot fail.
                    $(Self::$variant(payload) => serde_json::to_vec(payload).unwrap_or_default(),)*
                }
            }

            fn from_json(event_type: &str, payload: &[u8]) -> Result<Self, DecodeError> {
                match event_type {
                    $($name => serde_json::from_slice(payload).map(Self::$variant).map_err(DecodeError::Payload),)*
                    _ => Err(DecodeError::UnknownType(event_type.to_owned())),
                }
            }
        }
    };
}

events! {
    OrderCreated(OrderCreated) = "order.created", ORDER_EVENTS, "/order", order_id;
    OrderConfirmed(OrderChanged) = "order.confirmed", ORDER_EVENTS, "/order", order_id;
    OrderRejected(OrderChanged) = "order.rejected", ORDER_EVENTS, "/order", order_id;
    OrderCancelled(OrderChanged) = "order.cancelled", ORDER_EVENTS, "/order", order_id;
    OrderExpired(OrderChanged) = "order.expired", ORDER_EVENTS, "/order", order_id;
    OrderRefunded(OrderRefunded) = "order.refunded", ORDER_EVENTS, "/order", order_id;
    InventoryReserved(InventoryReserved) = "inventory.reserved", INVENTORY_EVENTS, "/inventory", order_id;
    InventoryRejected(InventoryRejected) = "inventory.rejected", INVENTORY_EVENTS, "/inventory", order_id;
    InventoryCommitted(InventorySettled) = "inventory.committed", INVENTORY_EVENTS, "/inventory", order_id;
    InventoryReleased(InventorySettled) = "inventory.released", INVENTORY_EVENTS, "/inventory", order_id;
    PaymentAuthorized(PaymentAuthorized) = "payment.authorized", PAYMENT_EVENTS, "/payment", order_id;
    PaymentDeclined(PaymentDeclined) = "payment.declined", PAYMENT_EVENTS, "/payment", order_id;
    PaymentCaptured(PaymentSettled) = "payment.captured", PAYMENT_EVENTS, "/payment", order_id;
    PaymentVoided(PaymentSettled) = "payment.voided", PAYMENT_EVENTS, "/payment", order_id;
    PaymentRefunded(PaymentSettled) = "payment.refunded", PAYMENT_EVENTS, "/payment", order_id;
    NotificationRequested(NotificationRequested) = "notification.requested", NOTIFICATION_EVENTS, "/order", order_id;
    MailRequested(MailRequested) = "mail.requested", NOTIFICATION_EVENTS, "/auth", user_id;
}

/// A batch of events of the order system.
pub type Batch = fnhost_sdk::kafka::Batch<Event>;

/// A record that holds an event of the order system.
pub type Record = fnhost_sdk::kafka::Record<Event>;

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
