//! Connections to one host: kept after an answer has been read, and used again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use wasmtime_wasi_http::{Error, WasiBody};

use super::tls;
use fnhost_metrics::OutboundMetrics;

/// Time that an unused connection is kept: shorter than servers usually keep theirs, which is what closes them under a request.
const IDLE_FOR: Duration = Duration::from_secs(15);

/// Host, port and scheme of a connection: connections to equal addresses are interchangeable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// A name or an address, IPv6 in brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether it is TLS.
    pub tls: bool,
}

/// The connections of one host.
#[derive(Debug)]
pub struct Pool {
    address: Address,
    idle_max: usize,
    idle: Mutex<Vec<Idle>>,
    /// Why the last one was not agreed on; said when it changes, and not for each try.
    refused: Mutex<Option<String>>,
    metrics: OutboundMetrics,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<WasiBody>,
    since: Instant,
}

/// A connection in use. Dropped, it is closed; [`Connection::keep`] gives it back.
#[derive(Debug)]
pub struct Connection {
    /// Handle that sends requests on the connection.
    pub sender: SendRequest<WasiBody>,
    /// Whether it has carried a request before: the host may be about to close it.
    pub kept: bool,
    pool: Arc<Pool>,
}

impl Pool {
    /// No connection yet; `idle_max` are kept at most.
    pub fn new(address: Address, idle_max: usize, metrics: OutboundMetrics) -> Self {
        Self { address, idle_max, idle: Mutex::default(), refused: Mutex::default(), metrics }
    }

    /// A connection that was kept, the latest first, so that those that are not needed grow old.
    pub fn kept(self: &Arc<Self>) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(Idle { sender, since }) = idle.pop() {
            if since.elapsed() > IDLE_FOR {
                // All below it are older.
                idle.clear();
            } else if !sender.is_closed() {
                return Some(Connection { sender, kept: true, pool: self.clone() });
            }
        }
        None
    }

    /// A new connection.
    ///
    /// # Errors
    /// The host cannot be found or reached, or its certificate is not good.
    pub async fn open(self: &Arc<Self>) -> Result<Connection, Error> {
        let Address { host, port, tls } = &self.address;
        let stream = TcpStream::connect(format!("{host}:{port}")).await.map_err(Error::Connect)?;
        stream.set_nodelay(true).map_err(Error::Connect)?;
        let sender = if *tls {
            let secured = tls::secure(host, stream).await;
            self.say(secured.as_ref().err().map(|refused| refused.reason.as_str()));
            handshake(secured.map_err(|refused| refused.error)?).await?
        } else {
            handshake(stream).await?
        };
        self.metrics.connected();
        Ok(Connection { sender, kept: false, pool: self.clone() })
    }

    /// Tells people why there is no TLS, where they were not told so before.
    fn say(&self, reason: Option<&str>) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.as_deref() != reason {
            *refused = reason.map(str::to_owned);
            if let Some(reason) = reason {
                let Address { host, port, .. } = &self.address;
                tracing::warn!("no connection to https://{host}:{port}: {reason}");
            }
        }
    }
}

impl Connection {
    /// Gives it back: its answer has been read to the end.
    pub fn keep(self) {
        let Self { sender, pool, .. } = self;
        if sender.is_closed() {
            return;
        }
        let mut idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|idle| idle.since.elapsed() <= IDLE_FOR);
        if idle.len() < pool.idle_max {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }
}

/// HTTP/1.1 on a stream; the connection ends when its sender is dropped.
async fn handshake<S>(stream: S) -> Result<SendRequest<WasiBody>, Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::Builder::new().handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an outbound connection ended");
        }
    });
    Ok(sender)
}
