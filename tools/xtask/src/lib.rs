//! What `./dev` does once there is a compiler.
//!
//! `dev` itself is bash: it installs what is missing, builds this crate and hands over. Everything here runs in the checkout's
//! folder, where `dev` starts it, so paths are relative to that. Nothing of it is part of fnhost: the host reads variables and
//! checks tokens, whereas [`keys`], [`admin`] and [`compose`] know the order system's.

pub mod admin;
pub mod builds;
pub mod checkout;
pub mod compose;
pub mod failures;
pub mod files;
pub mod keys;
pub mod plugin;
pub mod process;
pub mod sbom;
pub mod suite;
pub mod supply;
pub mod up;

#[cfg(test)]
mod scratch;
