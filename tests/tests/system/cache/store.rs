//! What holds for every store, held by memory and Redis alike; and what a Redis that is gone costs.

use fnhost_capabilities::key_value::{MemoryStore, RedisStore, Store};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tests::outcome::Outcome;
use tests::redis::Redis;
use tests::wait::{Look, until};

/// Time in which a store notices what happened to its server.
const DEADLINE: Duration = Duration::from_secs(30);
/// Time that a call is given where Redis is there: a busy machine is no fault.
const PATIENT: Duration = Duration::from_secs(20);
/// And where it is not.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// The age of values in a store that drops them.
const MAX_AGE: Duration = Duration::from_millis(300);

/// Both stores, empty; Redis where it is installed.
async fn stores(max_age: Option<Duration>) -> anyhow::Result<(Vec<Arc<dyn Store>>, Option<Redis>)> {
    let mut stores: Vec<Arc<dyn Store>> = vec![Arc::new(MemoryStore::new("test", max_age))];
    let redis = Redis::start().await?;
    if let Some(redis) = &redis {
        stores.push(Arc::new(connected(redis, max_age, PATIENT).await?));
    }
    Ok((stores, redis))
}

async fn connected(
    redis: &Redis,
    max_age: Option<Duration>,
    call_timeout: Duration,
) -> anyhow::Result<RedisStore> {
    let store = RedisStore::new("test", &redis.url(), max_age, call_timeout).map_err(anyhow::Error::msg)?;
    wait_works(&store).await?;
    Ok(store)
}

async fn wait_works(store: &RedisStore) -> anyhow::Result<()> {
    until("the store to work", DEADLINE, async || {
        Ok(match store.exists("any").await {
            Ok(_) => Look::Found(()),
            Err(error) => Look::NotYet(error.to_string()),
        })
    })
    .await
}

#[tokio::test]
async fn every_store_keeps_what_it_is_given() -> Outcome {
    let (stores, _redis) = stores(None).await?;
    for store in stores {
        let binary: Vec<u8> = (0..=255).collect();
        assert_eq!(store.get("a").await, Ok(None));
        assert_eq!(store.exists("a").await, Ok(false));
        assert_eq!(store.keys().await, Ok(vec![]));
        store.delete("a").await?;
        store.set("a", b"1".to_vec()).await?;
        store.set("a", binary.clone()).await?;
        store.set("", vec![]).await?;
        store.set("ü:*?[x]", vec![0; 1 << 20]).await?;
        assert_eq!(store.get("a").await, Ok(Some(binary)));
        assert_eq!(store.get("").await, Ok(Some(vec![])), "nothing is a value");
        assert_eq!(store.exists("").await, Ok(true));
        assert_eq!(store.get("ü:*?[x]").await?.map(|value| value.len()), Some(1 << 20));
        let mut keys = store.keys().await?;
        keys.sort();
        assert_eq!(keys, ["", "a", "ü:*?[x]"]);
        store.delete("a").await?;
        assert_eq!((store.get("a").await, store.exists("a").await), (Ok(None), Ok(false)));
    }
    Ok(())
}

#[tokio::test]
async fn every_store_has_all_its_keys_and_serves_many_at_a_time() -> Outcome {
    let (stores, _redis) = stores(None).await?;
    for store in stores {
        // More than one step of a scan.
        let keys: Vec<String> = (0..3_000).map(|n| format!("key {n:04}")).collect();
        for part in keys.chunks(100) {
            let set = part.iter().map(|key| store.set(key, key.clone().into_bytes()));
            futures::future::try_join_all(set).await?;
        }
        let got = futures::future::try_join_all(keys[..100].iter().map(|key| store.get(key))).await?;
        for (key, value) in keys.iter().zip(got) {
            assert_eq!(value.as_deref(), Some(key.as_bytes()), "each call has its own answer");
        }
        let mut found = store.keys().await?;
        found.sort();
        assert_eq!(found, keys);
    }
    Ok(())
}

#[tokio::test]
async fn values_with_a_greatest_age_are_gone_by_themselves() -> Outcome {
    let (stores, redis) = stores(Some(MAX_AGE)).await?;
    for store in stores {
        let begun = Instant::now();
        store.set("a", b"1".to_vec()).await?;
        until("the value to go", DEADLINE, async || {
            Ok(Look::from_bool(store.get("a").await?.is_none(), "it is there"))
        })
        .await?;
        assert!(begun.elapsed() >= MAX_AGE, "too early: after {:?}", begun.elapsed());
        assert_eq!((store.exists("a").await, store.keys().await), (Ok(false), Ok(vec![])));
    }
    if let Some(redis) = redis {
        assert_eq!(redis.ask("DBSIZE").await?.lines().next(), Some(":0"));
    }
    Ok(())
}

#[tokio::test]
async fn a_redis_that_is_gone_or_stuck_fails_calls_at_once_until_it_is_back() -> Outcome {
    const CALLS: u32 = 1_000;
    let Some(mut redis) = Redis::start().await? else { return Ok(()) };
    let store = connected(&redis, None, CALL_TIMEOUT).await?;
    for stuck in [true, false] {
        if stuck {
            redis.freeze()?
        } else {
            redis.kill()?
        }
        let first = Instant::now();
        let error = store.get("a").await.expect_err("it is gone").to_string();
        let waited = first.elapsed();
        assert_eq!(error.contains("no answer within"), stuck, "{error}");
        let begun = Instant::now();
        let mut failed = 0;
        for _ in 0..CALLS {
            failed += u32::from(store.get("a").await.is_err());
        }
        // What each would take if it were waited for; a busy machine is slow, but not by that much.
        let took = begun.elapsed();
        assert!(
            took < CALL_TIMEOUT * CALLS / 20,
            "{CALLS} calls took {took:?}, and the first one {waited:?}"
        );
        assert_eq!(failed, CALLS, "it is still gone");
        if stuck {
            redis.thaw()?
        } else {
            redis.restart().await?
        }
        wait_works(&store).await?;
        store.set("a", b"2".to_vec()).await?;
        assert_eq!(store.get("a").await, Ok(Some(b"2".to_vec())));
    }
    Ok(())
}

#[tokio::test]
async fn a_redis_that_is_not_there_yet_is_found_when_it_comes() -> Outcome {
    let Some(mut redis) = Redis::start().await? else { return Ok(()) };
    redis.kill()?;
    let store = RedisStore::new("test", &redis.url(), None, PATIENT).map_err(anyhow::Error::msg)?;
    let error = store.set("a", vec![]).await.expect_err("nobody is there").to_string();
    assert!(error.contains("there is no connection to Redis at 127.0.0.1:"), "{error}");
    redis.restart().await?;
    wait_works(&store).await.map_err(Into::into)
}

#[tokio::test]
async fn what_redis_itself_refuses_is_told_and_the_connection_stays() -> Outcome {
    let Some(redis) = Redis::start().await? else { return Ok(()) };
    let store = connected(&redis, None, PATIENT).await?;
    redis.ask("LPUSH list x").await?;
    let error = store.get("list").await.expect_err("no text").to_string();
    assert!(error.contains("WRONGTYPE"), "{error}");
    assert_eq!(store.exists("list").await, Ok(true), "at once");
    Ok(())
}
