//! An admin address with a certificate, and commands that ask it.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::Scratch;
use axum::Router;
use axum::routing::get;
use fnhost_admin::Certificate;
use tokio::net::TcpListener;

/// What the address answers.
const ANSWER: &str = r#"{"deployment":"test"}"#;

/// Makes an authority, NAME`.pem`, and a certificate of it for localhost, NAME`-host.pem` with its key.
fn make_certificates(folder: &Path, name: &str) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for line in [
        format!("req -x509 {key} -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem"),
        format!(
            "req {key} -subj /CN=host -addext subjectAltName=DNS:localhost -keyout {name}-host.key -out {name}.csr"
        ),
        format!(
            "x509 -req -in {name}.csr -CA {name}.pem -CAkey {name}.key -CAcreateserial -days 2 -copy_extensions copy \
             -out {name}-host.pem"
        ),
    ] {
        let output = Command::new("openssl").current_dir(folder).args(line.split_whitespace()).output();
        let output = output.expect("openssl, which `./dev setup --tests` installs");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

async fn ps(address: String, authority: Option<&Path>) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_fnhost"));
    command.args(["ps", "--output", "json", "--admin", &address]).env("FNHOST_ADMIN_TOKEN", "a token");
    if let Some(authority) = authority {
        command.arg("--admin-ca").arg(authority);
    }
    command.output().await.expect("it runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_address_with_a_certificate_speaks_https_alone_and_commands_check_it() {
    let scratch = Scratch::new("admin-tls");
    let folder = scratch.path();
    make_certificates(folder, "own");
    make_certificates(folder, "other");
    let certificate = Certificate::read(&folder.join("own-host.pem"), &folder.join("own-host.key"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let router = Router::new().route("/deployment", get(|| async { ANSWER }));
    let serving = tokio::spawn(fnhost_admin::serve(listener, router, Some(certificate.expect("a pair"))));

    // It says nothing, and holds up no other.
    let silent = TcpStream::connect(address).expect("a connection");
    let (own, other) = (folder.join("own.pem"), folder.join("other.pem"));
    let named = format!("https://localhost:{}", address.port());
    let answer = ps(named.clone(), Some(&own)).await;
    assert_eq!(String::from_utf8_lossy(&answer.stdout).trim_end(), ANSWER, "{answer:?}");
    for (asked, authority, said) in [
        (named.clone(), Some(&other), "its certificate is not good"),
        (named.clone(), None, "its certificate is not good"),
        (format!("https://{address}"), Some(&own), "ask by a name that is in it"),
        (address.to_string(), None, "https://HOST:PORT"),
        (named, Some(&folder.join("missing.pem")), "--admin-ca"),
    ] {
        let refused = ps(asked.clone(), authority.map(|path| path.as_path())).await;
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && stderr.contains(said), "{asked} {authority:?}: {stderr}");
    }
    drop(silent);
    serving.abort();

    for (chain, key, said) in [
        ("own-host.pem", "other-host.key", "own-host.pem"),
        ("own-host.key", "own-host.key", "own-host.key"),
        ("missing.pem", "own-host.key", "missing.pem"),
        ("own-host.pem", "own-host.pem", "a private key"),
    ] {
        let refused = Certificate::read(&folder.join(chain), &folder.join(key)).expect_err(chain);
        assert!(refused.contains(said), "{chain} {key}: {refused}");
    }
}
