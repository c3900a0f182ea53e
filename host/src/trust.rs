//! Whom TLS connections believe: the certificate authorities of the system, or, in their place, those in the file of
//! `SSL_CERT_FILE` and the folders of `SSL_CERT_DIR`, as OpenSSL reads these variables. Where a system has none, those that Mozilla
//! trusts. They are read once: a change counts from the next start.

use std::sync::{Arc, LazyLock};

use rustls::RootCertStore;

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
            let reason = reasons.first().cloned().unwrap_or_else(|| "no certificate in PEM".to_owned());
            return Err(NoAuthorities { variables: named.join(" "), reason });
        }
        (0, true) => {
            tracing::info!("the system has no certificate authorities: those that Mozilla trusts count");
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        _ => {}
    }
    for reason in reasons {
        tracing::warn!("some certificate authorities cannot be read, and do not count: {reason}");
    }
    Ok(Arc::new(store))
}
