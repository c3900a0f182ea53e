//! `GET /orders/{id}` with the cache and past it, in pairs on one system: in the host's memory, and in a real Redis.

use crate::http_get;
use crate::load::Load;
use crate::orders;
use crate::report::{CacheGet, CachePair, median};
use crate::system::{Base, Process};
use anyhow::Context as _;
use sqlx::postgres::PgPoolOptions;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::Command;

/// Pairs of measurements; every second one begins with the other half.
const PAIRS: usize = 3;
/// Orders that are read in turn: each is read many times before its answer is too old.
const ORDERS: usize = 50;
/// Connections that read.
pub const READERS: [usize; 2] = [1, 16];
/// Of a request that is answered from the database, and whose answer is not kept.
pub const PAST_THE_CACHE: &str = "no-store";
/// Time that Redis has to come up.
const REDIS_TIMEOUT: Duration = Duration::from_secs(10);

/// Measures one system with its store in memory, or in Redis; nothing where that is not installed.
///
/// # Errors
/// The system does not come up, or an answer was not 200.
pub async fn run(base: &Base, in_redis: bool, duration: Duration) -> anyhow::Result<Option<Vec<CacheGet>>> {
    let name = if in_redis { "redis" } else { "memory" };
    let data_dir = base.copy(&format!("cache-{name}"))?;
    let (mut arguments, mut redis) = (Vec::new(), None);
    if in_redis {
        let Some((process, address)) = start_redis(&data_dir).await? else {
            eprintln!("    left out: there is no redis-server (./dev setup --tests)");
            return Ok(None);
        };
        let config = data_dir.with_extension("toml");
        let text = format!("[key_value_store.default]\ntype = \"redis\"\nurl = \"redis://{address}\"\n");
        std::fs::write(&config, text)?;
        arguments = vec!["--runtime-config-file".into(), config.into_os_string()];
        redis = Some(process);
    }
    let running = base.up_with(&data_dir, &arguments).await?;
    let (database, kafka) = running.addresses()?;
    let owner = PgPoolOptions::new().max_connections(1).connect(&database).await?;
    orders::add_catalogue(&owner).await?;
    owner.close().await;
    let load = Load::new(running.listen, kafka, 1).await?;
    let (token, ids) = load.own_orders(ORDERS).await?;
    let mut gets = Vec::new();
    for connections in READERS {
        let mut pairs = Vec::new();
        for n in 0..PAIRS {
            let read = |control| http_get::run(running.listen, connections, duration, &token, &ids, control);
            let pair = if n % 2 == 0 {
                CachePair { database: read(Some(PAST_THE_CACHE)).await?, cache: read(None).await? }
            } else {
                let cache = read(None).await?;
                CachePair { database: read(Some(PAST_THE_CACHE)).await?, cache }
            };
            let (from_database, from_cache) = (pair.database.requests_per_s, pair.cache.requests_per_s);
            eprintln!(
                "    {name}, {connections} connections: {from_database:.0}/s, cached {from_cache:.0}/s"
            );
            pairs.push(pair);
        }
        let ratio = median(pairs.iter().map(|pair| pair.cache.requests_per_s / pair.database.requests_per_s));
        gets.push(CacheGet { store: name.to_owned(), connections, ratio, pairs });
    }
    running.end().await?;
    drop(redis);
    Ok(Some(gets))
}

/// A Redis that keeps nothing on disk, where one is installed; killed when dropped.
async fn start_redis(data_dir: &Path) -> anyhow::Result<Option<(Process, SocketAddr)>> {
    if Command::new("redis-server").arg("--version").output().await.is_err() {
        return Ok(None);
    }
    let address = crate::system::free_address()?;
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
    command.args(["--save", "", "--appendonly", "no"]);
    let process = Process::spawn(&mut command, &data_dir.with_extension("redis.log"))?;
    let listens = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(REDIS_TIMEOUT, listens).await.context("Redis does not come up")?;
    Ok(Some((process, address)))
}
