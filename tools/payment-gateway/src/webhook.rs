//! Tells of changes: `POST` of up to [`EVENTS_MAX`] events in their order, signed, again until it is accepted.

use crate::journal::Line;
use crate::ledger::Entry;
use crate::{Gateway, Webhook, signature};
use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;

/// Events of one request.
const EVENTS_MAX: usize = 100;
/// Pause after the first request that was not accepted; doubles to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Time for a request and its answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Tells for ever; returns at once where there is nobody to tell.
pub async fn tell(gateway: Arc<Gateway>) {
    let Some(webhook) = gateway.webhook.clone() else { return };
    let mut pause = PAUSE_FIRST;
    loop {
        let entries: Vec<Entry> = gateway.lock().untold.iter().take(EVENTS_MAX).cloned().collect();
        let Some(last) = entries.last().map(|entry| entry.number) else {
            gateway.changed.notified().await;
            continue;
        };
        match tokio::time::timeout(TIMEOUT, send(&webhook, &entries)).await.context("no answer in time") {
            Ok(Ok(())) => {
                pause = PAUSE_FIRST;
                let mut state = gateway.lock();
                state.untold.retain(|entry| entry.number > last);
                if let Err(error) = state.journal.write(&Line::Told(last)) {
                    eprintln!("payment-gateway: {error:#}");
                }
            }
            Ok(Err(error)) | Err(error) => {
                eprintln!("payment-gateway: the webhook was not accepted, it is sent again: {error:#}");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

async fn send(webhook: &Webhook, entries: &[Entry]) -> anyhow::Result<()> {
    let events: Vec<_> = entries.iter().filter_map(event).collect();
    let body = json!({ "events": events }).to_string();
    // Each time anew: who receives it refuses an old one.
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let uri: Uri = webhook.url.parse()?;
    let host = uri.authority().context("the webhook's URL has no host")?.clone();
    let stream = TcpStream::connect((host.host(), host.port_u16().unwrap_or(80))).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::post(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, host.as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .header(signature::HEADER, signature::sign(&webhook.secret, now, body.as_bytes()))
        .body(Full::new(Bytes::from(body)))?;
    let exchange = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        anyhow::ensure!(status.is_success(), "{status} {}", String::from_utf8_lossy(&body));
        Ok(())
    };
    tokio::select! {
        exchanged = exchange => exchanged,
        Err(error) = connection => Err(error.into()),
    }
}

/// An event as it is sent; its id is the same each time.
fn event(entry: &Entry) -> Option<serde_json::Value> {
    let payment = entry.payment.as_ref()?;
    Some(json!({ "id": entry.key, "created": entry.at, "payment": payment }))
}
