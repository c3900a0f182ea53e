//! A host that is asked over HTTPS, with a certificate made for the test.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// See the module. Ends with this value.
#[derive(Debug)]
pub struct SecureHost {
    port: u16,
    counts: Arc<Counts>,
    _served: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Counts {
    handshakes: AtomicUsize,
    refused: AtomicUsize,
    requests: AtomicUsize,
}

impl SecureHost {
    /// Answers every request with `answer` of its path, by the certificate NAME`.pem` and its key in the folder.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn start(folder: &Path, name: &str, answer: fn(&str) -> String) -> anyhow::Result<Self> {
        let certificate = CertificateDer::from_pem_file(folder.join(format!("{name}.pem")))?;
        let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key")))?;
        let config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let counts = Arc::new(Counts::default());
        let mut served = JoinSet::new();
        served.spawn(serve(listener, acceptor, counts.clone(), answer));
        Ok(Self { port, counts, _served: served })
    }

    /// Its URL by this name.
    #[must_use]
    pub fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.port)
    }

    /// Connections on which TLS was agreed on.
    #[must_use]
    pub fn handshakes(&self) -> usize {
        self.counts.handshakes.load(Ordering::SeqCst)
    }

    /// Connections that a client gave up because of the certificate.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.counts.refused.load(Ordering::SeqCst)
    }

    /// Requests.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::SeqCst)
    }
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    counts: Arc<Counts>,
    answer: fn(&str) -> String,
) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, counts) = (acceptor.clone(), counts.clone());
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                counts.refused.fetch_add(1, Ordering::SeqCst);
                return;
            };
            counts.handshakes.fetch_add(1, Ordering::SeqCst);
            let service = service_fn(|request: Request<Incoming>| {
                counts.requests.fetch_add(1, Ordering::SeqCst);
                let body = Full::new(Bytes::from(answer(request.uri().path())));
                async move { Ok::<_, Infallible>(Response::new(body)) }
            });
            // It ends where the client hangs up.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
