//! The loop that accepts connections. A fault of its own ends none that is open, and while it accepts none that is said.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Mutex, OwnedSemaphorePermit};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What it is, for metrics and `/readyz`.
const KIND: &str = "http";
/// Time after which accepting is tried again where the system has no more file descriptors.
const RETRY: Duration = Duration::from_millis(100);

/// A connection, its client, and its place among those that may be open.
pub(super) type Accepted = (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>);

/// Accepts connections on the address `name` until `shutdown`, and runs what `serve` makes of each, which is nothing for one that is
/// refused; answers those that are still open. Dropped, it ends them.
pub(super) async fn until<A, S>(
    shutdown: &CancellationToken,
    name: &str,
    accept: impl Fn() -> A,
    serve: impl Fn(Accepted) -> Option<S>,
) -> JoinSet<()>
where
    A: Future<Output = io::Result<Accepted>>,
    S: Future<Output = ()> + Send + 'static,
{
    // Outside of the loop, so that they outlive it.
    let open = Mutex::new(JoinSet::new());
    fnhost_metrics::supervise(KIND, name, || accept_all(shutdown, name, &accept, &serve, &open)).await;
    open.into_inner()
}

async fn accept_all<A, S>(
    shutdown: &CancellationToken,
    name: &str,
    accept: &impl Fn() -> A,
    serve: &impl Fn(Accepted) -> Option<S>,
    open: &Mutex<JoinSet<()>>,
) where
    A: Future<Output = io::Result<Accepted>>,
    S: Future<Output = ()> + Send + 'static,
{
    let mut open = open.lock().await;
    let mut failing = false;
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            Some(_) = open.join_next() => {}
            accepted = accept() => match accepted {
                Ok(accepted) => {
                    if std::mem::take(&mut failing) {
                        fnhost_metrics::recovers(KIND, name);
                    }
                    if let Some(served) = serve(accepted) {
                        open.spawn(served);
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, name, "cannot accept a connection");
                        fnhost_metrics::ails(KIND, name, format!("cannot accept a connection: {error}"));
                    }
                    tokio::time::sleep(RETRY).await;
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// Bound of everything that is awaited here.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Echoes one byte a connection, with `accept` in place of the listener's own; its address.
    async fn echo<A>(
        accept: impl Fn(Arc<TcpListener>) -> A + Send + Sync + 'static,
    ) -> (SocketAddr, CancellationToken)
    where
        A: Future<Output = io::Result<Accepted>> + Send,
    {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let ending = stop.clone();
        tokio::spawn(async move {
            let serve = |(mut stream, ..): Accepted| {
                Some(async move {
                    let byte = stream.read_u8().await.unwrap();
                    stream.write_u8(byte).await.unwrap();
                })
            };
            until(&ending, &address.to_string(), || accept(listener.clone()), serve).await;
        });
        (address, stop)
    }

    async fn really(listener: Arc<TcpListener>) -> io::Result<Accepted> {
        listener.accept().await.map(|(stream, client)| (stream, client, None))
    }

    fn said(address: SocketAddr, what: &str) -> bool {
        fnhost_metrics::ailing_tasks()
            .iter()
            .any(|line| line.contains(&address.to_string()) && line.contains(what))
    }

    async fn comes_back(mut stream: TcpStream) {
        let answer = async {
            stream.write_u8(7).await.unwrap();
            stream.read_u8().await.unwrap()
        };
        assert_eq!(tokio::time::timeout(PATIENCE, answer).await.expect("an answer"), 7);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_loop_that_panics_goes_on_and_what_is_open_stays() {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = calls.clone();
        let (address, stop) = echo(move |listener| {
            let call = counted.fetch_add(1, Ordering::AcqRel);
            async move {
                assert!(call != 1, "a fault of the loop, for this test");
                really(listener).await
            }
        })
        .await;
        let before = TcpStream::connect(address).await.unwrap();
        let after = TcpStream::connect(address).await.unwrap();
        comes_back(after).await;
        assert!(said(address, "a fault of the loop"), "it is shown");
        comes_back(before).await;
        stop.cancel();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_address_that_accepts_nothing_is_said_until_it_does() {
        let full = Arc::new(AtomicU32::new(1));
        let emptied = full.clone();
        let (address, stop) = echo(move |listener| {
            let full = full.load(Ordering::Acquire) > 0;
            async move {
                // As where a process has all the files open that it may.
                if full { Err(io::Error::from_raw_os_error(24)) } else { really(listener).await }
            }
        })
        .await;
        let waits = TcpStream::connect(address).await.unwrap();
        let seen = async {
            while !said(address, "Too many open files") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.expect("it is shown");
        emptied.store(0, Ordering::Release);
        comes_back(waits).await;
        assert!(!said(address, ""), "it is well again");
        stop.cancel();
    }
}
