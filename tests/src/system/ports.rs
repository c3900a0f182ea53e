//! Ports of the addresses that tests give.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports that are tried: neither in Linux's ephemeral range nor where fnhost looks for those of its servers.
const PORTS: std::ops::Range<u16> = 12_000..20_000;

/// A port that nobody listens on, and that no other caller in this process was given.
///
/// # Errors
/// There is none.
pub fn free_port() -> anyhow::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let len = PORTS.end - PORTS.start;
    // Test processes that run at the same time begin at different places.
    let first = u16::try_from(std::process::id() % 97).unwrap_or_default() * 80;
    for _ in 0..len {
        let port = PORTS.start + first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % len;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no port of {PORTS:?} is free")
}
