//! Viewers come, are cut off, and come back.

use super::recent::RECORDS_MAX;
use super::*;
use fnhost_types::record::{SEQ_HEADER, STREAM_HEADER};
use fnhost_types::wit::Header;

fn hub() -> Arc<Hub> {
    let hub = Hub::new(vec!["a".into(), "b".into()]);
    hub.begin(&[(TopicPartition::new("a", 0), 10), (TopicPartition::new("b", 0), 0)]);
    hub
}

fn record(key: &str, offset: i64) -> Record {
    Record { offset, timestamp_ms: 0, key: Some(key.into()), value: None, headers: vec![] }
}

fn numbered(key: &str, offset: i64, seq: i64) -> Record {
    let header = |name: &str, value: String| Header { name: name.into(), value: value.into_bytes() };
    let headers = vec![header(STREAM_HEADER, "s".into()), header(SEQ_HEADER, seq.to_string())];
    Record { headers, ..record(key, offset) }
}

fn view(hub: &Arc<Hub>, key: &str, cursor: Option<&str>) -> Subscription {
    hub.subscribe(key.as_bytes(), &[0, 1], &|_| 0, cursor).expect("a place")
}

fn offsets(backlog: &[Arc<Pushed>]) -> Vec<(usize, i64)> {
    backlog.iter().map(|pushed| (pushed.topic, pushed.offset)).collect()
}

#[tokio::test]
async fn a_viewer_gets_the_recent_and_the_new_records_of_its_key() {
    let hub = hub();
    hub.push(&TopicPartition::new("a", 0), record("one", 10));
    hub.push(&TopicPartition::new("a", 0), record("two", 11));
    let mut viewer = view(&hub, "one", None);
    assert!(!viewer.resumed);
    assert_eq!(offsets(&viewer.backlog), [(0, 10)]);
    assert_eq!(viewer.cursor.to_string(), "10-0", "where it stands before its backlog");
    hub.push(&TopicPartition::new("b", 0), record("two", 0));
    hub.push(&TopicPartition::new("b", 0), record("one", 1));
    let next = viewer.next().await.expect("a record");
    viewer.cursor.pass(&next);
    assert_eq!((next.topic, next.offset, viewer.cursor.to_string()), (1, 1, "10-2".into()));
}

#[test]
fn a_cursor_that_holds_resumes_and_any_other_begins_anew() {
    let hub = hub();
    for offset in 10..15 {
        hub.push(&TopicPartition::new("a", 0), record("one", offset));
    }
    // cursor, resumed, offsets that follow
    let cases: [(&str, bool, &[i64]); 6] = [
        ("13-0", true, &[13, 14]),
        ("15-0", true, &[]),
        ("9-0", false, &[10, 11, 12, 13, 14]),
        ("16-0", false, &[10, 11, 12, 13, 14]),
        ("13", false, &[10, 11, 12, 13, 14]),
        ("x-y", false, &[10, 11, 12, 13, 14]),
    ];
    for (cursor, resumed, follow) in cases {
        let viewer = view(&hub, "one", Some(cursor));
        let got: Vec<i64> = viewer.backlog.iter().map(|pushed| pushed.offset).collect();
        assert_eq!((viewer.resumed, got.as_slice()), (resumed, follow), "{cursor}");
    }
}

#[test]
fn what_had_to_make_room_is_no_place_to_resume() {
    let hub = hub();
    for offset in 0..=RECORDS_MAX as i64 {
        hub.push(&TopicPartition::new("b", 0), record("one", offset));
    }
    assert!(!view(&hub, "one", Some("10-0")).resumed);
    let viewer = view(&hub, "one", Some("10-1"));
    assert!(viewer.resumed);
    assert_eq!(viewer.backlog.len(), RECORDS_MAX);
}

#[tokio::test]
async fn a_message_that_is_sent_again_is_shown_once() {
    let hub = hub();
    let mut viewer = view(&hub, "one", None);
    for (offset, seq) in [(10, 1), (11, 2), (12, 1), (13, 2), (14, 3)] {
        hub.push(&TopicPartition::new("a", 0), numbered("one", offset, seq));
    }
    for expected in [10, 11, 14] {
        assert_eq!(viewer.next().await.expect("a record").offset, expected);
    }
}

#[tokio::test]
async fn a_viewer_that_does_not_read_is_cut_off_and_leaves_its_place() {
    let hub = hub();
    let mut viewer = view(&hub, "one", None);
    assert_eq!(hub.viewers(), 1);
    for offset in 0..=WAITING_MAX as i64 {
        hub.push(&TopicPartition::new("b", 0), record("one", offset));
    }
    assert_eq!(hub.viewers(), 0);
    for _ in 0..WAITING_MAX {
        assert!(viewer.next().await.is_some());
    }
    assert!(viewer.next().await.is_none(), "the stream ends");
    drop(viewer);
    assert_eq!(hub.viewers(), 0);
    let viewer = view(&hub, "one", None);
    assert_eq!(hub.viewers(), 1);
    drop(viewer);
    assert_eq!(hub.viewers(), 0);
}

#[test]
fn without_a_tail_nobody_is_taken() {
    let hub = hub();
    hub.end();
    let refused = hub.subscribe(b"one", &[0], &|_| 0, None).err();
    assert_eq!(refused, Some(Refused::NotLive));
}

#[tokio::test]
async fn a_viewer_asks_for_the_tail_and_waits_until_it_reads() {
    let hub = Hub::new(vec!["a".into()]);
    assert!(hub.wanted().now_or_never().is_none(), "nobody has asked");
    assert!(hub.read().now_or_never().is_none(), "it does not begin");
    let asking = tokio::spawn({
        let hub = hub.clone();
        async move { hub.read().await }
    });
    hub.wanted().await;
    hub.wanted().await;
    assert!(!asking.is_finished());
    hub.begin(&[(TopicPartition::new("a", 0), 0)]);
    assert_eq!(asking.await.expect("no panic"), Ok(()));
    assert_eq!(hub.read().await, Ok(()), "it reads already");
    assert!(hub.wanted().now_or_never().is_none(), "nobody has to ask for it any more");
}

#[test]
fn while_somebody_watches_the_tail_is_wanted() {
    let hub = hub();
    let viewer = view(&hub, "one", None);
    assert_eq!(hub.unwatched(), Duration::ZERO);
    let left = Instant::now();
    drop(viewer);
    assert!(hub.unwatched() <= left.elapsed());
    std::thread::yield_now();
    assert!(hub.unwatched() > Duration::ZERO);
}
