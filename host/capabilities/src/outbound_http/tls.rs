//! TLS to a host, and what is said where its certificate is not believed.

use std::io;
use std::sync::{Arc, LazyLock};

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wasmtime_wasi_http::Error;

use fnhost_types::trust::{self, NoAuthorities};

/// The one version of HTTP that is spoken, by its name in ALPN.
const HTTP_1_1: &[u8] = b"http/1.1";

/// Why there is no TLS.
#[derive(Debug)]
pub struct Refused {
    /// What the function is told.
    pub error: Error,
    /// What people are told: why, and what to do.
    pub reason: String,
}

/// The configuration of every host.
///
/// # Errors
/// The process was told of authorities that cannot be read.
pub fn connector() -> Result<TlsConnector, NoAuthorities> {
    static CONNECTOR: LazyLock<Result<TlsConnector, NoAuthorities>> = LazyLock::new(|| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the suites of TLS 1.2 and 1.3")
            .with_root_certificates(trust::authorities()?)
            .with_no_client_auth();
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    });
    CONNECTOR.clone()
}

/// TLS on a connection to `host`, which is a name or an address.
pub async fn secure(host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, Refused> {
    let connector = connector()
        .map_err(|error| Refused { error: Error::ConfigurationError, reason: error.to_string() })?;
    // An address of IPv6 without its brackets.
    let bare = host.trim_matches(['[', ']']);
    let name = ServerName::try_from(bare.to_owned()).map_err(|error| {
        let reason = format!("\"{bare}\" cannot be in a certificate: {error}");
        Refused { error: Error::InvalidDnsNameError(error), reason }
    })?;
    connector.connect(name, stream).await.map_err(|error| refused(bare, error))
}

fn refused(host: &str, error: io::Error) -> Refused {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let (error, reason) = match cause {
        Some(rustls::Error::InvalidCertificate(why)) => {
            (Error::TlsCertificateError, trust::distrust(host, why))
        }
        Some(rustls::Error::AlertReceived(alert)) => {
            let code = Error::TlsAlertReceived {
                alert_id: Some(u8::from(*alert)),
                alert_message: Some(format!("{alert:?}")),
            };
            (code, alerted(*alert))
        }
        Some(rustls::Error::InvalidMessage(_)) => {
            let reason = "it does not answer with TLS; if it speaks plain HTTP on this port, write http://";
            (Error::TlsProtocolError, reason.to_owned())
        }
        Some(other) => (Error::TlsProtocolError, other.to_string()),
        None => {
            let reason = format!("the connection broke during the TLS handshake: {error}");
            (Error::ConnectionTerminated, reason)
        }
    };
    Refused { error, reason }
}

fn alerted(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => {
            "it requires a client certificate, and fnhost has none".to_owned()
        }
        AlertDescription::NoApplicationProtocol => "it does not speak HTTP/1.1".to_owned(),
        other => format!("it refused TLS: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{CertificateError, InvalidMessage};

    #[test]
    fn what_is_refused_has_its_cure() {
        use CertificateError as E;
        use rustls::Error as Tls;
        let presented = |names: &[&str]| E::NotValidForNameContext {
            expected: ServerName::try_from("pay.example").unwrap(),
            presented: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        for (cause, code, cure) in [
            (Tls::InvalidCertificate(E::UnknownIssuer), "TlsCertificateError", "in SSL_CERT_FILE"),
            (
                Tls::InvalidCertificate(presented(&["a.example", "b.example"])),
                "TlsCertificateError",
                "for a.example, b.example and not for pay.example",
            ),
            (
                Tls::InvalidCertificate(presented(&[])),
                "TlsCertificateError",
                "for no name and not for pay.example",
            ),
            (Tls::InvalidCertificate(E::Expired), "TlsCertificateError", "have the host renew it"),
            (Tls::InvalidCertificate(E::NotValidYet), "TlsCertificateError", "set this machine's clock"),
            (Tls::InvalidCertificate(E::Revoked), "TlsCertificateError", "have the host replace it"),
            (Tls::AlertReceived(AlertDescription::HandshakeFailure), "TlsAlertReceived", "HandshakeFailure"),
            (
                Tls::AlertReceived(AlertDescription::CertificateRequired),
                "TlsAlertReceived",
                "client certificate",
            ),
            (Tls::AlertReceived(AlertDescription::NoApplicationProtocol), "TlsAlertReceived", "HTTP/1.1"),
            (Tls::InvalidMessage(InvalidMessage::InvalidContentType), "TlsProtocolError", "write http://"),
            (Tls::HandshakeNotComplete, "TlsProtocolError", ""),
        ] {
            let Refused { error, reason } = refused("pay.example", io::Error::other(cause.clone()));
            assert!(format!("{error:?}").starts_with(code), "{cause:?}: {error:?}");
            assert!(reason.contains(cure), "{cause:?}: {reason}");
        }
        let broken = refused("pay.example", io::ErrorKind::UnexpectedEof.into());
        assert!(matches!(broken.error, Error::ConnectionTerminated), "{broken:?}");
    }
}
