//! What whoever runs the system sees of it: metrics, health, and how it ends.

mod commands;
mod deploy;
mod drain;
mod explain;
mod health;
mod logs;
mod metrics;
mod traces;
mod watch;
