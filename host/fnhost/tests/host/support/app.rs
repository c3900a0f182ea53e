//! A running HTTP trigger with the guest behind it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use fnhost_deployment::Slot;
use fnhost_engine::ComponentSpec;
use fnhost_http::Server;
use fnhost_manifest::{Manifest, VariableSources};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::load;

/// A running server with the guest behind it.
pub struct App {
    pub address: SocketAddr,
    pub shutdown: CancellationToken,
    pub served: JoinHandle<std::io::Result<()>>,
}

impl App {
    /// Starts it with a manifest whose component is called `guest`.
    pub async fn start(manifest: &str, change: impl FnOnce(&mut ComponentSpec)) -> Self {
        let manifest = Manifest::parse(Path::new("spin.toml"), manifest).unwrap();
        let components = BTreeMap::from([("guest".to_owned(), Slot::of(load(change)))]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let values = manifest.resolve(&VariableSources::default()).unwrap();
        let server =
            Arc::new(Server::new(&manifest, &values, &components, None, None, CancellationToken::new()));
        let served = tokio::spawn(server.serve(listener, shutdown.clone()));
        Self { address, shutdown, served }
    }

    /// Sends a request on a connection of its own.
    pub async fn send<B>(&self, request: Request<B>) -> hyper::Result<Response<Incoming>>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        sender.send_request(request).await
    }

    /// Status and body of a GET.
    pub async fn get(&self, path: &str) -> (StatusCode, String) {
        self.call(Method::GET, path, "").await
    }

    /// Status and body of an answer.
    pub async fn call(&self, method: Method, path: &str, body: impl Into<Bytes>) -> (StatusCode, String) {
        let request = Request::builder().method(method).uri(path).header("host", "shop.example:8080");
        let response = self.send(request.body(Full::new(body.into())).unwrap()).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Ends it, and waits for its end.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.served.await.unwrap().unwrap();
    }
}
