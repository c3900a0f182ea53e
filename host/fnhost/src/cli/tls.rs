//! TLS to an admin address.

use anyhow::Context as _;
use fnhost_types::trust;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// TLS on a connection to `address`, `HOST:PORT`: its certificate has to be for the host, and signed by this authority or, where none is
/// given, by one of the system's.
///
/// # Errors
/// The authority cannot be read, or the certificate is not good.
pub(super) async fn secure(
    address: &str,
    authority: Option<&Path>,
    stream: TcpStream,
) -> anyhow::Result<TlsStream<TcpStream>> {
    let authorities = match authority {
        Some(path) => Arc::new(read(path).with_context(|| format!("--admin-ca {}", path.display()))?),
        None => trust::authorities()?,
    };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authorities)
        .with_no_client_auth();
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned())
        .with_context(|| format!("\"{host}\" cannot be in a certificate"))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected.map_err(|error| match trust::certificate_error(&error) {
        Some(why) => anyhow::anyhow!(
            "its certificate is not good ({why}): pass that of its authority with --admin-ca (FNHOST_ADMIN_CA), and ask by a name that \
             is in it"
        ),
        None => error.into(),
    })
}

fn read(path: &Path) -> anyhow::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path)? {
        store.add(certificate?)?;
    }
    anyhow::ensure!(!store.is_empty(), "there is no certificate in it");
    Ok(store)
}
