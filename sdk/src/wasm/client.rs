//! [`Client`] over `wasi:http/client`.

use super::http::read_to_end;
use crate::client::{ANSWER_LIMIT_BYTES, Answer, Client};
use spin_sdk::wasip3::http::client;
use spin_sdk::wasip3::http::types::{ErrorCode, Fields, Method, Request, RequestOptions, Response, Scheme};
use spin_sdk::wasip3::{wit_future, wit_stream};
use spin_sdk::wit_bindgen::StreamReader;
use spin_sdk::wit_bindgen::rt::async_support;

const NANOS_PER_MILLI: u64 = 1_000_000;

impl Client for super::Component {
    async fn get(&self, url: &str, timeout_ms: u32) -> Result<Answer, String> {
        send(url, request(url, Fields::new(), None, timeout_ms)?).await
    }

    async fn post(&self, url: &str, key: &str, json: Vec<u8>, timeout_ms: u32) -> Result<Answer, String> {
        let headers = [
            ("content-type", "application/json".to_owned()),
            ("content-length", json.len().to_string()),
            ("idempotency-key", key.to_owned()),
        ];
        let headers: Vec<_> =
            headers.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())).collect();
        let headers =
            Fields::from_list(&headers).map_err(|_| format!("{url}: {key:?} cannot be a header's value"))?;
        let (mut writer, reader) = wit_stream::new();
        let request = request(url, headers, Some(reader), timeout_ms)?;
        request.set_method(&Method::Post).map_err(|()| format!("{url}: POST is refused"))?;
        async_support::spawn(async move {
            // A request that is not sent does not want its body.
            let _ = writer.write_all(json).await;
        });
        send(url, request).await
    }
}

async fn send(url: &str, request: Request) -> Result<Answer, String> {
    let response = client::send(request).await.map_err(|code| failed(url, &code))?;
    let status = response.get_status_code();
    let (result_writer, result) = wit_future::new(|| Ok(()));
    drop(result_writer);
    let (stream, end) = Response::consume_body(response, result);
    let body = read_to_end(stream, ANSWER_LIMIT_BYTES)
        .await
        .ok_or_else(|| format!("{url}: the answer is larger than {ANSWER_LIMIT_BYTES} bytes"))?;
    // A body that broke off ends like a whole one; only this tells them apart.
    end.await.map_err(|code| failed(url, &code))?;
    Ok(Answer { status, body })
}

fn failed(url: &str, code: &ErrorCode) -> String {
    format!("{url}: {code:?}")
}

fn request(
    url: &str,
    headers: Fields,
    body: Option<StreamReader<u8>>,
    timeout_ms: u32,
) -> Result<Request, String> {
    let unfit = |()| format!("{url} is no URL like https://example.com/path");
    let (scheme, rest) = url.split_once("://").ok_or(()).map_err(unfit)?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err(unfit(())),
    };
    let (authority, path) = match rest.find(['/', '?']) {
        Some(at) if rest[at..].starts_with('/') => (&rest[..at], rest[at..].to_owned()),
        Some(at) => (&rest[..at], format!("/{}", &rest[at..])),
        None => (rest, "/".to_owned()),
    };
    let options = RequestOptions::new();
    let nanos = Some(u64::from(timeout_ms) * NANOS_PER_MILLI);
    // A host that cannot keep a time-out has the call's deadline.
    let _ = options.set_connect_timeout(nanos);
    let _ = options.set_first_byte_timeout(nanos);
    let _ = options.set_between_bytes_timeout(nanos);
    let (trailers_writer, trailers) = wit_future::new(|| Ok(None));
    drop(trailers_writer);
    let (request, _sent) = Request::new(headers, body, trailers, Some(options));
    request.set_scheme(Some(&scheme)).map_err(unfit)?;
    request.set_authority(Some(authority)).map_err(unfit)?;
    request.set_path_with_query(Some(&path)).map_err(unfit)?;
    Ok(request)
}
