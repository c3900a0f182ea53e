//! TLS at the admin address.

use super::audit::Peer;
use super::listen::Shared;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

/// Time that a client has for its part of a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes under way at a time; more connections wait to be accepted.
const HANDSHAKES_MAX: usize = 64;
/// The one version of HTTP that is spoken, by its name in ALPN.
const HTTP_1_1: &[u8] = b"http/1.1";

/// What the admin address shows, and the key of it.
#[derive(Clone)]
pub struct Certificate(TlsAcceptor);

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}

impl Certificate {
    /// Reads a certificate with those that lead to its authority, and its key, both PEM.
    ///
    /// # Errors
    /// A file cannot be read, or the two do not belong together.
    pub fn read(chain: &Path, key: &Path) -> Result<Self, String> {
        let failed = |path: &Path, what: &str, error: &dyn fmt::Display| {
            format!("cannot read {what} from {}: {error}", path.display())
        };
        let certificates = CertificateDer::pem_file_iter(chain)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| failed(chain, "certificates", &error))?;
        let private =
            PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, "a private key", &error))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_single_cert(certificates, private)
            .map_err(|error| format!("{} and {}: {error}", chain.display(), key.display()))?;
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }
}

/// A listener whose connections have done their handshake. One that is slow holds up no other.
pub(super) struct Secured {
    plain: Shared,
    certificate: Certificate,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
}

impl Secured {
    pub(super) fn new(plain: Shared, certificate: Certificate) -> Self {
        Self { plain, certificate, handshakes: JoinSet::new() }
    }

    fn shake_hands(&mut self, stream: TcpStream, address: SocketAddr) {
        let handshake = self.certificate.0.accept(stream);
        self.handshakes.spawn(async move {
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
                Ok(Ok(stream)) => return Some((stream, address)),
                Ok(Err(error)) => tracing::debug!(%address, %error, "no TLS at the admin address"),
                Err(_) => tracing::debug!(%address, "no TLS at the admin address in time"),
            }
            None
        });
    }
}

impl Listener for Secured {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            tokio::select! {
                (stream, address) = self.plain.accept(), if self.handshakes.len() < HANDSHAKES_MAX => {
                    self.shake_hands(stream, address);
                }
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(ready)) = done {
                        return ready;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.plain.local_addr()
    }
}

impl Connected<IncomingStream<'_, Secured>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Secured>) -> Self {
        Self { address: *stream.remote_addr(), is_secure: true }
    }
}
