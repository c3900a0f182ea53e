//! Requests and responses between [`crate::http`] and the component's `wasi:http/handler` export.

use crate::http::{BODY_LIMIT_BYTES, Body, Request, Response};
use crate::problem::Problem;
use spin_sdk::wasip3::{wit_future, wit_stream};
use spin_sdk::wit_bindgen::rt::async_support;
use spin_sdk::wit_bindgen::{StreamReader, StreamResult};

pub use spin_sdk::wasip3::http::types;

/// Bytes that are read from a body in one go.
const READ_BYTES: usize = 16 * 1024;

/// Reads a request and its body.
///
/// # Errors
/// 400 where the body broke off: the part that arrived is no request.
pub async fn read(request: types::Request) -> Result<Request, Problem> {
    let method = method(request.get_method());
    let target = request.get_path_with_query().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let headers = request.get_headers().copy_all();
    let body = body(request).await?;
    Ok(Request { method, path: path.to_owned(), query: query.to_owned(), headers, body })
}

/// Hands a response over; its body is sent after the handler returned.
#[must_use]
pub fn write(response: Response) -> types::Response {
    let Response { status, headers, body } = response;
    // These have no body by definition, and a length would speak of the one that is not sent.
    let length = (!matches!(status, 204 | 304))
        .then(|| ("content-length".to_owned(), body.len().to_string().into_bytes()));
    let headers: Vec<_> = headers
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into_bytes()))
        .chain(length)
        .collect();
    // The names are constants of ours; a value that is no header value would lose the headers, not the answer.
    let headers = types::Fields::from_list(&headers).unwrap_or_else(|_| types::Fields::new());
    let (mut writer, reader) = wit_stream::new();
    let (trailers_writer, trailers) = wit_future::new(|| Ok(None));
    drop(trailers_writer);
    let (message, _sent) = types::Response::new(headers, Some(reader), trailers);
    // A status code outside 100..1000 is the only one refused.
    let _ = message.set_status_code(status);
    async_support::spawn(async move {
        // A caller that went away does not want the rest.
        let _ = writer.write_all(body).await;
    });
    message
}

fn method(method: types::Method) -> String {
    let name = match method {
        types::Method::Get => "GET",
        types::Method::Head => "HEAD",
        types::Method::Post => "POST",
        types::Method::Put => "PUT",
        types::Method::Delete => "DELETE",
        types::Method::Connect => "CONNECT",
        types::Method::Options => "OPTIONS",
        types::Method::Trace => "TRACE",
        types::Method::Patch => "PATCH",
        types::Method::Other(name) => return name,
    };
    name.to_owned()
}

async fn body(request: types::Request) -> Result<Body, Problem> {
    // A GET has none by HTTP's own rules; not asking saves a handful of calls to the host on the busiest path.
    if matches!(request.get_method(), types::Method::Get | types::Method::Head) {
        return Ok(Body::Read(Vec::new()));
    }
    let (result_writer, result) = wit_future::new(|| Ok(()));
    drop(result_writer);
    let (stream, end) = types::Request::consume_body(request, result);
    let Some(body) = read_to_end(stream, BODY_LIMIT_BYTES).await else {
        return Ok(Body::TooLarge);
    };
    // A body that broke off ends like a whole one; only this tells them apart.
    match end.await {
        Ok(_) => Ok(Body::Read(body)),
        Err(_) => Err(Problem::malformed("body", "the body broke off before its end")),
    }
}

/// What a stream carries, where that is not more than so many bytes.
pub(super) async fn read_to_end(mut stream: StreamReader<u8>, limit_bytes: usize) -> Option<Vec<u8>> {
    let mut read = Vec::new();
    loop {
        let (status, chunk) = stream.read(Vec::with_capacity(READ_BYTES)).await;
        read.extend_from_slice(&chunk);
        if read.len() > limit_bytes {
            return None;
        }
        if !matches!(status, StreamResult::Complete(_)) {
            return Some(read);
        }
    }
}
