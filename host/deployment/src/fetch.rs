//! Fetches code from a URL. What arrives is used only if it has the SHA-256 that was given with the URL.

use super::COMPONENT_BYTES_MAX;
use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use std::pin::pin;
use std::time::Duration;
use wasmtime_wasi_http::{RequestOptions, default_send_request};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest fetch, redirects included.
const FETCH_TIMEOUT: Duration = Duration::from_secs(120);
/// Redirects that are followed.
const REDIRECTS_MAX: usize = 5;

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It is not one that can be fetched.
    #[error("{0} is not a URL of the form http://HOST/PATH or https://HOST/PATH")]
    Url(String),
    /// The server could not be reached, or broke off.
    #[error("cannot fetch {url}: {reason}")]
    Failed {
        /// URL that was requested.
        url: String,
        /// What failed, for the message.
        reason: String,
    },
    /// It answered something else.
    #[error("{url} answered {status}")]
    Status {
        /// URL that was requested.
        url: String,
        /// Status of the answer.
        status: StatusCode,
    },
    /// It is larger than a component may be.
    #[error("{0} has more than {COMPONENT_BYTES_MAX} bytes")]
    TooLarge(String),
    /// It took too long.
    #[error("{0} did not arrive within {FETCH_TIMEOUT:?}")]
    TimedOut(String),
}

/// Fetches what `url` has, over HTTP or HTTPS, at most [`COMPONENT_BYTES_MAX`] bytes.
///
/// # Errors
/// As the variants say.
pub async fn fetch(url: &str) -> Result<Vec<u8>, FetchError> {
    match tokio::time::timeout(FETCH_TIMEOUT, follow(url)).await {
        Ok(fetched) => fetched,
        Err(_) => Err(FetchError::TimedOut(url.to_owned())),
    }
}

async fn follow(url: &str) -> Result<Vec<u8>, FetchError> {
    let mut at = url::Url::parse(url).map_err(|_| FetchError::Url(url.to_owned()))?;
    for _ in 0..=REDIRECTS_MAX {
        match get(&at).await? {
            Answer::Body(body) => return Ok(body),
            Answer::Redirect(to) => at = at.join(&to).map_err(|_| FetchError::Url(to))?,
        }
    }
    Err(FetchError::Failed { url: url.to_owned(), reason: format!("more than {REDIRECTS_MAX} redirects") })
}

enum Answer {
    Body(Vec<u8>),
    Redirect(String),
}

async fn get(url: &url::Url) -> Result<Answer, FetchError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(FetchError::Url(url.to_string()));
    }
    let failed = |reason: String| FetchError::Failed { url: url.to_string(), reason };
    let uri: Uri = url.as_str().parse().map_err(|_| FetchError::Url(url.to_string()))?;
    let host = uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
    let request = Request::get(uri)
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("fnhost/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new().map_err(|never| match never {}))
        .map_err(|error| failed(error.to_string()))?;
    let options = RequestOptions {
        connect_timeout: Some(CONNECT_TIMEOUT),
        first_byte_timeout: Some(FETCH_TIMEOUT),
        between_bytes_timeout: Some(FETCH_TIMEOUT),
    };
    let (response, transfer) =
        default_send_request(request, Some(options)).await.map_err(|error| failed(error.to_string()))?;
    let (head, body) = response.into_parts();
    if head.status.is_redirection()
        && let Some(to) = head.headers.get(header::LOCATION).and_then(|to| to.to_str().ok())
    {
        return Ok(Answer::Redirect(to.to_owned()));
    }
    if head.status != StatusCode::OK {
        return Err(FetchError::Status { url: url.to_string(), status: head.status });
    }
    let read = async {
        let mut body = pin!(body);
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| failed(error.to_string()))?;
            if let Some(data) = frame.data_ref() {
                if bytes.len() + data.len() > COMPONENT_BYTES_MAX {
                    return Err(FetchError::TooLarge(url.to_string()));
                }
                bytes.extend_from_slice(data);
            }
        }
        Ok(Answer::Body(bytes.to_vec()))
    };
    // The transfer drives the connection.
    let (read, ended) = (pin!(read), pin!(transfer));
    match futures::future::select(read, ended).await {
        futures::future::Either::Left((answer, _)) => answer,
        futures::future::Either::Right((_, read)) => read.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// A server that gives each path its answer, for as long as the test runs.
    async fn serve() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let length = stream.read(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default();
                let answer = match path {
                    "/code" => "200 OK\r\ncontent-length: 4\r\n\r\ncode".to_owned(),
                    "/away" => "302 Found\r\nlocation: /code\r\ncontent-length: 0\r\n\r\n".to_owned(),
                    "/round" => "302 Found\r\nlocation: /round\r\ncontent-length: 0\r\n\r\n".to_owned(),
                    "/cut" => "200 OK\r\ncontent-length: 40\r\n\r\ncode".to_owned(),
                    "/large" => {
                        let body = "x".repeat(COMPONENT_BYTES_MAX + 1);
                        format!("200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
                    }
                    _ => "404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
                };
                // A client that has read enough hangs up.
                let _ = stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await;
            }
        });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn code_is_fetched_whole_or_not_at_all() {
        let server = serve().await;
        for path in ["/code", "/away"] {
            assert_eq!(fetch(&format!("{server}{path}")).await.unwrap(), b"code", "{path}");
        }
        for (url, expected) in [
            (format!("{server}/nothing"), "answered 404"),
            (format!("{server}/round"), "more than 5 redirects"),
            (format!("{server}/cut"), "cannot fetch"),
            (format!("{server}/large"), "more than 67108864 bytes"),
            ("ftp://127.0.0.1/code".to_owned(), "is not a URL"),
            ("code".to_owned(), "is not a URL"),
        ] {
            let error = fetch(&url).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{url}: {error}");
        }
    }
}
