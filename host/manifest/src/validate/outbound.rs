//! How a component's requests to other hosts are sent.

use std::time::Duration;

use super::super::schema;
use super::super::*;
use super::Builder;
use crate::outbound::*;

impl Builder<'_> {
    pub(super) fn outbound(&self, written: Option<schema::Outbound>) -> Result<OutboundSettings, Error> {
        let Some(written) = written else { return Ok(OutboundSettings::default()) };
        let time = |key, number, default| {
            Ok(Duration::from_millis(self.number(key, number, default, MAX_TIMEOUT_MS)?))
        };
        Ok(OutboundSettings {
            connect_timeout: time(
                "connect_timeout_ms",
                written.connect_timeout_ms,
                DEFAULT_CONNECT_TIMEOUT_MS,
            )?,
            first_byte_timeout: time(
                "first_byte_timeout_ms",
                written.first_byte_timeout_ms,
                DEFAULT_FIRST_BYTE_TIMEOUT_MS,
            )?,
            total_timeout: time("total_timeout_ms", written.total_timeout_ms, DEFAULT_TOTAL_TIMEOUT_MS)?,
            max_concurrent: self.number(
                "max_concurrent",
                written.max_concurrent,
                DEFAULT_MAX_CONCURRENT,
                MAX_MAX_CONCURRENT,
            )? as usize,
            max_queued: self.number_within(
                "max_queued",
                written.max_queued,
                DEFAULT_MAX_QUEUED,
                0..=MAX_MAX_QUEUED,
            )? as usize,
            max_retries: self.number_within(
                "max_retries",
                written.max_retries,
                DEFAULT_MAX_RETRIES,
                0..=MAX_MAX_RETRIES,
            )? as u32,
            retry_budget_percent: self.number_within(
                "retry_budget_percent",
                written.retry_budget_percent,
                DEFAULT_RETRY_BUDGET_PERCENT,
                0..=100,
            )? as u32,
            open_at_error_percent: self.number(
                "open_at_error_percent",
                written.open_at_error_percent,
                DEFAULT_OPEN_AT_ERROR_PERCENT,
                100,
            )? as u32,
            open_at_calls: self.number(
                "open_at_calls",
                written.open_at_calls,
                DEFAULT_OPEN_AT_CALLS,
                MAX_OPEN_AT_CALLS,
            )? as u32,
            open_for: time("open_ms", written.open_ms, DEFAULT_OPEN_MS)?,
        })
    }
}
