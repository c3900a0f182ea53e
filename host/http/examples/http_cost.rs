//! Prints how many trivial requests per second the HTTP trigger serves, clients on the same machine.
//!
//! `cargo run --release -p fnhost --example http_cost -- COMPONENT.wasm [PATH]`

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use fnhost_deployment::Slot;
use fnhost_engine::{ComponentSpec, Engine, EngineOptions};
use fnhost_http::Server;
use fnhost_manifest::{Manifest, VariableSources};
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Time that each number of connections is measured for.
const MEASURED: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let source = arguments.next().context("usage: http_cost COMPONENT.wasm [PATH]")?;
    let path: Arc<str> = arguments.next().unwrap_or("/".to_owned()).into();
    let text = format!(
        "spin_manifest_version = 2\n[application]\nname = \"cost\"\n[[trigger.http]]\nroute = \"/...\"\n\
         component = \"noop\"\n[component.noop]\nsource = {source:?}\n"
    );
    let manifest = Manifest::parse(Path::new("spin.toml"), &text)?;
    let values = manifest.resolve(&VariableSources::default())?;
    let engine = Engine::new(EngineOptions::default())?;
    let mut components = BTreeMap::new();
    for spec in ComponentSpec::all(&manifest, &values) {
        components.insert(spec.id.clone(), Slot::of(engine.load(&spec)?));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(
        Arc::new(Server::new(&manifest, &values, &components, None, None, shutdown.clone()))
            .serve(listener, shutdown.clone()),
    );
    println!("connections  requests/s  p50 us  p99 us");
    for connections in [1, 16] {
        let clients = (0..connections).map(|_| tokio::spawn(client(address, path.clone())));
        let mut took = Vec::new();
        for client in futures::future::join_all(clients).await {
            took.extend(client??);
        }
        took.sort();
        let us = |part: usize| took[took.len() * part / 100].as_secs_f64() * 1e6;
        let rate = took.len() as f64 / MEASURED.as_secs_f64();
        println!("{connections:11}  {rate:10.0}  {:6.0}  {:6.0}", us(50), us(99));
    }
    shutdown.cancel();
    server.await??;
    Ok(())
}

/// Sends requests one after the other on one connection.
async fn client(address: SocketAddr, path: Arc<str>) -> anyhow::Result<Vec<Duration>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let (begun, mut took) = (Instant::now(), Vec::new());
    while begun.elapsed() < MEASURED {
        let request = Request::get(&*path).header("host", "localhost").body(Empty::<Bytes>::new())?;
        let started = Instant::now();
        let response = sender.send_request(request).await?;
        anyhow::ensure!(response.status().is_success(), "{}", response.status());
        response.into_body().collect().await?;
        took.push(started.elapsed());
    }
    Ok(took)
}
