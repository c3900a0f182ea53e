//! The loop that accepts connections to the admin address: what says that something is wrong must not end unseen itself.

use super::audit::Peer;
use super::tls::{Certificate, Secured};
use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// What it is, for metrics and `/readyz`.
const KIND: &str = "admin";
/// Time after which accepting is tried again where the system has no more file descriptors.
const RETRY: Duration = Duration::from_millis(100);

/// Serves the admin address for as long as it is not dropped: over TLS where it has a certificate.
pub async fn serve(listener: TcpListener, router: Router, certificate: Option<Certificate>) {
    let listener = Arc::new(listener);
    match certificate {
        Some(certificate) => {
            serve_on(|| Secured::new(Shared(listener.clone()), certificate.clone()), &router).await;
        }
        None => serve_on(|| Shared(listener.clone()), &router).await,
    }
}

async fn serve_on<L>(listener: impl Fn() -> L, router: &Router)
where
    L: Listener<Addr = SocketAddr>,
    Peer: for<'a> Connected<IncomingStream<'a, L>>,
{
    let run = || async {
        let service = router.clone().into_make_service_with_connect_info::<Peer>();
        if let Err(error) = axum::serve(listener(), service).await {
            tracing::error!(%error, "the admin server failed");
        }
    };
    fnhost_metrics::supervise(KIND, "", run).await;
}

/// The listener of a loop that may be run again.
pub(super) struct Shared(Arc<TcpListener>);

impl Listener for Shared {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to the admin address");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Connected<IncomingStream<'_, Shared>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Shared>) -> Self {
        Self { address: *stream.remote_addr(), is_secure: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Panics at its first accept.
    struct Faulty(Shared, Arc<AtomicBool>);

    impl Listener for Faulty {
        type Io = TcpStream;
        type Addr = SocketAddr;

        async fn accept(&mut self) -> (TcpStream, SocketAddr) {
            assert!(self.1.swap(true, Ordering::AcqRel), "a fault of the loop, for this test");
            self.0.accept().await
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            self.0.local_addr()
        }
    }

    impl Connected<IncomingStream<'_, Faulty>> for Peer {
        fn connect_info(stream: IncomingStream<'_, Faulty>) -> Self {
            Self { address: *stream.remote_addr(), is_secure: false }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_loop_that_panics_goes_on() {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let (address, panicked) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let router = Router::new().route("/healthz", get(|| async { "ok" }));
        let serving = tokio::spawn(async move {
            serve_on(|| Faulty(Shared(listener.clone()), panicked.clone()), &router).await;
        });
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut answer));
        read.await.expect("an answer").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");
        assert!(
            fnhost_metrics::ailing_tasks().iter().any(|line| line.starts_with("admin: ended by a panic"))
        );
        serving.abort();
    }
}
