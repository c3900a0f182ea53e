//! An order's live updates, read as a browser reads server-sent events, or a WebSocket.

use crate::client::request;
use crate::customer::Customer;
use anyhow::Context as _;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use uuid::Uuid;

/// Longest wait for one event.
pub const EVENT_TIMEOUT: Duration = Duration::from_secs(60);

/// How a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// By server-sent events.
    Events,
    /// By a WebSocket.
    WebSocket,
}

impl Transport {
    /// Both transports.
    pub const ALL: [Self; 2] = [Self::Events, Self::WebSocket];
}

/// An event of a live stream.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    /// Type of the event: `snapshot`, or the `ce_type` of a record.
    pub event: String,
    /// What a client that comes back names as `Last-Event-ID`.
    pub id: String,
    /// Content of the event, parsed as JSON.
    pub data: Value,
}

/// A stream of events.
pub enum Live {
    /// Server-sent events, and what has been read of the next one.
    Events(Incoming, String),
    /// A WebSocket.
    WebSocket(Box<WebSocketStream<TcpStream>>),
}

impl Live {
    /// Watches an order, from the event `after` on where one is named.
    ///
    /// # Errors
    /// Any answer but a stream; the error names its status.
    pub async fn watch(
        transport: Transport,
        customer: &Customer,
        order_id: Uuid,
        after: Option<&str>,
    ) -> anyhow::Result<Self> {
        let path = format!("/orders/{order_id}/events");
        if transport == Transport::WebSocket {
            let after = after.map(|id| format!("?last_event_id={id}")).unwrap_or_default();
            let protocols = format!("fnhost.v1, bearer.{}", customer.token);
            let address = customer.client.address();
            return match open_socket(address, &format!("{path}{after}"), &protocols, None).await? {
                Ok(socket) => Ok(socket),
                Err(status) => anyhow::bail!("{status}"),
            };
        }
        let mut request = request(Method::GET, &path, Some(&customer.token), None)?;
        if let Some(after) = after {
            request.headers_mut().insert("last-event-id", HeaderValue::from_str(after)?);
        }
        let response = customer.client.stream(request).await?;
        anyhow::ensure!(response.status() == StatusCode::OK, "{}", response.status());
        anyhow::ensure!(response.headers()["content-type"] == "text/event-stream");
        Ok(Self::Events(response.into_body(), String::new()))
    }

    /// The next event.
    ///
    /// # Errors
    /// The stream ended, or nothing came within [`EVENT_TIMEOUT`].
    pub async fn next(&mut self) -> anyhow::Result<Event> {
        let next = async {
            match self {
                Self::Events(body, text) => next_event(body, text).await,
                Self::WebSocket(socket) => next_message(socket).await,
            }
        };
        timeout(EVENT_TIMEOUT, next).await.context("no event in time")?.context("the stream has ended")?
    }

    /// Waits until nothing has come for so long that the host says that it is there.
    ///
    /// # Errors
    /// The stream ended, or the host said nothing within [`EVENT_TIMEOUT`] after an event.
    pub async fn heartbeat(&mut self) -> anyhow::Result<()> {
        loop {
            let next = async {
                match self {
                    Self::Events(body, text) => match text.split_once("\n\n") {
                        Some((block, rest)) => {
                            let heard = block.starts_with(':');
                            *text = rest.to_owned();
                            anyhow::Ok(heard)
                        }
                        None => {
                            let frame = body.frame().await.context("the stream has ended")??;
                            let data = frame.data_ref().map(|data| std::str::from_utf8(data)).transpose()?;
                            text.push_str(data.unwrap_or_default());
                            Ok(false)
                        }
                    },
                    Self::WebSocket(socket) => {
                        let message = socket.next().await.context("the stream has ended")??;
                        socket.flush().await?;
                        Ok(matches!(message, Message::Ping(_)))
                    }
                }
            };
            if timeout(EVENT_TIMEOUT, next).await.context("no heartbeat in time")?? {
                return Ok(());
            }
        }
    }

    /// Reads to the end of the stream; the code that a WebSocket is closed with.
    ///
    /// # Errors
    /// It goes on for [`EVENT_TIMEOUT`] after its last event.
    pub async fn end(mut self) -> anyhow::Result<Option<u16>> {
        loop {
            let next = async {
                match &mut self {
                    Self::Events(body, text) => match next_event(body, text).await {
                        Some(Ok(_)) => None,
                        Some(Err(_)) | None => Some(None),
                    },
                    Self::WebSocket(socket) => match socket.next().await {
                        Some(Ok(Message::Close(frame))) => Some(frame.map(|frame| frame.code.into())),
                        Some(Ok(_)) => None,
                        Some(Err(_)) | None => Some(None),
                    },
                }
            };
            if let Some(end) = timeout(EVENT_TIMEOUT, next).await.context("it does not end")? {
                return Ok(end);
            }
        }
    }
}

/// Asks for a WebSocket at `path` with these subprotocols, as a page of `origin` where one is given; or the status of a refusal.
///
/// # Errors
/// There was no answer.
pub async fn open_socket(
    address: &str,
    path: &str,
    protocols: &str,
    origin: Option<&str>,
) -> anyhow::Result<Result<Live, StatusCode>> {
    let mut request = format!("ws://{address}{path}").into_client_request()?;
    request.headers_mut().insert("sec-websocket-protocol", protocols.parse()?);
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse()?);
    }
    let stream = TcpStream::connect(address).await?;
    match timeout(EVENT_TIMEOUT, client_async(request, stream)).await.context("no answer in time")? {
        Ok((socket, _)) => Ok(Ok(Live::WebSocket(Box::new(socket)))),
        Err(WebSocketError::Http(response)) => Ok(Err(response.status())),
        Err(error) => Err(error.into()),
    }
}

async fn next_event(body: &mut Incoming, text: &mut String) -> Option<anyhow::Result<Event>> {
    loop {
        if let Some((block, rest)) = text.split_once("\n\n") {
            let event = parse(block);
            *text = rest.to_owned();
            match event {
                Some(event) => return Some(event),
                None => continue,
            }
        }
        let read = body.frame().await?.map_err(anyhow::Error::from).and_then(|frame| {
            let data = frame.data_ref().map(|data| std::str::from_utf8(data)).transpose()?;
            text.push_str(data.unwrap_or_default());
            Ok(())
        });
        if let Err(error) = read {
            return Some(Err(error));
        }
    }
}

async fn next_message(socket: &mut WebSocketStream<TcpStream>) -> Option<anyhow::Result<Event>> {
    loop {
        return match socket.next().await? {
            Ok(Message::Text(text)) => Some(serde_json::from_str(&text).map_err(Into::into)),
            Ok(Message::Close(_)) => None,
            // Pings are answered as the socket is read.
            Ok(_) => match socket.flush().await {
                Ok(()) => continue,
                Err(error) => Some(Err(error.into())),
            },
            Err(error) => Some(Err(error.into())),
        };
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
