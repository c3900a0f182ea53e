//! Who may ask the admin address, what they may do, and what is noted of it.

use super::shared;
use anyhow::Context as _;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use tests::client::{Client, request};
use tests::outcome::Outcome;
use tests::system::{Fnhost, Setup};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Sends a request with these lines as its head; answers the status.
async fn status(address: &str, head: &str) -> anyhow::Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).with_context(|| answer.clone())
}

fn token_file(fnhost: &Fnhost) -> PathBuf {
    fnhost.data_dir().join("secrets/admin")
}

#[tokio::test]
async fn no_page_of_another_site_deploys_code_or_reads_anything() -> Outcome {
    let fnhost = shared().await?;
    let address = fnhost.admin()?.address().to_owned();
    let token = std::fs::read_to_string(token_file(&fnhost)).map_err(anyhow::Error::from)?;
    // A browser may have been given the token; the page has not.
    let login = format!("authorization: Bearer {}\r\n", token.trim());
    let offer = format!(
        "POST /components/order/versions HTTP/1.1\r\ncontent-type: application/wasm\r\ncontent-length: 0\r\n{login}"
    );
    let own = format!("host: {address}\r\n");
    // The page's own name resolves to the loopback address.
    let rebound = "host: evil.example:3001\r\norigin: http://evil.example:3001\r\n";
    for (head, expected) in [
        (format!("{offer}{own}"), 422),
        (format!("{offer}{own}content-encoding: gzip\r\n"), 415),
        (format!("{offer}{own}origin: http://{address}\r\n"), 422),
        (format!("{offer}{own}origin: https://evil.example\r\n"), 403),
        (format!("{offer}{own}origin: null\r\n"), 403),
        (format!("{offer}{rebound}"), 403),
        (format!("GET /readyz HTTP/1.1\r\n{rebound}"), 403),
        (format!("GET /parked HTTP/1.1\r\nhost: evil.example\r\n{login}"), 403),
        ("GET /metrics HTTP/1.1\r\n".to_owned(), 403),
        (format!("GET /metrics HTTP/1.1\r\n{own}{own}"), 400),
        (format!("HEAD /healthz HTTP/1.1\r\n{own}"), 200),
        // Without the token, or with two.
        (offer.replace(&login, &own), 401),
        (format!("GET /parked HTTP/1.1\r\n{own}"), 401),
        (format!("GET /dead-letters HTTP/1.1\r\n{own}authorization: Bearer {}\r\n", "0".repeat(64)), 401),
        (format!("GET /dead-letters HTTP/1.1\r\n{own}authorization: Basic {}\r\n", token.trim()), 401),
        (format!("GET /dead-letters HTTP/1.1\r\n{own}{login}{login}"), 401),
        (format!("GET /dead-letters HTTP/1.1\r\n{own}{login}"), 200),
        (format!("GET /nothing HTTP/1.1\r\n{own}"), 401),
    ] {
        assert_eq!(status(&address, &head).await?, expected, "{head}");
    }
    for open in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(Client::new(&address)?.get(open).await?.status, StatusCode::OK, "{open} is for probes");
    }
    let mode = std::fs::metadata(token_file(&fnhost)).map_err(anyhow::Error::from)?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!fnhost.log().contains(token.trim()), "the token is in the log");
    Ok(())
}

#[tokio::test]
async fn a_request_reads_no_device_and_nothing_that_only_this_host_reaches() -> Outcome {
    let fnhost = shared().await?;
    let admin = fnhost.admin()?;
    let here = format!("http://{}/healthz", admin.address());
    for (offer, said) in [
        (json!({ "path": "/dev/zero" }), "no regular file"),
        (json!({ "path": "/" }), "no regular file"),
        (json!({ "url": here, "sha256": "0".repeat(64) }), "no public address"),
        (json!({ "url": "http://169.254.169.254/latest", "sha256": "0".repeat(64) }), "no public address"),
        (json!({ "url": here }), "needs its"),
    ] {
        let body = request(Method::POST, "/components/order/versions", None, Some(&offer))?;
        let answer = admin.send(body).await?;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{offer}: {answer}");
        assert!(answer.to_string().contains(said), "{offer}: {answer}");
    }
    Ok(())
}

/// A client that sends one token.
struct As<'t>(Client, &'t str);

impl As<'_> {
    async fn status(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<u16> {
        let answer = self.0.send(request(method, path, Some(self.1), body)?).await?;
        Ok(answer.status.as_u16())
    }
}

#[tokio::test]
async fn a_token_does_what_its_role_allows_and_every_change_is_noted() -> Outcome {
    const TOKENS: [(&str, &str); 3] = [("viewer", "read"), ("support", "operate"), ("ci", "deploy")];
    let mut fnhost = Fnhost::new(Setup::default())?;
    let declared = fnhost.manifest_path().with_file_name("tokens");
    let line = |(name, role): &(&str, &str)| {
        let digest: String =
            Sha256::digest(format!("token of {name}")).iter().map(|b| format!("{b:02x}")).collect();
        format!("{name} {role} {digest}\n")
    };
    std::fs::write(&declared, TOKENS.iter().map(line).collect::<String>()).map_err(anyhow::Error::from)?;
    fnhost.add_arguments(&["--admin-tokens", &declared.to_string_lossy()]);
    fnhost.restart().await?;

    let pause = json!({ "trigger": "notify", "reason": "because" });
    let redrive = json!({ "all": true });
    for ((name, _), [read, operate, deploy]) in
        TOKENS.iter().zip([[200, 403, 403], [200, 204, 403], [200, 204, 409]])
    {
        let token = format!("token of {name}");
        let client = As(Client::new(fnhost.admin()?.address())?, &token);
        assert_eq!(client.status(Method::GET, "/parked", None).await?, read, "{name}");
        assert_eq!(client.status(Method::POST, "/triggers/pause", Some(&pause)).await?, operate, "{name}");
        let rollback = client.status(Method::POST, "/components/order/rollback", Some(&Value::Null)).await?;
        assert_eq!(rollback, deploy, "{name}");
    }
    let support = As(Client::new(fnhost.admin()?.address())?, "token of support");
    assert_eq!(support.status(Method::POST, "/dead-letters/redrive", Some(&redrive)).await?, 200);
    let dry = json!({ "trigger": "order", "all": true, "to": "earliest", "dry_run": true });
    assert_eq!(support.status(Method::POST, "/positions", Some(&dry)).await?, 200);
    // What a command does beside the host is noted too, and commands at the admin address find the token by themselves.
    let resumed = fnhost.beside(&["resume", "notify"]).await?;
    assert!(resumed.status.success(), "{resumed:?}");
    assert!(fnhost.run(&["ps"]).await?.contains("deployment"));

    let audit = fnhost.beside(&["audit", "--output", "json"]).await?;
    assert!(audit.status.success(), "{audit:?}");
    let entries: Vec<Value> = serde_json::from_slice(&audit.stdout).map_err(anyhow::Error::from)?;
    let by_itself = |entry: &&Value| entry["who"] == "the host";
    let started: Vec<&Value> = entries.iter().filter(by_itself).map(|entry| &entry["action"]).collect();
    assert!(started.contains(&&json!("start: deploy /components/order")), "{started:?}");
    let noted: Vec<(&str, &str, &str)> = entries
        .iter()
        .rev()
        .filter(|entry| !by_itself(entry))
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap_or("none");
            (
                if text("source") == "127.0.0.1" { text("who") } else { "here" },
                text("action"),
                text("outcome"),
            )
        })
        .collect();
    assert_eq!(
        noted,
        [
            ("support", "POST /triggers/pause", "done"),
            ("ci", "POST /triggers/pause", "done"),
            ("ci", "POST /components/order/rollback", noted.get(2).map_or("none", |(.., outcome)| *outcome)),
            ("support", "POST /dead-letters/redrive", "done"),
            ("here", "fnhost resume", "done"),
        ],
        "what was refused and what only asks is not there"
    );
    assert!(noted[2].2.starts_with("failed: 409: component \"order\" has no version"), "{noted:?}");
    assert_eq!(entries[4]["details"], json!({ "trigger": "notify", "reason": "because" }));
    let read: Vec<Value> = fnhost.admin()?.get("/audit?who=ci&limit=1").await?.json(StatusCode::OK)?;
    assert_eq!((read.len(), &read[0]["action"]), (1, &json!("POST /components/order/rollback")));
    Ok(())
}
