//! Whole orders, as readable stories over HTTP, and what is refused on the way.

mod attacks;
mod gateway;
mod live;
mod outage;
mod records;
mod refunds;
mod refusals;
mod stories;
mod viewers;
