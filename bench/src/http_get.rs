//! `GET /orders/{id}` with its token checked, on keep-alive connections.

use crate::client::Connection;
use crate::report::{HttpGet, percentile};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Requests before the measurement, on each connection.
const WARM_UP: usize = 50;

/// Reads orders for `duration` on so many connections, each sending its next request when the last is answered.
///
/// # Errors
/// An answer was not 200.
pub async fn run(
    address: SocketAddr,
    connections: usize,
    duration: Duration,
    token: &str,
    ids: &[String],
    cache_control: Option<&'static str>,
) -> anyhow::Result<HttpGet> {
    let (token, ids): (Arc<str>, Arc<[String]>) = (token.into(), ids.into());
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        let mut connection = Connection::open(address).await?.with_cache_control(cache_control);
        let (token, ids) = (token.clone(), ids.clone());
        clients.spawn(async move {
            let mut took_ms = Vec::new();
            let mut began = Instant::now();
            for n in 0.. {
                if n == WARM_UP {
                    (began, took_ms) = (Instant::now(), Vec::new());
                }
                if began.elapsed() >= duration {
                    break;
                }
                let sent = Instant::now();
                let path = format!("/orders/{}", ids[n % ids.len()]);
                let (status, body) = connection.call(Method::GET, &path, &token, Bytes::new()).await?;
                anyhow::ensure!(status == StatusCode::OK, "{status}: {}", String::from_utf8_lossy(&body));
                took_ms.push(sent.elapsed().as_secs_f64() * 1e3);
            }
            anyhow::Ok(took_ms)
        });
    }
    let mut took_ms = Vec::new();
    while let Some(client) = clients.join_next().await {
        took_ms.extend(client??);
    }
    took_ms.sort_by(f64::total_cmp);
    Ok(HttpGet {
        requests_per_s: took_ms.len() as f64 / duration.as_secs_f64(),
        p50_ms: percentile(&took_ms, 0.5),
        p99_ms: percentile(&took_ms, 0.99),
    })
}
