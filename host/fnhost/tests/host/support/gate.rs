//! A way to a server on which answers can be withheld, as by a server that is gone while its connections stay open.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Passes connections on to a port of the loopback address until it is dropped.
pub struct Gate {
    port: u16,
    /// Connections accepted so far, and how many of them, the first ones, are silent.
    silent: watch::Sender<u64>,
    accepted: watch::Receiver<u64>,
    _passing: JoinSet<()>,
}

impl Gate {
    /// A gate before this port.
    pub async fn before(port: u16) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = listener.local_addr().expect("an address").port();
        let (silent, hears) = watch::channel(0);
        let (counter, accepted) = watch::channel(0);
        let mut passing = JoinSet::new();
        passing.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.expect("a client");
                let number = *counter.borrow();
                counter.send_replace(number + 1);
                let server = TcpStream::connect(("127.0.0.1", port)).await.expect("the server");
                connections.spawn(pass(client, server, number, hears.clone()));
            }
        });
        Arc::new(Self { port: own, silent, accepted, _passing: passing })
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on nothing comes back on the connections that there are; what clients send still gets through.
    pub fn withhold(&self) {
        self.silent.send_replace(*self.accepted.borrow());
    }
}

async fn pass(client: TcpStream, server: TcpStream, number: u64, mut silent: watch::Receiver<u64>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let ask = async { tokio::io::copy(&mut from_client, &mut to_server).await.map(drop) };
    let answer = async {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let read = from_server.read(&mut bytes).await?;
            if number < *silent.borrow_and_update() {
                // Held for as long as the client stays.
                std::future::pending::<()>().await;
            }
            if read == 0 {
                return Ok(());
            }
            to_client.write_all(&bytes[..read]).await?;
        }
    };
    let _ended: std::io::Result<()> = tokio::select! {
        ended = ask => ended,
        ended = answer => ended,
    };
}
