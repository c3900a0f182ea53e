//! What `[component.ID.tool.fnhost.outbound]` sets for each host that a component sends requests to.

use std::time::Duration;

/// Time a connection may take to be made, TLS included, where none is named, in milliseconds.
pub const DEFAULT_CONNECT_TIMEOUT_MS: i64 = 5_000;
/// Time until the head of an answer where none is named, in milliseconds.
pub const DEFAULT_FIRST_BYTE_TIMEOUT_MS: i64 = 30_000;
/// Time for waiting, all tries and the head of the answer where none is named, in milliseconds.
pub const DEFAULT_TOTAL_TIMEOUT_MS: i64 = 60_000;
/// The longest of these times that can be named, in milliseconds.
pub const MAX_TIMEOUT_MS: i64 = 15 * 60 * 1000;
/// Requests under way to one host at a time where none is named.
pub const DEFAULT_MAX_CONCURRENT: i64 = 64;
/// The most such requests that can be named.
pub const MAX_MAX_CONCURRENT: i64 = 10_000;
/// Requests that wait for a place of these where none is named.
pub const DEFAULT_MAX_QUEUED: i64 = 1_000;
/// The most such requests that can be named.
pub const MAX_MAX_QUEUED: i64 = 100_000;
/// Tries after the first where none is named.
pub const DEFAULT_MAX_RETRIES: i64 = 2;
/// The most tries after the first that can be named.
pub const MAX_MAX_RETRIES: i64 = 10;
/// Further tries in percent of first ones where none is named.
pub const DEFAULT_RETRY_BUDGET_PERCENT: i64 = 20;
/// Failed tries in percent that open a circuit where none is named.
pub const DEFAULT_OPEN_AT_ERROR_PERCENT: i64 = 50;
/// Tries within the window below which a circuit stays closed, where none is named.
pub const DEFAULT_OPEN_AT_CALLS: i64 = 20;
/// The most such tries that can be named.
pub const MAX_OPEN_AT_CALLS: i64 = 100_000;
/// Time that a circuit stays open before it lets probes through where none is named, in milliseconds.
pub const DEFAULT_OPEN_MS: i64 = 5_000;

/// How requests to one host are sent. Each host has connections, a circuit, a budget and places of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboundSettings {
    /// Time a connection may take to be made, TLS included.
    pub connect_timeout: Duration,
    /// Time from a request sent to the head of its answer.
    pub first_byte_timeout: Duration,
    /// Time for all of it up to the head of the answer: waiting for a place, every try, the pauses between them.
    pub total_timeout: Duration,
    /// Requests under way at a time; one is until its answer has been read.
    pub max_concurrent: usize,
    /// Requests that wait for a place; one more is refused.
    pub max_queued: usize,
    /// Tries after the first.
    pub max_retries: u32,
    /// Further tries in percent of first ones.
    pub retry_budget_percent: u32,
    /// Failed tries in percent of those in the window that open the circuit; 100 opens it when all fail.
    pub open_at_error_percent: u32,
    /// Tries in the window below which the circuit stays closed.
    pub open_at_calls: u32,
    /// Time that the circuit stays open before it lets probes through.
    pub open_for: Duration,
}

impl Default for OutboundSettings {
    fn default() -> Self {
        let ms = |ms: i64| Duration::from_millis(ms.unsigned_abs());
        Self {
            connect_timeout: ms(DEFAULT_CONNECT_TIMEOUT_MS),
            first_byte_timeout: ms(DEFAULT_FIRST_BYTE_TIMEOUT_MS),
            total_timeout: ms(DEFAULT_TOTAL_TIMEOUT_MS),
            max_concurrent: DEFAULT_MAX_CONCURRENT as usize,
            max_queued: DEFAULT_MAX_QUEUED as usize,
            max_retries: DEFAULT_MAX_RETRIES as u32,
            retry_budget_percent: DEFAULT_RETRY_BUDGET_PERCENT as u32,
            open_at_error_percent: DEFAULT_OPEN_AT_ERROR_PERCENT as u32,
            open_at_calls: DEFAULT_OPEN_AT_CALLS as u32,
            open_for: ms(DEFAULT_OPEN_MS),
        }
    }
}
