//! Records that no function of the order system can handle: each becomes a dead letter of those, and is counted once by the ledger.

use crate::kafka::Cluster;
use fastrand::Rng;
use fnhost_types::record::{MAC_HEADER, SEQ_HEADER, STREAM_HEADER};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::time::Duration;
use uuid::Uuid;

/// The header by which the ledger knows them.
const MARK: &str = "odd";
/// Bytes that Kafka's default allows a record, less what its frame and the mark take.
const VALUE_BYTES_MAX: usize = 1_048_588 - 300;
/// Bytes of a large header, and headers of a record that has many.
const HEADER_BYTES: usize = 300_000;
const HEADERS: usize = 1_500;
/// Time in which the brokers take one, faults among them.
const SEND_DEADLINE: Duration = Duration::from_secs(120);
/// What ends the ledger's session.
const POISON: &[u8] = b"poison";

/// Topics that get them, with the triggers of the order system that they die in.
pub const TOPICS: [(&str, &[&str]); 2] =
    [("order-events", &["forecast", "inventory", "payment"]), ("payment-events", &["order"])];
/// The trigger of the ledger that reads both.
pub const LEDGER: &str = "ledger";

/// One that was sent.
#[derive(Clone, Debug)]
pub struct Odd {
    /// Its mark, which no other has.
    pub mark: String,
    /// Where it is.
    pub topic: &'static str,
    /// Partition of the topic.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// The triggers that it dies in.
    pub dies_in: Vec<&'static str>,
}

impl Odd {
    /// Whether the ledger counts it.
    #[must_use]
    pub fn counts(&self) -> bool {
        !self.dies_in.contains(&LEDGER)
    }
}

/// Sends one of each kind. `stream` is one that the deployment numbers messages on.
///
/// # Errors
/// The brokers did not take one in time.
pub async fn send(cluster: &Cluster, seed: u64, stream: &str, partitions: i32) -> anyhow::Result<Vec<Odd>> {
    let mut rng = Rng::with_seed(seed);
    let mut config = cluster.client();
    config
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", SEND_DEADLINE.as_millis().to_string())
        .set("message.max.bytes", "1100000");
    let producer: FutureProducer = config.create()?;
    let mut sent = Vec::new();
    for (number, (headers, value)) in kinds(&mut rng, stream).into_iter().enumerate() {
        let (topic, triggers) = TOPICS[rng.usize(0..TOPICS.len())];
        let mut dies_in = triggers.to_vec();
        if value.as_deref() == Some(POISON) {
            dies_in.push(LEDGER);
        }
        let mark = format!("{seed:016x}-{number}");
        let headers = headers.insert(Header { key: MARK, value: Some(&mark) });
        let partition = rng.i32(0..partitions);
        let key = Uuid::from_u128(rng.u128(..)).to_string();
        let mut record = FutureRecord::to(topic).partition(partition).headers(headers);
        record.key = rng.bool().then_some(&key);
        record.payload = value.as_ref();
        let delivered = producer.send(record, SEND_DEADLINE).await.map_err(|(error, _)| error)?;
        sent.push(Odd { mark, topic, partition: delivered.partition, offset: delivered.offset, dies_in });
    }
    Ok(sent)
}

/// Headers and value of each kind.
fn kinds(rng: &mut Rng, stream: &str) -> Vec<(OwnedHeaders, Option<Vec<u8>>)> {
    let any = OwnedHeaders::new;
    let text = |key, value| Header { key, value: Some(value) };
    let mut bytes = |length: usize| {
        let mut bytes = vec![0; length];
        rng.fill(&mut bytes);
        bytes
    };
    let forged = any().insert(text(STREAM_HEADER, stream)).insert(text(SEQ_HEADER, "9000000000000000000"));
    let many = (0..HEADERS).fold(any(), |headers, _| headers.insert(text("x", "y")));
    vec![
        (any(), Some(bytes(40))),
        (any().insert(text("ce_type", "order.created")), Some(b"{\"order_id\":".to_vec())),
        (any().insert(text("ce_type", "order.created")), None),
        (any().insert(text(no_text(b"\xe9v\xe9"), "v")), Some(bytes(10))),
        (any().insert(Header { key: "ce_type", value: Some(&b"\xff\0\xfe"[..]) }), Some(bytes(10))),
        (any().insert(Header { key: "large", value: Some(&bytes(HEADER_BYTES)[..]) }), Some(bytes(10))),
        (many, Some(bytes(10))),
        (any(), Some(bytes(VALUE_BYTES_MAX))),
        (forged.clone(), Some(bytes(20))),
        (forged.insert(text(MAC_HEADER, "1:00112233445566778899aabbccddeeff")), Some(bytes(20))),
        (any(), Some(POISON.to_vec())),
    ]
}

/// Bytes as a name, which rdkafka wants to be text and hands on as they are.
#[allow(unsafe_code, reason = "what is not UTF-8 cannot be had otherwise")]
fn no_text(name: &[u8]) -> &str {
    // SAFETY: it is not looked at, only copied.
    unsafe { std::str::from_utf8_unchecked(name) }
}
