//! Live updates over a WebSocket (RFC 6455): each event is a text `{"event":…,"id":…,"data":…}` with what a server-sent event has.
//!
//! Browsers can set no header of a WebSocket. So its token comes as a subprotocol, beside [`PROTOCOL`], and the id to go on
//! from in the address. A token never stands in an address, since addresses are logged.

use super::super::{ServerBody, WRITE_TIMEOUT, problem::problem};
use super::updates::{Event, Update, Updates};
use bytes::Bytes;
use fnhost_metrics::StreamEnd;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{Either, Full};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::ops::ControlFlow;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error as WebSocketError, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

/// The subprotocol; a client that offers any offers this one.
pub const PROTOCOL: &str = "fnhost.v1";
/// What a subprotocol with a token begins with.
const BEARER: &str = "bearer.";
/// Bytes of a message from a client: it has nothing to say but pong and close.
pub const RECEIVED_MAX_BYTES: usize = 1 << 10;
/// Longest wait for a client to answer that the stream ends.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What is left of a WebSocket's request once it is answered.
pub(in super::super) struct Socket {
    upgrade: OnUpgrade,
    updates: Updates,
}

/// Whether a request asks for a WebSocket.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The answer that agrees to a WebSocket, before anybody was asked whether the client may see what it wants.
///
/// # Errors
/// The answer that says what is wrong with the request.
#[expect(clippy::result_large_err, reason = "both are answers")]
pub(super) fn agree<B>(
    request: &Request<B>,
    origins: &[String],
) -> Result<Response<ServerBody>, Response<ServerBody>> {
    let headers = request.headers();
    if let Some(origin) = headers.get(header::ORIGIN)
        && !may_come_from(origin, headers.get(header::HOST), origins)
    {
        let detail = "pages of this origin may not connect; add it to `origins` of the live route";
        return Err(problem(StatusCode::FORBIDDEN, detail, None));
    }
    let empty = || Either::Right(Full::new(Bytes::new()));
    let mut response = create_response_with_body(request, empty).map_err(|error| match error {
        WebSocketError::Protocol(ProtocolError::MissingSecWebSocketVersionHeader) => {
            let mut refused = problem(StatusCode::UPGRADE_REQUIRED, "WebSocket version 13 is required", None);
            let headers = refused.headers_mut();
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            refused
        }
        error => problem(StatusCode::BAD_REQUEST, &error.to_string(), None),
    })?;
    if headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        if !offered(headers).any(|protocol| protocol == PROTOCOL) {
            let detail = format!("offer the subprotocol {PROTOCOL} in addition to the one with a token");
            return Err(problem(StatusCode::BAD_REQUEST, &detail, None));
        }
        let protocol = HeaderValue::from_static(PROTOCOL);
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok(response)
}

/// The token that came as a subprotocol, as the header that functions know.
pub(super) fn authorization(headers: &HeaderMap) -> Option<HeaderValue> {
    let token = offered(headers).find_map(|protocol| protocol.strip_prefix(BEARER))?;
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',').map(str::trim))
}

/// Whether a page's origin is this host, by whatever scheme it is reached, or one that is declared.
fn may_come_from(origin: &HeaderValue, host: Option<&HeaderValue>, origins: &[String]) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let authority = origin.split_once("://").map(|(_, authority)| authority.as_bytes());
    let same = authority.zip(host).is_some_and(|(ours, host)| ours.eq_ignore_ascii_case(host.as_bytes()));
    same || origins.iter().any(|declared| declared.eq_ignore_ascii_case(origin))
}

impl Socket {
    pub(super) fn new(upgrade: OnUpgrade, updates: Updates) -> Self {
        Self { upgrade, updates }
    }

    /// Sends the updates until either side ends it.
    pub async fn run(self) {
        // Boxed, so that a connection that never becomes a WebSocket has no room for one.
        match self.upgrade.await {
            Ok(upgraded) => Box::pin(send_all(TokioIo::new(upgraded), self.updates, WRITE_TIMEOUT)).await,
            Err(error) => tracing::debug!(%error, "a client was gone before its WebSocket began"),
        }
    }
}

/// Sends what comes, and listens whether the client is still there.
async fn send_all(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    mut updates: Updates,
    write_timeout: Duration,
) {
    let config = WebSocketConfig::default()
        .read_buffer_size(RECEIVED_MAX_BYTES)
        .max_message_size(Some(RECEIVED_MAX_BYTES))
        .max_frame_size(Some(RECEIVED_MAX_BYTES))
        // A message is flushed before the next one is made, so that the buffer has one at most.
        .write_buffer_size(0);
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let stop = updates.stop();
    let mut heard = true;
    let code = loop {
        let message = tokio::select! {
            update = updates.next() => match update {
                Update::Event(event) => Message::text(text(&event)),
                // Whoever has not answered the last ping is gone.
                Update::Quiet if !heard => return,
                Update::Quiet => {
                    heard = false;
                    Message::Ping(Bytes::new())
                }
                Update::End(end) => break close_code(end),
            },
            received = socket.next() => match judge(received) {
                ControlFlow::Continue(()) => {
                    heard = true;
                    continue;
                }
                ControlFlow::Break(Some(code)) => break code,
                ControlFlow::Break(None) => return,
            },
        };
        tokio::select! {
            sent = timeout(write_timeout, socket.send(message)) => match sent {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            },
            () = stop.cancelled() => break close_code(StreamEnd::Stopped),
        }
    };
    let close = async {
        let frame = CloseFrame { code, reason: reason(code).into() };
        socket.close(Some(frame)).await?;
        // What the client still sends is read, else the connection is reset and it may not see the code.
        while socket.next().await.transpose()?.is_some() {}
        Ok::<_, WebSocketError>(())
    };
    // It is over either way, whether the client agrees in time or not.
    let _ = timeout(CLOSE_TIMEOUT, close).await;
}

/// What follows from what a client sent: nothing, or the end, with a code where it can still be told.
fn judge(received: Option<Result<Message, WebSocketError>>) -> ControlFlow<Option<CloseCode>> {
    match received {
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => ControlFlow::Continue(()),
        Some(Ok(Message::Text(_) | Message::Binary(_))) => ControlFlow::Break(Some(CloseCode::Unsupported)),
        Some(Err(WebSocketError::Capacity(_))) => ControlFlow::Break(Some(CloseCode::Size)),
        Some(Err(WebSocketError::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => {
            ControlFlow::Break(None)
        }
        Some(Err(WebSocketError::Protocol(_))) => ControlFlow::Break(Some(CloseCode::Protocol)),
        // Its own code goes back to a client that closes.
        Some(Ok(Message::Close(_))) => ControlFlow::Break(Some(CloseCode::Normal)),
        Some(Ok(Message::Frame(_)) | Err(_)) | None => ControlFlow::Break(None),
    }
}

/// RFC 6455, 7.4.1, and the IANA registry behind it.
fn close_code(end: StreamEnd) -> CloseCode {
    match end {
        StreamEnd::Client | StreamEnd::Lifetime => CloseCode::Normal,
        StreamEnd::CutOff => CloseCode::Again,
        StreamEnd::Stopped => CloseCode::Away,
    }
}

fn reason(code: CloseCode) -> &'static str {
    match code {
        CloseCode::Normal => "reconnect with a fresh token",
        CloseCode::Again => "too far behind; reconnect with the last id",
        CloseCode::Away => "this host stops; reconnect with the last id",
        CloseCode::Unsupported => "clients must not send messages",
        CloseCode::Size => "too large",
        _ => "not a WebSocket as in RFC 6455",
    }
}

/// An event as a message; what is no JSON stands in it as text.
fn text(Event { kind, id, data }: &Event) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(data).is_ok();
    let data = if is_json { data } else { &quoted(data) };
    format!(r#"{{"event":{},"id":{},"data":{data}}}"#, quoted(kind), quoted(id))
}

#[cfg(test)]
mod tests;
