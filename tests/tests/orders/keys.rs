//! Keys of tokens that change while hosts run.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode};
use serde_json::Value;
use std::time::Duration;
use tests::client::Client;
use tests::customer::Customer;
use tests::outcome::Outcome;
use tests::system::{Fnhost, Setup};
use tests::wait::{Look, until};

/// Time until every host has read the keys, and until a new one signs, on a busy machine: the hosts' 5 s and 30 s.
const READ_DEADLINE: Duration = Duration::from_secs(60);
const SIGNS_DEADLINE: Duration = Duration::from_secs(120);

/// The id of the key that signed a token.
fn kid(token: &str) -> anyhow::Result<String> {
    let head = token.split('.').next().context("a head")?;
    let head: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head)?)?;
    Ok(head["kid"].as_str().context("a kid")?.to_owned())
}

/// The ids of the keys that a host publishes.
async fn published(client: &Client) -> anyhow::Result<Vec<String>> {
    let set: Value = client.get("/.well-known/jwks.json").await?.json(StatusCode::OK)?;
    let keys = set["keys"].as_array().context("keys")?;
    Ok(keys.iter().filter_map(|key| Some(key["kid"].as_str()?.to_owned())).collect())
}

/// What a host answers a customer with this token: edge and function have both checked it.
async fn status(client: &Client, ada: &Customer, token: &str) -> anyhow::Result<u16> {
    let asks = Customer { token: token.to_owned(), client: client.clone(), ..ada.clone() };
    Ok(asks.ask(Method::GET, "/orders", None).await?.status.as_u16())
}

async fn rotate(fnhost: &Fnhost, arguments: &[&str]) -> anyhow::Result<()> {
    let rotated = fnhost.beside(&[&["keys", "rotate"], arguments].concat()).await?;
    anyhow::ensure!(rotated.status.success(), "{rotated:?}");
    Ok(())
}

/// Waits until a login is signed with another key than these; answers its token.
async fn signed_anew(client: &Client, ada: &Customer, before: &[&str]) -> anyhow::Result<String> {
    let before = before.iter().map(|token| kid(token)).collect::<anyhow::Result<Vec<_>>>()?;
    until("a token of the new key", SIGNS_DEADLINE, async || {
        let token = Customer::login(client, &ada.email).await?.token;
        let is_new = !before.contains(&kid(&token)?);
        Ok(if is_new { Look::Found(token) } else { Look::NotYet("the key before signs".to_owned()) })
    })
    .await
}

#[tokio::test]
async fn keys_rotate_on_all_hosts_without_a_restart() -> Outcome {
    let one = Fnhost::start(Setup::default()).await?;
    let two = one.join().await?;
    let clients = [one.client()?, two.client()?];
    let ada = Customer::register(&clients[0]).await?;
    let first = ada.token.clone();

    rotate(&one, &[]).await?;
    for client in &clients {
        until("the new key beside the one before", READ_DEADLINE, async || {
            let keys = published(client).await?;
            Ok(Look::from_bool(keys.len() == 2, format!("{keys:?}")))
        })
        .await?;
    }
    let second = signed_anew(&clients[0], &ada, &[&first]).await?;
    for client in &clients {
        assert_eq!(status(client, &ada, &second).await?, 200, "of the new key");
        assert_eq!(status(client, &ada, &first).await?, 200, "of the one before");
    }

    // A key has leaked.
    rotate(&two, &["--now"]).await?;
    for client in &clients {
        for token in [&first, &second] {
            until("the end of a token", READ_DEADLINE, async || {
                let status = status(client, &ada, token).await?;
                Ok(Look::from_bool(status == 401, status.to_string()))
            })
            .await?;
        }
    }
    let third = signed_anew(&clients[1], &ada, &[&first, &second]).await?;
    for client in &clients {
        assert_eq!(status(client, &ada, &third).await?, 200);
        assert_eq!(published(client).await?, [kid(&third)?]);
    }
    let listed = one.beside(&["keys", "list", "--output", "json"]).await?;
    let listed: Value = serde_json::from_slice(&listed.stdout).map_err(anyhow::Error::from)?;
    assert_eq!((&listed["given"], &listed["keys"][0]["signs"]), (&false.into(), &true.into()), "{listed}");
    assert!(!one.log().contains("PRIVATE KEY") && !listed.to_string().contains("PRIVATE KEY"));
    Ok(())
}
