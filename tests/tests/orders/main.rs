//! Whole orders, as readable stories over HTTP, and what is refused on the way.

mod live;
mod records;
mod refusals;
mod stories;
