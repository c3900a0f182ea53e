//! Who may ask the admin address.

use super::shared;
use anyhow::Context as _;
use tests::outcome::Outcome;
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

#[tokio::test]
async fn no_page_of_another_site_deploys_code_or_reads_anything() -> Outcome {
    let fnhost = shared().await?;
    let address = fnhost.admin()?.address().to_owned();
    let offer =
        "POST /components/order/versions HTTP/1.1\r\ncontent-type: application/wasm\r\ncontent-length: 0\r\n";
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
        ("GET /parked HTTP/1.1\r\nhost: evil.example\r\n".to_owned(), 403),
        ("GET /metrics HTTP/1.1\r\n".to_owned(), 403),
        (format!("GET /metrics HTTP/1.1\r\n{own}{own}"), 400),
        (format!("HEAD /healthz HTTP/1.1\r\n{own}"), 200),
    ] {
        assert_eq!(status(&address, &head).await?, expected, "{head}");
    }
    Ok(())
}
