//! A client that speaks RFC 6455, over a pipe.

use super::*;
use crate::hub::{Hub, WAITING_MAX};
use fnhost_kafka::tail::Tailed as _;
use fnhost_metrics::{LiveMetrics, Transport};
use fnhost_types::record::{Record, TopicPartition};
use std::sync::Arc;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest wait for anything here.
const PATIENCE: Duration = Duration::from_secs(60);

struct Served {
    hub: Arc<Hub>,
    stop: CancellationToken,
    client: WebSocketStream<DuplexStream>,
    ended: JoinHandle<()>,
}

/// A client whose pipe takes `pipe_bytes` unread.
async fn served(pipe_bytes: usize, write_timeout: Duration) -> Served {
    let hub = Hub::new(vec!["a".into()]);
    hub.begin(&[(TopicPartition::new("a", 0), 0)]);
    let subscription = hub.subscribe(b"one", &[0], &|_| 0, None).expect("a place");
    let stop = CancellationToken::new();
    let counted = (&LiveMetrics::default(), Transport::WebSocket, None);
    let snapshot = br#"{"status":"NEW"}"#;
    let updates = Updates::new(subscription, hub.clone(), None, snapshot, stop.clone(), counted);
    let (ours, theirs) = tokio::io::duplex(pipe_bytes);
    let client = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
    let ended = tokio::spawn(send_all(ours, updates, write_timeout));
    Served { hub, stop, client, ended }
}

impl Served {
    fn push(&self, offset: i64) {
        let value = Some(br#"{"step":1}"#.to_vec());
        let record = Record { offset, timestamp_ms: 0, key: Some(b"one".to_vec()), value, headers: vec![] };
        self.hub.push(&TopicPartition::new("a", 0), record);
    }

    async fn next(&mut self) -> Message {
        let next = timeout(PATIENCE, self.client.next()).await.expect("in time");
        next.expect("a message").expect("one that can be read")
    }

    /// Reads to the end; the code that it came with.
    async fn closed(mut self) -> CloseCode {
        let code = loop {
            if let Message::Close(frame) = self.next().await {
                break frame.expect("a code").code;
            }
        };
        timeout(PATIENCE, async { while self.client.next().await.is_some() {} }).await.expect("in time");
        timeout(PATIENCE, self.ended).await.expect("in time").expect("no panic");
        assert_eq!(self.hub.viewers(), 0, "its place is free");
        code
    }
}

#[tokio::test]
async fn a_client_gets_the_snapshot_then_records() {
    let mut served = served(1 << 16, PATIENCE).await;
    assert_eq!(
        served.next().await,
        Message::text(r#"{"event":"snapshot","id":"0","data":{"status":"NEW"}}"#)
    );
    served.push(0);
    let data = r#"{"data":{"step":1},"time":null,"topic":"a","type":"record"}"#;
    assert_eq!(served.next().await, Message::text(format!(r#"{{"event":"record","id":"1","data":{data}}}"#)));
    served.client.send(Message::Ping("there?".into())).await.expect("sent");
    assert_eq!(served.next().await, Message::Pong("there?".into()));
    served.client.close(None).await.expect("sent");
    timeout(PATIENCE, served.ended).await.expect("in time").expect("no panic");
    assert_eq!(served.hub.viewers(), 0);
}

#[tokio::test]
async fn what_clients_say_ends_it_with_a_code() {
    let cases = [
        (Message::text("hello"), CloseCode::Unsupported),
        (Message::binary(vec![0]), CloseCode::Unsupported),
        (Message::text("x".repeat(RECEIVED_MAX_BYTES + 1)), CloseCode::Size),
    ];
    for (said, code) in cases {
        let mut served = served(1 << 16, PATIENCE).await;
        served.client.send(said.clone()).await.expect("sent");
        assert_eq!(served.closed().await, code, "{said:?}");
    }
}

#[tokio::test]
async fn a_host_that_stops_says_so_even_to_who_does_not_read() {
    let quick = served(1 << 16, PATIENCE).await;
    quick.stop.cancel();
    assert_eq!(quick.closed().await, CloseCode::Away);

    let slow = served(1, PATIENCE).await;
    slow.stop.cancel();
    timeout(PATIENCE, slow.ended).await.expect("it is not waited for").expect("no panic");
}

#[tokio::test]
async fn a_client_that_falls_behind_is_sent_what_waits_and_told_to_come_back() {
    let mut served = served(64, PATIENCE).await;
    assert!(matches!(served.next().await, Message::Text(_)), "the snapshot");
    for offset in 0..3 * WAITING_MAX as i64 {
        served.push(offset);
    }
    assert_eq!(served.hub.viewers(), 0, "it was cut off");
    let (mut last, mut code) = (0, None);
    while code.is_none() {
        match served.next().await {
            Message::Text(text) => {
                let event: serde_json::Value = serde_json::from_str(&text).expect("JSON");
                let id = event["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
                assert_eq!(id, last + 1, "none is left out");
                last = id;
            }
            Message::Close(frame) => code = frame.map(|frame| frame.code),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(code, Some(CloseCode::Again));
    assert!((WAITING_MAX as i64..=WAITING_MAX as i64 + 1).contains(&last), "{last}");
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_left() {
    let served = served(1, Duration::from_millis(20)).await;
    timeout(PATIENCE, served.ended).await.expect("in time").expect("no panic");
    assert_eq!(served.hub.viewers(), 0);
}

fn asks(headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::get("/orders/1/events")
        .header("host", "shop.example:8080")
        .header("connection", "keep-alive, Upgrade")
        .header("upgrade", "WebSocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(())
        .expect("a request");
    for (name, value) in headers {
        let name: http::HeaderName = name.parse().expect("a name");
        match *value {
            "" => drop(request.headers_mut().remove(name)),
            value => drop(request.headers_mut().insert(name, value.parse().expect("a value"))),
        }
    }
    request
}

#[test]
fn who_may_open_one() {
    let declared = ["https://partner.example".to_owned()];
    // headers, status
    let cases: [(&[(&str, &str)], u16); 13] = [
        (&[], 101),
        (&[("origin", "http://shop.example:8080")], 101),
        (&[("origin", "https://SHOP.example:8080")], 101),
        (&[("origin", "https://partner.example")], 101),
        (&[("origin", "https://shop.example")], 403),
        (&[("origin", "https://shop.example:8080.evil.example")], 403),
        (&[("origin", "null")], 403),
        (&[("sec-websocket-protocol", "bearer.x, fnhost.v1")], 101),
        (&[("sec-websocket-protocol", "bearer.x")], 400),
        (&[("sec-websocket-version", "8")], 426),
        (&[("sec-websocket-version", "")], 426),
        (&[("sec-websocket-key", "short")], 400),
        (&[("connection", "keep-alive")], 400),
    ];
    for (headers, status) in cases {
        let request = asks(headers);
        assert!(is_wanted(request.headers()));
        let answer = agree(&request, &declared).unwrap_or_else(|refused| refused);
        assert_eq!(answer.status().as_u16(), status, "{headers:?}");
        if status == 101 {
            assert_eq!(answer.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        }
        let offers = headers.iter().any(|(name, _)| *name == "sec-websocket-protocol");
        let protocol = answer.headers().get("sec-websocket-protocol");
        assert_eq!(protocol.is_some(), offers && status == 101, "{headers:?}");
    }
    assert!(!is_wanted(asks(&[("upgrade", "h2c")]).headers()));
}

#[test]
fn a_token_comes_as_a_subprotocol() {
    let request = asks(&[("sec-websocket-protocol", "fnhost.v1, bearer.aa.bb-_.cc")]);
    let authorization = authorization(request.headers()).expect("one");
    assert_eq!(authorization, "Bearer aa.bb-_.cc");
    assert!(authorization.is_sensitive(), "no log shows it");
    assert!(super::authorization(asks(&[]).headers()).is_none());
}

#[test]
fn what_is_no_json_is_sent_as_text() {
    let event = |data: &str| text(&Event { kind: "snapshot".into(), id: "1-2".into(), data: data.into() });
    assert_eq!(event("{\n\"a\": 1}"), "{\"event\":\"snapshot\",\"id\":\"1-2\",\"data\":{\n\"a\": 1}}");
    assert_eq!(event("a \"b\""), r#"{"event":"snapshot","id":"1-2","data":"a \"b\""}"#);
}
