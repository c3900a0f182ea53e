//! Asks a running fnhost at its admin address.

use super::admin::{TOKEN_VARIABLE, given_token};
use super::tls;
use anyhow::Context as _;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Longest wait for an answer: a swap compiles, and waits until all hosts run the version.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// Where a running fnhost is asked.
#[derive(Args, Debug, Clone)]
pub struct Remote {
    /// Admin address of any running fnhost of the deployment; https://HOST:PORT where it has a certificate
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3001", env = "FNHOST_ADMIN")]
    admin: String,
    /// Data directory of that fnhost, for its token; one that was started by the same account is found by itself
    #[arg(long, value_name = "DIR", default_value = ".fnhost", env = "FNHOST_DATA_DIR")]
    data_dir: PathBuf,
    /// Certificate of the authority that has signed that of an https address, PEM; without it those of the system are trusted
    #[arg(long = "admin-ca", value_name = "FILE", env = "FNHOST_ADMIN_CA")]
    authority: Option<PathBuf>,
}

impl Remote {
    /// Reads `path`.
    ///
    /// # Errors
    /// There is no answer, or it is an error.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// Sends JSON to `path`.
    ///
    /// # Errors
    /// As [`Remote::get`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> anyhow::Result<T> {
        self.ask(Method::POST, path, body.to_string().into()).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<T> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address().0)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, self.send(request));
        let (status, body) = answered.await.with_context(|| format!("{} did not answer", self.admin))??;
        if status == StatusCode::UNAUTHORIZED {
            anyhow::bail!(
                "{} asks for its token: set {TOKEN_VARIABLE}, or run this on its machine as the account that started it, with \
                 --data-dir where it is not found by itself",
                self.admin
            );
        }
        if !status.is_success() {
            anyhow::bail!("{}", String::from_utf8_lossy(&body).trim_end());
        }
        serde_json::from_slice(&body)
            .with_context(|| format!("the answer of {} is not from an fnhost", self.admin))
    }

    /// `HOST:PORT`, and whether it speaks HTTPS.
    fn address(&self) -> (&str, bool) {
        let plain = self.admin.strip_prefix("http://").unwrap_or(&self.admin);
        let secure = self.admin.strip_prefix("https://");
        (secure.unwrap_or(plain).trim_end_matches('/'), secure.is_some())
    }

    /// The token for who listens at `peer`.
    fn token(&self, peer: SocketAddr) -> Option<String> {
        given_token().or_else(|| fnhost_embedded::find_admin_token(&self.data_dir, peer))
    }

    async fn send(&self, mut request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)> {
        let cure = || {
            format!(
                "no fnhost answers at {}; pass its admin address with --admin (FNHOST_ADMIN), as https://HOST:PORT where it has a \
                 certificate",
                self.admin
            )
        };
        let (address, secure) = self.address();
        let stream = TcpStream::connect(address).await.with_context(cure)?;
        if let Some(token) = self.token(stream.peer_addr()?) {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .ok()
                .with_context(|| format!("{TOKEN_VARIABLE} cannot stand in a header"))?;
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        if secure {
            let stream = tls::secure(address, self.authority.as_deref(), stream).await;
            let stream = stream.with_context(|| format!("there is no TLS with {}", self.admin))?;
            return exchange(stream, request).await.with_context(cure);
        }
        exchange(stream, request).await.with_context(cure)
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let (head, body) = Response::into_parts(sender.send_request(request).await?);
    let body = body.collect().await?.to_bytes();
    connection.abort();
    Ok((head.status, body))
}
