//! An order's live updates, read as a browser reads server-sent events.

use crate::client::request;
use crate::customer::Customer;
use anyhow::Context as _;
use http::{HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;
use uuid::Uuid;

/// Longest wait for one event.
pub const EVENT_TIMEOUT: Duration = Duration::from_secs(20);

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its type.
    pub event: String,
    /// What a client that comes back names as `Last-Event-ID`.
    pub id: String,
    /// Its data.
    pub data: Value,
}

/// A stream of events.
pub struct Live {
    body: Incoming,
    text: String,
}

impl Live {
    /// Watches an order, from the event `after` on where one is named.
    ///
    /// # Errors
    /// Any answer but a stream; the error names its status.
    pub async fn watch(customer: &Customer, order_id: Uuid, after: Option<&str>) -> anyhow::Result<Self> {
        let path = format!("/orders/{order_id}/events");
        let mut request = request(Method::GET, &path, Some(&customer.token), None)?;
        if let Some(after) = after {
            request.headers_mut().insert("last-event-id", HeaderValue::from_str(after)?);
        }
        let response = customer.client.stream(request).await?;
        anyhow::ensure!(response.status() == StatusCode::OK, "{}", response.status());
        anyhow::ensure!(response.headers()["content-type"] == "text/event-stream");
        Ok(Self { body: response.into_body(), text: String::new() })
    }

    /// The next event.
    ///
    /// # Errors
    /// The stream ended, or nothing came within [`EVENT_TIMEOUT`].
    pub async fn next(&mut self) -> anyhow::Result<Event> {
        timeout(EVENT_TIMEOUT, async {
            loop {
                if let Some((block, rest)) = self.text.split_once("\n\n") {
                    let event = parse(block);
                    self.text = rest.to_owned();
                    match event {
                        Some(event) => return event,
                        None => continue,
                    }
                }
                let frame = self.body.frame().await.context("the stream has ended")??;
                if let Some(data) = frame.data_ref() {
                    self.text.push_str(std::str::from_utf8(data)?);
                }
            }
        })
        .await
        .context("no event in time")?
    }
}

/// An event; none where the block is a comment or a setting.
fn parse(block: &str) -> Option<anyhow::Result<Event>> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    let event = field("event: ")?;
    let data: Vec<&str> = block.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    Some(match (field("id: "), serde_json::from_str(&data.join("\n"))) {
        (Some(id), Ok(data)) => Ok(Event { event, id, data }),
        (id, data) => Err(anyhow::anyhow!("an event with id {id:?} and data {data:?}")),
    })
}
