//! Errors that the host itself answers, as problem+json (RFC 9457).

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{Either, Full};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::ServerBody;

/// The content type of what is answered.
pub(super) const CONTENT_TYPE: &str = "application/problem+json";

/// An error's document; `call` is the number under which the log tells more.
pub(super) fn document(status: StatusCode, detail: &str, call: Option<u64>) -> serde_json::Value {
    let mut document = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": detail,
    });
    if let Some(call) = call {
        document["call"] = call.into();
    }
    document
}

/// An error's answer.
pub(super) fn problem(status: StatusCode, detail: &str, call: Option<u64>) -> Response<ServerBody> {
    answer(status, &document(status, detail, call))
}

/// A refusal's answer that names the part of the request at fault, as those of functions do.
pub(super) fn refusal(status: StatusCode, detail: &str, field: Option<&str>) -> Response<ServerBody> {
    let mut document = document(status, detail, None);
    if let Some(field) = field {
        document["field"] = field.into();
    }
    answer(status, &document)
}

fn answer(status: StatusCode, document: &serde_json::Value) -> Response<ServerBody> {
    let mut response = Response::new(Either::Right(Full::new(Bytes::from(document.to_string()))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    response
}

/// Answers a request whose head is not there yet; the connection is closed after it.
pub(super) async fn head_timed_out(mut stream: TcpStream) {
    const DETAIL: &str = "the request's headers were not sent in time";
    let body = document(StatusCode::REQUEST_TIMEOUT, DETAIL, None).to_string();
    let answer = format!(
        "HTTP/1.1 408 Request Timeout\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        CONTENT_TYPE,
        body.len(),
    );
    // A client that has gone away does not want it.
    let _ = stream.write_all(answer.as_bytes()).await;
}
