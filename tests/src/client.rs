//! HTTP/1.1 over kept connections: as many as there are requests at a time.

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time in which an answer must be there, its body included.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);

type Connection = SendRequest<Full<Bytes>>;

/// A client of one address; clones share its connections. Belongs to the tokio runtime that it is used in first.
#[derive(Clone, Debug)]
pub struct Client {
    address: Arc<str>,
    idle: Arc<Mutex<Vec<Connection>>>,
    /// Has the token of requests that bring none, once it is there.
    token: Option<Arc<Path>>,
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// Headers of the response.
    pub headers: HeaderMap,
    /// Body of the response, read to its end.
    pub body: Bytes,
}

impl Answer {
    /// Whether the edge refused the request because there is more to do than can be done: the client is told to wait.
    #[must_use]
    pub fn is_overload(&self) -> bool {
        let says = |part: &[u8]| self.body.windows(part.len()).any(|text| text == part);
        self.status == StatusCode::SERVICE_UNAVAILABLE && says(b"more to do than can be done")
    }
}

impl Client {
    /// A client of `address`, which is `host:port` or `http://host:port`.
    ///
    /// # Errors
    /// It is not of that form.
    pub fn new(address: &str) -> anyhow::Result<Self> {
        let bare = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
        let authority: http::uri::Authority =
            bare.parse().with_context(|| format!("{address} is not of the form http://HOST:PORT"))?;
        let port = authority.port_u16().unwrap_or(80);
        let address = format!("{}:{port}", authority.host()).into();
        Ok(Self { address, idle: Arc::default(), token: None })
    }

    /// The same with the token in a file, which need not be there yet.
    #[must_use]
    pub fn with_token_of(self, file: &Path) -> Self {
        Self { token: Some(file.into()), ..self }
    }

    /// Where it connects, `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A request without body or headers.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(request(Method::GET, path, None, None)?).await
    }

    /// Sends a request; `host` is added.
    ///
    /// # Errors
    /// There was no whole answer within [`REQUEST_TIMEOUT`]. Whether the request was carried out is not known then.
    pub async fn send(&self, mut request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        request.headers_mut().insert(header::HOST, self.address.parse()?);
        let token = self.token.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
        if let Some(token) = token.filter(|_| !request.headers().contains_key(header::AUTHORIZATION)) {
            let value = format!("Bearer {}", token.trim());
            request.headers_mut().insert(header::AUTHORIZATION, value.parse()?);
        }
        let what = format!("{} http://{}{}", request.method(), self.address, request.uri());
        match timeout(REQUEST_TIMEOUT, self.exchange(request)).await {
            Ok(answer) => answer.with_context(|| format!("no answer to {what}")),
            Err(_) => anyhow::bail!("no answer to {what} within {REQUEST_TIMEOUT:?}"),
        }
    }

    /// Sends a request on a connection of its own and answers when the head is there; the body is read as it comes.
    ///
    /// # Errors
    /// There was no head within [`REQUEST_TIMEOUT`].
    pub async fn stream(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> anyhow::Result<http::Response<Incoming>> {
        request.headers_mut().insert(header::HOST, self.address.parse()?);
        let mut connection = self.connect().await?;
        Ok(timeout(REQUEST_TIMEOUT, connection.send_request(request)).await??)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        let mut connection = match self.take_idle() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let (head, body) = connection.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        // Kept only after a whole answer: anything else leaves the connection in the middle of one.
        if connection.ready().await.is_ok() {
            self.idle().push(connection);
        }
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle();
        while let Some(connection) = idle.pop() {
            if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(&*self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Ends with the connection; what goes wrong on it is reported to the request that it carries.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    /// The body as JSON, of an answer with this status.
    ///
    /// # Errors
    /// Another status, or a body that is something else; the error quotes both.
    pub fn json<T: DeserializeOwned>(&self, expected: StatusCode) -> anyhow::Result<T> {
        anyhow::ensure!(self.status == expected, "expected {expected}, but it is {self}");
        serde_json::from_slice(&self.body).with_context(|| format!("not the JSON that is expected: {self}"))
    }

    /// A header's value; empty where it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.status, String::from_utf8_lossy(&self.body))
    }
}

/// A request with a bearer token and a JSON body, each where given.
///
/// # Errors
/// The path or the token cannot stand in a request.
pub fn request(
    method: Method,
    path: &str,
    token: Option<&str>,
    json: Option<&serde_json::Value>,
) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = match json {
        Some(json) => {
            request = request.header(header::CONTENT_TYPE, "application/json");
            json.to_string().into()
        }
        None => Bytes::new(),
    };
    Ok(request.body(Full::new(body))?)
}
