//! One client that watches an order, by server-sent events or over a WebSocket.

use anyhow::Context as _;
use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// Bytes that a WebSocket of this program reads at once.
const READ_BUFFER_BYTES: usize = 4 << 10;

/// How a client is connected.
#[derive(Clone, Copy, Debug)]
pub enum Transport {
    /// By server-sent events.
    Events,
    /// By a WebSocket.
    WebSocket,
}

impl Transport {
    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::WebSocket => "websocket",
        }
    }
}

/// A client that watches.
pub enum Viewer {
    /// The stream, and what has been read of its next event.
    Events(Incoming, String),
    /// Connected over a WebSocket.
    WebSocket(Box<WebSocketStream<TcpStream>>),
}

#[derive(Deserialize)]
struct Named {
    event: String,
}

impl Viewer {
    /// Watches an order.
    ///
    /// # Errors
    /// The host refused, or nobody listens.
    pub async fn open(
        transport: Transport,
        address: SocketAddr,
        order: &str,
        token: &str,
    ) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        match transport {
            Transport::Events => {
                let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
                // It ends with the stream.
                tokio::spawn(connection);
                let request = Request::get(format!("/orders/{order}/events"))
                    .header("host", address.to_string())
                    .header("authorization", format!("Bearer {token}"));
                let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
                anyhow::ensure!(response.status() == StatusCode::OK, "events: {}", response.status());
                Ok(Self::Events(response.into_body(), String::new()))
            }
            Transport::WebSocket => {
                let mut request = format!("ws://{address}/orders/{order}/events").into_client_request()?;
                let protocols = format!("fnhost.v1, bearer.{token}").parse()?;
                request.headers_mut().insert("sec-websocket-protocol", protocols);
                let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
                let (socket, _) = client_async_with_config(request, stream, Some(config)).await?;
                Ok(Self::WebSocket(Box::new(socket)))
            }
        }
    }

    /// The type of the next event.
    ///
    /// # Errors
    /// The stream ended.
    pub async fn next(&mut self) -> anyhow::Result<String> {
        match self {
            Self::Events(body, text) => loop {
                if let Some((block, rest)) = text.split_once("\n\n") {
                    let event = block.lines().find_map(|line| line.strip_prefix("event: "));
                    let event = event.map(str::to_owned);
                    *text = rest.to_owned();
                    match event {
                        Some(event) => return Ok(event),
                        None => continue,
                    }
                }
                let frame = body.frame().await.context("the stream has ended")??;
                if let Some(data) = frame.data_ref() {
                    text.push_str(std::str::from_utf8(data)?);
                }
            },
            Self::WebSocket(socket) => loop {
                match socket.next().await.context("the WebSocket has ended")?? {
                    Message::Text(text) => return Ok(serde_json::from_str::<Named>(&text)?.event),
                    Message::Close(frame) => anyhow::bail!("the WebSocket was closed: {frame:?}"),
                    // A ping is answered when the socket is read again.
                    _ => {}
                }
            },
        }
    }
}
