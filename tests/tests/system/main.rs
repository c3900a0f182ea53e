//! Tests that start servers of their own: they need other settings, stop or break what runs, or count everything that is there.
//! Those of a folder that neither break nor change theirs share one.
//!
//! They mostly wait, and so run side by side. Those that want the whole machine are the executable `faults`.

mod api;
mod cache;
mod consistency;
mod docs;
mod examples;
mod forecast;
mod kubernetes;
mod operate;
mod outbound;
mod secured;
mod spin;
mod startup;
mod web;
