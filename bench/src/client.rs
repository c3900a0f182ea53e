//! A small HTTP client: keep-alive connections without Nagle's delay.

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// A connection that is kept alive.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    cache_control: Option<&'static str>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the sender.
        tokio::spawn(connection);
        Ok(Self { sender, cache_control: None })
    }

    /// What all its requests say in `cache-control`.
    pub fn with_cache_control(self, cache_control: Option<&'static str>) -> Self {
        Self { cache_control, ..self }
    }

    /// Sends one request and reads the whole answer. `token` is sent as the bearer's where it is not empty.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn call(
        &mut self,
        method: Method,
        path: &str,
        token: &str,
        body: Bytes,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(control) = self.cache_control {
            request = request.header("cache-control", control);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        self.exchange(request.body(Full::new(body))?).await
    }

    /// Sends a file of that content type, as a POST.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn upload(
        &mut self,
        path: &str,
        content_type: &str,
        token: &str,
        body: Bytes,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let request = Request::post(path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {}", token.trim()))
            .header("content-type", content_type);
        self.exchange(request.body(Full::new(body))?).await
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)> {
        // The answer before is read, but the connection may still have to notice.
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    /// Sends JSON and reads JSON.
    ///
    /// # Errors
    /// The answer is not of this status.
    pub async fn post(
        &mut self,
        path: &str,
        token: &str,
        body: &serde_json::Value,
        expected: StatusCode,
    ) -> anyhow::Result<serde_json::Value> {
        let (status, answer) = self.call(Method::POST, path, token, body.to_string().into()).await?;
        let text = String::from_utf8_lossy(&answer);
        anyhow::ensure!(status == expected, "POST {path}: {status}: {text}");
        serde_json::from_slice(&answer).with_context(|| format!("POST {path}: {text}"))
    }
}

/// Whether a GET is answered with 200.
pub async fn answers(address: SocketAddr, path: &str) -> bool {
    let asked = async {
        let mut connection = Connection::open(address).await?;
        connection.call(Method::GET, path, "", Bytes::new()).await
    };
    asked.await.is_ok_and(|(status, _)| status == StatusCode::OK)
}
