//! How an fnhost ends: what is in hand is finished, within a deadline, and nothing is lost.

use super::health::Readiness;
use anyhow::Context as _;
use rustix::process::Signal;
use std::time::{Duration, Instant};
use tests::consistency::{assert_consistent, wait_settled};
use tests::customer::{Customer, NewOrder};
use tests::live::{Live, Transport};
use tests::load::{Load, seed};
use tests::outcome::Outcome;
use tests::scrape::Scrape;
use tests::system::{Fnhost, READY_DEADLINE, Setup};
use tests::wait::{Look, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Orders of the load.
const ORDERS: usize = 400;

/// An order half of whose body has been sent: the host waits for the rest.
struct HalfSent {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl HalfSent {
    async fn begin(fnhost: &Fnhost, customer: &Customer) -> anyhow::Result<Self> {
        let body = NewOrder::of(&[("COFFEE-1KG", 1)]).body().to_string();
        let head = format!(
            "POST /orders HTTP/1.1\r\nhost: it\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            customer.token,
            body.len()
        );
        let (first, rest) = body.as_bytes().split_at(body.len() / 2);
        let mut stream = TcpStream::connect(fnhost.client()?.address()).await?;
        stream.write_all(&[head.as_bytes(), first].concat()).await?;
        let admin = fnhost.admin()?;
        until("the request to be in hand", READY_DEADLINE, async || {
            let in_hand = Scrape::of(&admin).await?.sum("fnhost_http_requests_in_flight", &[]);
            Ok(Look::from_bool(in_hand >= 1.0, format!("{in_hand} are in hand")))
        })
        .await?;
        Ok(Self { stream, rest: rest.to_owned() })
    }

    /// Sends the rest; answers the first line of the response.
    async fn finish(mut self) -> anyhow::Result<String> {
        self.stream.write_all(&self.rest).await?;
        let mut answer = Vec::new();
        // The connection ends with the answer, since the host drains.
        self.stream.read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        Ok(answer.lines().next().context("an answer")?.to_owned())
    }
}

/// Waits until it says that it drains.
async fn until_draining(fnhost: &Fnhost) -> anyhow::Result<()> {
    let admin = fnhost.admin()?;
    until("the drain", READY_DEADLINE, async || {
        let readiness = Readiness::of(&admin).await?;
        let stage = readiness.checks.iter().find(|check| check.check == "stage").context("a stage")?;
        Ok(Look::from_bool(stage.detail == ["draining"] && !readiness.ready, format!("{readiness:?}")))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_finishes_what_is_in_hand() -> Outcome {
    let mut fnhost = Fnhost::start(Setup::default()).await?;
    let customer = Customer::register(&fnhost.client()?).await?;
    let mut load = Load::start(&fnhost.client()?, ORDERS, seed("a drain with a request in flight")).await?;
    load.wait_accepted(ORDERS / 4).await?;
    let order = customer.order(&NewOrder::of(&[("COFFEE-1KG", 1)])).await?;
    let mut watched = Vec::new();
    for transport in Transport::ALL {
        let mut live = Live::watch(transport, &customer, order.order_id, None).await?;
        live.next().await?;
        watched.push(live);
    }
    let half_sent = HalfSent::begin(&fnhost, &customer).await?;
    fnhost.signal(Signal::TERM)?;
    until_draining(&fnhost).await?;
    for (live, code) in watched.into_iter().zip([None, Some(1001)]) {
        assert_eq!(live.end().await?, code, "streams end at once, while the request goes on");
    }
    let address = fnhost.client()?.address().to_owned();
    until("new connections to be refused", READY_DEADLINE, async || {
        Ok(Look::from_bool(TcpStream::connect(&address).await.is_err(), "one was accepted"))
    })
    .await?;
    assert!(fnhost.ended()?.is_none(), "it ended with a request in flight");
    let line = half_sent.finish().await?;
    assert!(line.starts_with("HTTP/1.1 20"), "the request in flight was answered with {line}");
    let status = fnhost.wait_end().await?;
    assert!(status.success(), "{status}\n{}", fnhost.log());
    assert!(fnhost.log().contains("drained"), "{}", fnhost.log());
    fnhost.wait_nothing_left()?;

    fnhost.restart().await?;
    load.finish().await?;
    let db = fnhost.database().await?;
    wait_settled(&fnhost, &db).await?;
    let orders = db.count("SELECT count(*) FROM orders.orders").await?;
    assert_eq!(orders, i64::try_from(ORDERS + 2).map_err(anyhow::Error::from)?);
    assert_consistent(&db).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_ends_at_its_deadline_or_with_a_second_signal() -> Outcome {
    const DEADLINE: Duration = Duration::from_secs(2);
    let first = Fnhost::start(Setup::default()).await?;
    let joining = |seconds: u64| -> anyhow::Result<Fnhost> {
        let arguments = vec!["--drain-timeout".to_owned(), seconds.to_string()];
        Fnhost::new(Setup { arguments, ..first.setup_of_joining()? })
    };
    let customer = Customer::register(&first.client()?).await?;

    let mut host = joining(DEADLINE.as_secs())?;
    host.restart().await?;
    let _never_finished = HalfSent::begin(&host, &customer).await?;
    let began = Instant::now();
    host.signal(Signal::TERM)?;
    let status = host.wait_end().await?;
    assert!(status.success() && began.elapsed() >= DEADLINE, "{status} after {:?}", began.elapsed());
    assert!(host.log().contains("not drained within --drain-timeout"), "{}", host.log());

    let mut host = joining(3600)?;
    host.restart().await?;
    let _never_finished = HalfSent::begin(&host, &customer).await?;
    host.signal(Signal::INT)?;
    until_draining(&host).await?;
    host.signal(Signal::TERM)?;
    let status = host.wait_end().await?;
    assert!(status.success(), "{status}");
    assert!(host.log().contains("stopped without draining"), "{}", host.log());
    drop(first);
    Ok(())
}
