//! Records of any bytes, from a real broker: what was written is what is read.

use fnhost_kafka::scan::{Bounds, scan};
use fnhost_types::record::TopicPartition;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Strategy, any};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;

use super::edges::no_text;
use super::world::{PATIENCE, World};

/// Records that are written and read.
const RECORDS: usize = 300;
/// Most bytes of a key, a value, a header's name and its value.
const BYTES_MAX: usize = 200;
/// Most headers of a record.
const HEADERS_MAX: usize = 6;

/// Key, value and headers.
type Written = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn written() -> impl Strategy<Value = Written> {
    let bytes = || vec(any::<u8>(), 0..BYTES_MAX);
    (option::of(bytes()), option::of(bytes()), vec((bytes(), option::of(bytes())), 0..HEADERS_MAX))
}

/// What the contract makes of a name: text up to its first zero byte, which ends a name in librdkafka.
fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_any_bytes_is_read_as_it_was_written() {
    let world = World::new(&["bytes"]).await;
    let (mut runner, strategy) = (TestRunner::deterministic(), written());
    let records: Vec<Written> =
        (0..RECORDS).map(|_| strategy.new_tree(&mut runner).expect("a record").current()).collect();
    for (key, value, headers) in &records {
        let headers = headers.iter().fold(OwnedHeaders::new(), |all, (name, value)| {
            all.insert(Header { key: no_text(name), value: value.as_deref() })
        });
        let record = FutureRecord { headers: Some(headers), ..FutureRecord::to(&world.topics[0]) };
        let record = FutureRecord { key: key.as_deref(), payload: value.as_deref(), ..record };
        world.producer.send::<[u8], [u8], _>(record, PATIENCE).await.expect("sent");
    }
    let (tp, range) = (TopicPartition::new(&world.topics[0], 0), 0..RECORDS as i64);
    let scanned =
        scan(&world.access(), &tp, range, Bounds::time(PATIENCE), |_| true).await.expect("it is read");
    assert!(scanned.complete);
    assert_eq!(scanned.records.len(), RECORDS);
    for (offset, (read, (key, value, headers))) in (0..).zip(scanned.records.iter().zip(&records)) {
        assert_eq!((read.offset, &read.key, &read.value), (offset, key, value));
        let read: Vec<(&str, &[u8])> =
            read.headers.iter().map(|header| (header.name.as_str(), header.value.as_slice())).collect();
        let names: Vec<String> = headers.iter().map(|(bytes, _)| name(bytes)).collect();
        let values = headers.iter().map(|(_, value)| value.as_deref().unwrap_or_default());
        assert_eq!(read, names.iter().map(String::as_str).zip(values).collect::<Vec<_>>(), "offset {offset}");
    }
}
