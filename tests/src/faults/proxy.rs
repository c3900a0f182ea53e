//! A TCP proxy in front of a server: it cuts, freezes and refuses connections, and catches a COMMIT on its way to Postgres.
//!
//! A caught COMMIT waits until its catcher decides whether the server gets it. In either case the client hears nothing from then on:
//! the answer is withheld until the connection is cut.

use anyhow::Context as _;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

/// Bytes that are forwarded at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// What stands in the message with which a host commits: a dispatch's ends with more statements, a relay's with it.
const COMMITS: [&[u8]; 2] = [b" COMMIT;", b"COMMIT\0"];
/// Stands before the role's name in the first message of a session.
const USER: &[u8] = b"user\0";

/// What happens to what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It arrives.
    Pass,
    /// It waits.
    Freeze,
    /// There are no connections: those there were are cut, and new ones are closed.
    Refuse,
}

/// A COMMIT that was caught, with the decision about it.
#[derive(Debug)]
pub struct Caught(oneshot::Sender<Decision>);

#[derive(Debug)]
struct Decision {
    deliver: bool,
    silence: Duration,
}

impl Caught {
    /// Lets the server have the COMMIT, or not; the connection is cut after `silence`.
    pub fn decide(self, deliver: bool, silence: Duration) {
        // A connection that is gone needs no decision.
        let _ = self.0.send(Decision { deliver, silence });
    }
}

/// Whose COMMIT is caught, and who waits for it.
struct Snare {
    role: String,
    caught: oneshot::Sender<Caught>,
}

/// A proxy on a port of its own. Ends with this value.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepting: tokio::task::JoinHandle<()>,
}

struct Shared {
    target: u16,
    mode: watch::Sender<Mode>,
    /// Counts cuts: a connection ends when it rises.
    cuts: watch::Sender<u64>,
    snare: Mutex<Option<Snare>>,
}

impl Proxy {
    /// Listens on `port`, in front of the loopback port `target`.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn start(port: u16, target: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.context("the proxy's port")?;
        let (mode, cuts) = (watch::Sender::new(Mode::Pass), watch::Sender::new(0));
        let shared = Arc::new(Shared { target, mode, cuts, snare: Mutex::default() });
        let accepting = tokio::spawn(shared.clone().accept(listener));
        Ok(Self { port, shared, accepting })
    }

    /// The port that clients connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends all connections of this moment.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// What happens from now on.
    pub fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
        if mode == Mode::Refuse {
            self.cut();
        }
    }

    /// Catches the next COMMIT of a role. One snare at a time: a later one takes the place of the former.
    pub fn snare(&self, role: &str) -> oneshot::Receiver<Caught> {
        let (caught, receiver) = oneshot::channel();
        *self.shared.snare() = Some(Snare { role: role.to_owned(), caught });
        receiver
    }

    /// Catches nothing any more.
    pub fn disarm(&self) {
        *self.shared.snare() = None;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

impl Shared {
    fn snare(&self) -> std::sync::MutexGuard<'_, Option<Snare>> {
        self.snare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        while let Ok((client, _)) = listener.accept().await {
            if *self.mode.borrow() != Mode::Refuse {
                tokio::spawn(self.clone().connect(client));
            }
        }
    }

    async fn connect(self: Arc<Self>, client: TcpStream) {
        let mut cuts = self.cuts.subscribe();
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.target)).await else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let muted = watch::Sender::new(false);
        tokio::select! {
            _ = cuts.changed() => {}
            () = self.requests(from_client, to_server, &muted) => {}
            () = self.answers(from_server, to_client, muted.subscribe()) => {}
        }
    }

    /// Forwards what the client sends, until it ends or a caught COMMIT has had its silence.
    async fn requests(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, muted: &watch::Sender<bool>) {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut role = None;
        while let Ok(length @ 1..) = from.read(&mut chunk).await {
            let bytes = &chunk[..length];
            self.thawed().await;
            if role.is_none() {
                role = user(bytes);
            }
            let commits = COMMITS.iter().any(|commit| find(bytes, commit).is_some());
            if commits && let Some(snare) = self.sprung(role.as_deref()) {
                let (decide, decision) = oneshot::channel();
                muted.send_replace(true);
                if snare.caught.send(Caught(decide)).is_ok()
                    && let Ok(Decision { deliver, silence }) = decision.await
                {
                    if deliver && to.write_all(bytes).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(silence).await;
                }
                return;
            }
            if to.write_all(bytes).await.is_err() {
                return;
            }
        }
    }

    /// Forwards what the server answers, until it ends. What is muted goes nowhere.
    async fn answers(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, muted: watch::Receiver<bool>) {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = from.read(&mut chunk).await;
            self.thawed().await;
            match read {
                Ok(length @ 1..) if !*muted.borrow() => {
                    if to.write_all(&chunk[..length]).await.is_err() {
                        return;
                    }
                }
                Ok(1..) => {}
                _ => return,
            }
        }
    }

    /// Waits for as long as everything is frozen.
    async fn thawed(&self) {
        let mut mode = self.mode.subscribe();
        // The sender is in `self`.
        let _ = mode.wait_for(|mode| *mode != Mode::Freeze).await;
    }

    fn sprung(&self, role: Option<&str>) -> Option<Snare> {
        self.snare().take_if(|snare| role == Some(snare.role.as_str()))
    }
}

/// The role that a session's first message names.
fn user(bytes: &[u8]) -> Option<String> {
    let start = find(bytes, USER)? + USER.len();
    let length = bytes[start..].iter().position(|byte| *byte == 0)?;
    String::from_utf8(bytes[start..start + length].to_vec()).ok()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::free_port;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A server that answers each chunk with its length, and says what it got.
    async fn server() -> (u16, tokio::sync::mpsc::UnboundedReceiver<Vec<u8>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (got, received) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let got = got.clone();
                tokio::spawn(async move {
                    let mut chunk = [0; 256];
                    while let Ok(length @ 1..) = stream.read(&mut chunk).await {
                        let _ = got.send(chunk[..length].to_vec());
                        if stream.write_all(&[length as u8]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        (port, received)
    }

    async fn ask(client: &mut TcpStream, bytes: &[u8]) -> Option<u8> {
        client.write_all(bytes).await.ok()?;
        tokio::time::timeout(PATIENCE, client.read_u8()).await.expect("an answer or an end").ok()
    }

    #[tokio::test]
    async fn a_commit_is_caught_and_delivered_or_not_and_its_answer_withheld() {
        let (target, mut received) = server().await;
        let proxy = Proxy::start(free_port().expect("a port"), target).await.expect("it listens");
        for deliver in [true, false] {
            let mut client =
                TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.expect("it answers");
            assert_eq!(ask(&mut client, b"....user\0fn_a\0database\0x\0").await, Some(25));
            let other = proxy.snare("fn_b");
            assert_eq!(ask(&mut client, b"Q COMMIT; RESET").await, Some(15), "another role's");
            drop(other);
            let caught = proxy.snare("fn_a");
            assert_eq!(ask(&mut client, b"Q SELECT 'COMMITTED'").await, Some(20), "no COMMIT");
            client.write_all(b"Q RESET x; COMMIT; y").await.expect("sent");
            let caught =
                tokio::time::timeout(PATIENCE, caught).await.expect("in time").expect("it is caught");
            while let Ok(bytes) = received.try_recv() {
                assert_ne!(bytes, b"Q RESET x; COMMIT; y", "it was not let through yet");
            }
            caught.decide(deliver, Duration::from_millis(50));
            let end = tokio::time::timeout(PATIENCE, client.read_u8()).await.expect("in time");
            assert!(end.is_err(), "the connection ends without an answer");
            let got = deliver.then(|| b"Q RESET x; COMMIT; y".to_vec());
            assert_eq!(received.try_recv().ok(), got);
        }
    }

    #[tokio::test]
    async fn what_is_frozen_arrives_later_and_what_is_refused_never() {
        let (target, _received) = server().await;
        let proxy = Proxy::start(free_port().expect("a port"), target).await.expect("it listens");
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.expect("it answers");
        assert_eq!(ask(&mut client, b"abc").await, Some(3));
        proxy.set(Mode::Freeze);
        client.write_all(b"abcd").await.expect("sent");
        assert!(tokio::time::timeout(Duration::from_millis(100), client.read_u8()).await.is_err(), "frozen");
        proxy.set(Mode::Pass);
        assert_eq!(
            tokio::time::timeout(PATIENCE, client.read_u8()).await.expect("in time").expect("it arrives"),
            4
        );
        proxy.set(Mode::Refuse);
        assert_eq!(ask(&mut client, b"a").await, None);
        let mut refused = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.expect("it listens");
        assert_eq!(ask(&mut refused, b"a").await, None);
        proxy.set(Mode::Pass);
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.expect("it answers");
        assert_eq!(ask(&mut client, b"ab").await, Some(2));
    }
}
