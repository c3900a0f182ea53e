//! The HTTP handler: the first segment of the path names the behaviour, the rest is its argument.

use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt as _;
use http_body_util::BodyExt as _;
use spin_sdk::http::{
    BoxBody, FullBody, HeaderName, IntoResponse, Request, Response, StatusCode, body, box_body,
};
use spin_sdk::http_service;

use crate::misbehave;

/// Bytes of each part of a streamed answer.
const PART_BYTES: usize = 64 << 10;

#[http_service]
async fn handle(request: Request) -> anyhow::Result<impl IntoResponse> {
    let path = request.uri().path().to_owned();
    let (behaviour, argument) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
    misbehave(behaviour);
    match behaviour {
        "echo" => Ok(text(request.into_body().collect().await?.to_bytes())),
        "length" => {
            let length = match request.into_body().collect().await {
                Ok(body) => body.to_bytes().len().to_string(),
                Err(error) => format!("cannot read the body: {error}"),
            };
            Ok(text(length))
        }
        // Takes whatever came for the whole, as a function does that does not look at how its body ended.
        "heedless" => {
            let (mut body, mut length) = (request.into_body(), 0);
            while let Some(Ok(frame)) = body.frame().await {
                length += frame.data_ref().map_or(0, Bytes::len);
            }
            Ok(text(length.to_string()))
        }
        "request" => {
            let headers: Vec<(String, String)> = request
                .headers()
                .iter()
                .map(|(name, value)| {
                    (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
                })
                .collect();
            let seen = serde_json::json!({
                "method": request.method().as_str(),
                "uri": request.uri().to_string(),
                "headers": headers,
            });
            Ok(text(seen.to_string()))
        }
        "variable" => match spin_sdk::variables::get(argument).await {
            Ok(value) => Ok(text(value)),
            Err(error) => Ok(text(format!("error: {error}"))),
        },
        "environment" => Ok(text(std::env::var(argument).unwrap_or_default())),
        "fetch" => {
            let url = argument.replacen('/', "://", 1);
            match spin_sdk::http::get(&url).await {
                Ok(response) => {
                    let status = response.status().as_u16();
                    let body = response.into_body().collect().await?.to_bytes();
                    Ok(text(format!("{status} {}", String::from_utf8_lossy(&body))))
                }
                Err(error) => Ok(text(format!("error: {error:?}"))),
            }
        }
        "error" => Err(anyhow::anyhow!("secret detail")),
        "status" => Ok(answer(StatusCode::from_bytes(argument.as_bytes())?, Bytes::new())),
        "sleep" => {
            spin_sdk::time::sleep(Duration::from_millis(argument.parse()?)).await;
            Ok(text("awake"))
        }
        "header" => {
            let (name, value) = argument.split_once('/').unwrap_or((argument, ""));
            let mut response = text("ok");
            response.headers_mut().insert(HeaderName::from_bytes(name.as_bytes())?, value.parse()?);
            Ok(response)
        }
        "stream" => Ok(stream(argument.parse()?, false)),
        "break" => Ok(stream(argument.parse()?, true)),
        _ => Ok(text("ok")),
    }
}

fn text(body: impl Into<Bytes>) -> Response<BoxBody> {
    answer(StatusCode::OK, body)
}

fn answer(status: StatusCode, body: impl Into<Bytes>) -> Response<BoxBody> {
    let mut response = Response::new(box_body(FullBody::new(body.into())));
    *response.status_mut() = status;
    response
}

/// Answers with so many parts, written after the head; may panic in the place of the last.
fn stream(parts: usize, breaks: bool) -> Response<BoxBody> {
    let (mut writer, body) = body::stream::<Bytes>();
    spin_sdk::wasip3::spawn(async move {
        for part in 0..parts {
            if breaks && part + 1 == parts {
                // While this task waits the handler returns, so that the head is out before the panic.
                spin_sdk::time::sleep(Duration::from_millis(1)).await;
                misbehave("panic");
            }
            if writer.send(Bytes::from(vec![b'a'; PART_BYTES])).await.is_err() {
                return;
            }
        }
    });
    Response::new(box_body(body))
}
