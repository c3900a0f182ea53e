//! The `payment` function: takes the money of orders, once each. Glue only.

pub mod domain;
pub mod gateway;
pub mod http;
pub mod kafka;
#[cfg(feature = "openapi")]
pub mod openapi;
mod sql;

kit::export_http!(crate::http::handle);
kit::export_kafka!(crate::kafka::handle);

#[cfg(target_family = "wasm")]
impl gateway::Clock for kit::wasm::Component {
    fn now_ms(&self) -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    async fn sleep(&self, duration: std::time::Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        kit::wasm::wasip3::clocks::monotonic_clock::wait_for(nanos).await;
    }
}
