//! Whom TLS connections believe: the certificate authorities of the system, or, in their place, those in the file of
//! `SSL_CERT_FILE` and the folders of `SSL_CERT_DIR`, as OpenSSL reads these variables. Where a system has none, those that Mozilla
//! trusts. They are read once: a change counts from the next start.

use std::error::Error;
use std::io;
use std::sync::{Arc, LazyLock};

use rustls::{CertificateError, RootCertStore};

/// What names authorities in place of the system's.
const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// A variable names authorities, and there are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{variables} has no certificate authorities ({reason}); name a readable file with certificates in PEM in SSL_CERT_FILE, or \
     unset it to trust those of the system"
)]
pub struct NoAuthorities {
    /// The variables that are set, with their values.
    variables: String,
    reason: String,
}

/// The authorities of this process.
///
/// # Errors
/// It was told of authorities that cannot be read.
pub fn authorities() -> Result<Arc<RootCertStore>, NoAuthorities> {
    static AUTHORITIES: LazyLock<Result<Arc<RootCertStore>, NoAuthorities>> = LazyLock::new(read);
    AUTHORITIES.clone()
}

fn read() -> Result<Arc<RootCertStore>, NoAuthorities> {
    let named = VARIABLES.iter().filter_map(|name| {
        let value = std::env::var_os(name)?;
        Some(format!("{name}={}", value.display()))
    });
    let named: Vec<String> = named.collect();
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(found.certs);
    let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
    match (added, named.is_empty()) {
        (0, false) => {
            let reason = reasons.first().cloned().unwrap_or_else(|| "no PEM certificate".to_owned());
            return Err(NoAuthorities { variables: named.join(" "), reason });
        }
        (0, true) => {
            tracing::info!("the system has no certificate authorities; using Mozilla's list");
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        _ => {}
    }
    for reason in reasons {
        tracing::warn!("some certificate authorities cannot be read and are ignored: {reason}");
    }
    Ok(Arc::new(store))
}

/// Why the certificate of `host`, which is a name or an address, is not believed, and the cure.
pub fn distrust(host: &str, why: &CertificateError) -> String {
    use CertificateError as E;
    match why {
        E::UnknownIssuer => {
            "its certificate is not signed by a trusted authority; if it should be trusted, add the authority's \
             certificate to the system's, or name a PEM file of all that are trusted in SSL_CERT_FILE, and restart"
                .to_owned()
        }
        E::NotValidForName => other_name(host, "another name"),
        E::NotValidForNameContext { presented, .. } if presented.is_empty() => other_name(host, "no name"),
        // As they are in the certificate: `DnsName("example.com")`.
        E::NotValidForNameContext { presented, .. } => other_name(host, &presented.join(", ")),
        E::Expired | E::ExpiredContext { .. } => {
            "its certificate has expired; have the host renew it, or set this machine's clock".to_owned()
        }
        E::NotValidYet | E::NotValidYetContext { .. } => {
            "its certificate is not valid yet; set this machine's clock, or the host's".to_owned()
        }
        other => format!("its certificate is not valid ({other}); have the host replace it"),
    }
}

fn other_name(host: &str, presented: &str) -> String {
    format!(
        "its certificate is for {presented} and not for {host}; ask for it by a name that the certificate has, in the URL and in \
         allowed_outbound_hosts, or have the host get one for this name"
    )
}

/// What is wrong with a certificate, where that is why a connection failed.
pub fn certificate_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e CertificateError> {
    let mut next = Some(error);
    while let Some(error) = next {
        // What I/O errors and shared ones hold is the next of a chain, and not told as such.
        let held =
            match (error.downcast_ref::<io::Error>(), error.downcast_ref::<Arc<dyn Error + Send + Sync>>()) {
                (Some(outer), _) => outer.get_ref().map(|inner| inner as &(dyn Error + 'static)),
                (_, Some(shared)) => Some(&**shared as &(dyn Error + 'static)),
                _ => error.source(),
            };
        if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
            return Some(why);
        }
        next = held;
    }
    None
}
