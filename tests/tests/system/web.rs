//! The pages, as fnhost serves them: over HTTP, and in a real Chromium.

use http::{HeaderMap, Method, StatusCode};
use tests::browser::Browser;
use tests::client::{Answer, Client, request};
use tests::outcome::Outcome;
use tests::system::{Shared, Sharing};

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The fnhost that the tests of the pages share.
async fn shared() -> anyhow::Result<Shared> {
    static SHARING: Sharing = Sharing::new();
    SHARING.fnhost().await
}

/// An address that is no page is answered by the host or by the function it belongs to, never with a page.
async fn is_a_problem(client: &Client, path: &str, status: StatusCode) -> anyhow::Result<()> {
    let Answer { status: found, headers, .. } = client.get(path).await?;
    assert_eq!((found, header(&headers, "content-type")), (status, "application/problem+json"), "{path}");
    Ok(())
}

#[tokio::test]
async fn pages_are_served_beside_the_interface() -> Outcome {
    let fnhost = shared().await?;
    let client = fnhost.client()?;
    let page = client.get("/").await?;
    assert_eq!(
        (page.status, header(&page.headers, "content-type")),
        (StatusCode::OK, "text/html; charset=utf-8")
    );
    assert!(header(&page.headers, "content-security-policy").contains("default-src 'none'"));
    let text = String::from_utf8_lossy(&page.body).into_owned();
    for asset in text.split('"').filter(|value| value.starts_with("/assets/")) {
        let answer = client.get(asset).await?;
        assert_eq!(answer.status, StatusCode::OK, "{asset}");
        assert_eq!(
            header(&answer.headers, "cache-control"),
            "public, max-age=31536000, immutable",
            "{asset}"
        );
    }
    for path in ["/other", "/index.html", "/assets/x/other.js", "/products/NOTHING"] {
        is_a_problem(&client, path, StatusCode::NOT_FOUND).await?;
    }
    for path in ["/orders", "/orders/7/8/9"] {
        is_a_problem(&client, path, StatusCode::UNAUTHORIZED).await?;
    }
    Ok(())
}

/// Without those that tell when it was sent, and how many may follow.
fn lasting(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for changing in ["date", "traceparent", "x-request-id", "ratelimit-remaining", "ratelimit-reset"] {
        headers.remove(changing);
    }
    headers
}

#[tokio::test]
async fn head_is_answered_with_the_headers_of_get_and_no_body() -> Outcome {
    let fnhost = shared().await?;
    let client = fnhost.client()?;
    for (path, status) in [
        ("/", StatusCode::OK),
        ("/products", StatusCode::OK),
        ("/.well-known/jwks.json", StatusCode::OK),
        ("/inventory/NOTHING", StatusCode::NOT_FOUND),
        ("/orders", StatusCode::UNAUTHORIZED),
        ("/auth/login", StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let get = client.get(path).await?;
        let head = client.send(request(Method::HEAD, path, None, None)?).await?;
        assert_eq!((head.status, get.status), (status, status), "{path}");
        assert!(head.body.is_empty() && !get.body.is_empty(), "{path}");
        assert_eq!(lasting(&head.headers), lasting(&get.headers), "{path}");
        assert_eq!(header(&head.headers, "content-length"), get.body.len().to_string(), "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn customers_order_in_a_browser() -> Outcome {
    let browser = match Browser::find() {
        Ok(browser) => browser,
        Err(missing) => {
            println!("SKIPPED: {missing}");
            return Ok(());
        }
    };
    let fnhost = shared().await?;
    browser.run(fnhost.client()?.address(), &[]).await?;
    Ok(())
}
