//! Functions that ask a host over HTTPS: which certificates are believed, what is said of the others, and how many handshakes it takes.
//!
//! The function is the example `enrich`, run by `fnhost test` as it is in production: same component, same host, real TLS.

use anyhow::Context as _;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tests::certificates::Authority;
use tests::outcome::Outcome;
use tests::system::program;
use tests::tls::SecureHost;

/// Customers that are asked for, one request each.
const CUSTOMERS: usize = 20;

/// A folder with the example and its records, removed when dropped.
struct Example(PathBuf);

impl Example {
    /// A request at a time, so that one connection is enough.
    fn new() -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("a workspace")?;
        let folder = std::env::temp_dir().join(format!("fnhost-test-outbound-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let text = std::fs::read_to_string(root.join("examples/enrich/spin.toml"))?;
        let text = text.replace("\"../../target", &format!("\"{}/target", root.display()));
        let limits = "\n[component.enrich.tool.fnhost.outbound]\nmax_concurrent = 1\n";
        std::fs::write(folder.join("spin.toml"), text + limits)?;
        let record =
            |n| format!("{{\"topic\":\"purchases\",\"value\":{{\"customer\":{n},\"amount\":{n}}}}}\n");
        std::fs::write(folder.join("records.jsonl"), (0..CUSTOMERS).map(record).collect::<String>())?;
        Ok(Self(folder))
    }

    /// Runs the records against a host, with these authorities.
    async fn run(&self, url: String, authorities: &[(&str, &Path)]) -> anyhow::Result<Output> {
        let mut command = Command::new(program()?);
        command
            .args(["test", "records.jsonl", "--output", "json", "--data-dir", "data"])
            .current_dir(&self.0);
        for name in ["FNHOST_DATABASE", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
            command.env_remove(name);
        }
        command.env("SPIN_VARIABLE_CUSTOMERS_URL", url).envs(authorities.iter().copied());
        Ok(tokio::task::spawn_blocking(move || command.output()).await??)
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // The private Postgres may be kept elsewhere, where its account can reach it; a link leads there.
        if let Ok(elsewhere) = std::fs::read_link(self.0.join("data/test/postgres")) {
            let _ = std::fs::remove_dir_all(elsewhere);
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What became of the records, and why where they were not done.
fn outcomes(output: &Output) -> anyhow::Result<(Vec<String>, String)> {
    let told: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let text = |told: &Value, key: &str| told[key].as_str().unwrap_or_default().to_owned();
    let told = told.as_array().context("a list")?;
    let reason = told.first().map(|told| text(told, "reason")).unwrap_or_default();
    Ok((told.iter().map(|told| text(told, "outcome")).collect(), reason))
}

fn customer(path: &str) -> String {
    format!("{{\"path\":\"{path}\"}}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_asked_over_https_where_its_certificate_is_believed() -> Outcome {
    let example = Example::new()?;
    let folder = example.0.join("certificates");
    std::fs::create_dir_all(&folder).map_err(anyhow::Error::from)?;
    let (ours, theirs) = (Authority::new(&folder, "ours")?, Authority::new(&folder, "theirs")?);
    ours.issue("good", "DNS:localhost,IP:127.0.0.1")?;
    ours.issue("elsewhere", "DNS:elsewhere.example")?;
    ours.issue_expired("expired", "DNS:localhost").await?;
    theirs.issue("foreign", "DNS:localhost")?;
    let only_ours = folder.join("only-ours");
    std::fs::create_dir_all(&only_ours).map_err(anyhow::Error::from)?;
    std::fs::copy(ours.certificate(), only_ours.join("ca.pem")).map_err(anyhow::Error::from)?;

    let by_file = [("SSL_CERT_FILE", ours.certificate())];
    let by_folder = [("SSL_CERT_DIR", only_ours)];
    for (authorities, name) in [(&by_file, "localhost"), (&by_folder, "127.0.0.1")] {
        let host = SecureHost::start(&folder, "good", customer).await?;
        let authorities = authorities.each_ref().map(|(variable, path)| (*variable, path.as_path()));
        let output = example.run(host.url(name), &authorities).await?;
        let (outcomes, reason) = outcomes(&output)?;
        assert_eq!(outcomes, ["done"; CUSTOMERS], "{name}: {reason}");
        let seen = (host.handshakes(), host.requests());
        assert_eq!(seen, (1, CUSTOMERS), "{name}: handshakes and requests");
    }

    let trusted = ours.certificate();
    for (certificate, authorities, said) in [
        // Nobody told the process of the authority.
        ("good", None, "add the authority's certificate to the system's"),
        ("foreign", Some(&trusted), "name a PEM file of all that are trusted in SSL_CERT_FILE"),
        ("elsewhere", Some(&trusted), "elsewhere.example\") and not for localhost"),
        ("expired", Some(&trusted), "its certificate has expired; have the host renew it"),
    ] {
        let host = SecureHost::start(&folder, certificate, customer).await?;
        let authorities = authorities.map(|path| ("SSL_CERT_FILE", path.as_path()));
        let output = example.run(host.url("localhost"), authorities.as_slice()).await?;
        let (outcomes, reason) = outcomes(&output)?;
        assert_eq!(outcomes, ["retry"; CUSTOMERS], "{certificate}: {reason}");
        assert!(reason.contains("TlsCertificateError"), "{certificate}: {reason}");
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(log.contains(said), "{certificate}: {said}\n{log}");
        let times = log.matches(&format!("no connection to {}", host.url("localhost"))).count();
        assert_eq!(times, 1, "{certificate}: it is said once, and not for each request\n{log}");
        assert!(host.refused() > 0 && host.requests() == 0, "{certificate}: {host:?}");
    }

    // Authorities that are named and not there: nothing runs, and nothing else is trusted in their place.
    let missing = folder.join("missing.pem");
    let output = example.run("https://localhost:1".to_owned(), &[("SSL_CERT_FILE", &missing)]).await?;
    let log = String::from_utf8_lossy(&output.stderr);
    let named = log.contains(&format!("SSL_CERT_FILE={}", missing.display()));
    assert!(output.status.code() == Some(1) && named && log.contains("certificates in PEM"), "{log}");
    Ok(())
}
