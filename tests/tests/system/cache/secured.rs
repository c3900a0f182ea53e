//! A Redis that asks for TLS and a login, and keeps the values in a database of its own.

use fnhost_capabilities::key_value::{RedisStore, Store as _};
use std::time::Duration;
use tests::certificates::Authority;
use tests::customer::{Customer, NewOrder, Status};
use tests::outcome::Outcome;
use tests::redis::Redis;
use tests::scrape::Scrape;
use tests::system::{Fnhost, Setup, free_port};
use tests::wait::{Look, until};

/// Time in which a store finds out about its server.
const DEADLINE: Duration = Duration::from_secs(30);
/// Time that a call is given: a busy machine is no fault.
const PATIENT: Duration = Duration::from_secs(20);
/// The user that may use the store.
const USER: &str = "orders";
/// The password, and how it is written in a URL.
const PASSWORD: (&str, &str) = ("p@ss:w/rd%", "p%40ss%3Aw%2Frd%25");
/// The database.
const DATABASE: u32 = 3;

/// A Redis with that user, and its port for TLS.
async fn secured() -> anyhow::Result<Option<(Redis, u16)>> {
    let port = free_port()?;
    let redis = Redis::start_with(|folder| {
        Authority::new(folder, "ca")?.issue("redis", "DNS:localhost")?;
        let tls = format!("--tls-port {port} --tls-auth-clients no --tls-ca-cert-file ca.pem");
        let certificate = "--tls-cert-file redis.pem --tls-key-file redis.key";
        // Unlike one without a login, which the tests use on the other port.
        let user = format!("--user {USER} on >{} ~* &* +@all", PASSWORD.0);
        let words = [tls.as_str(), certificate, &user].map(|line| line.split(' '));
        Ok(words.into_iter().flatten().map(|word| place(folder, word)).collect())
    });
    Ok(redis.await?.map(|redis| (redis, port)))
}

/// Redis reads the names of its files where it was started.
fn place(folder: &std::path::Path, word: &str) -> String {
    let is_file = word.ends_with(".pem") || word.ends_with(".key");
    if is_file { folder.join(word).display().to_string() } else { word.to_owned() }
}

/// Waits until calls end like this.
async fn wait_said(store: &RedisStore, said: &str) -> anyhow::Result<()> {
    until(said, DEADLINE, async || {
        let answer = store.exists("a").await.map_err(|error| error.to_string());
        let seen = format!("{answer:?}");
        assert!(!seen.contains(PASSWORD.0) && !seen.contains(PASSWORD.1), "{seen}");
        Ok(Look::from_bool(seen.contains(said), seen))
    })
    .await
}

#[tokio::test]
async fn a_url_has_user_password_and_database_and_what_does_not_fit_is_said() -> Outcome {
    let Some((redis, tls)) = secured().await? else { return Ok(()) };
    let open = |url: String| RedisStore::new("test", &url, None, PATIENT).map_err(anyhow::Error::msg);
    let plain = redis.url().replace("redis://", "");
    let good = open(format!("redis://{USER}:{}@{plain}/{DATABASE}", PASSWORD.1))?;
    wait_said(&good, "Ok(false)").await?;
    good.set("a", b"1".to_vec()).await?;
    assert_eq!(redis.ask(&format!("SELECT {DATABASE}\r\nGET a")).await?.lines().nth(2), Some("1"));
    assert_eq!(redis.ask("GET a").await?.lines().next(), Some("$-1"), "another database");

    for (url, said) in [
        (format!("redis://{USER}:wrong@{plain}"), "correct the user and password"),
        (format!("redis://nobody:{}@{plain}", PASSWORD.1), "correct the user and password"),
        (format!("redis://{USER}:{}@{plain}/99", PASSWORD.1), "DB index is out of range"),
        // Its authority is not among the system's.
        (format!("rediss://localhost:{tls}"), "name a PEM file of all that are trusted in SSL_CERT_FILE"),
    ] {
        wait_said(&open(url)?, said).await?;
    }
    let refused = open(format!("rediss://:{}@localhost:{tls}/#insecure", PASSWORD.1)).err();
    let refused = refused.map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("#insecure is not offered") && !refused.contains(PASSWORD.1), "{refused}");
    Ok(())
}

#[tokio::test]
async fn the_cache_is_kept_in_a_redis_behind_tls() -> Outcome {
    let Some((redis, tls)) = secured().await? else { return Ok(()) };
    let url = format!("rediss://{USER}:{}@localhost:{tls}/{DATABASE}", PASSWORD.1);
    let config = redis.runtime_config_of(&url)?.display().to_string();
    let authority = redis.file("ca.pem").display().to_string();
    let setup = Setup {
        arguments: vec!["--runtime-config-file".to_owned(), config],
        environment: vec![("SSL_CERT_FILE".to_owned(), authority)],
        ..Setup::default()
    };
    let mut fnhost = Fnhost::start(setup).await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let order = ada.order_to_end(&NewOrder::of(&[("TEA-250G", 1)])).await?;
    assert_eq!(order.status, Status::Confirmed);
    let admin = fnhost.admin()?;
    until("an order read from the cache", DEADLINE, async || {
        ada.get(order.order_id).await?;
        let labels = [("component", "order"), ("store", "default"), ("outcome", "hit")];
        let hits = Scrape::of(&admin).await?.sum("fnhost_key_value_reads_total", &labels);
        Ok(Look::from_bool(hits > 0.0, format!("{hits} hits")))
    })
    .await?;
    let key = format!("order/{}", order.order_id);
    until("the order in its database", DEADLINE, async || {
        ada.get(order.order_id).await?;
        let there = redis.ask(&format!("SELECT {DATABASE}\r\nEXISTS {key}")).await?;
        Ok(Look::from_bool(there.lines().nth(1) == Some(":1"), there))
    })
    .await?;
    assert!(fnhost.interrupt().await?.success());
    let log = fnhost.log();
    assert!(log.contains("connected to Redis") && !log.contains(PASSWORD.0) && !log.contains(PASSWORD.1));
    Ok(())
}
