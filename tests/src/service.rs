//! A lasting address in front of hosts that come and go, as a Service of Kubernetes is.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// An address whose new connections go to the host that it leads to; those that are open stay with theirs. Ends with this value.
#[derive(Debug)]
pub struct Service {
    address: String,
    host: Arc<Mutex<String>>,
    task: JoinHandle<()>,
}

impl Service {
    /// One that leads to `host`, which is `host:port`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn to(host: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?.to_string();
        let host = Arc::new(Mutex::new(host.to_owned()));
        let task = tokio::spawn(forward(listener, host.clone()));
        Ok(Self { address, host, task })
    }

    /// Where it is, `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Leads new connections to another host from now on.
    pub fn lead_to(&self, host: &str) {
        host.clone_into(&mut self.host.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(listener: TcpListener, host: Arc<Mutex<String>>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let host = host.lock().unwrap_or_else(PoisonError::into_inner).clone();
        tokio::spawn(async move {
            // A host that refuses closes the client's connection, which is all that the client could learn.
            let mut server = TcpStream::connect(&host).await?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            copy_bidirectional(&mut client, &mut server).await
        });
    }
}
