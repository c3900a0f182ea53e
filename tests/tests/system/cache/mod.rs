//! Key-value stores, and the cache of orders and payments that is kept in one: in memory and in a real Redis.

mod outage;
mod races;
mod secured;
mod store;
