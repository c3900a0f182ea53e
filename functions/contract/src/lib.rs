//! What the functions of the order system agree on: the [`event`]s between them, [`Money`], whose [`token`]s they accept, and
//! how the kinds of their [`problem`]s are named. Everything else that they share is the SDK's.

pub mod event;
mod mail;
mod money;
#[cfg(feature = "openapi")]
pub mod openapi;
pub mod problem;
pub mod token;

pub use money::Money;
