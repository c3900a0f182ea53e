//! What is kept answers whom, and for how long; the store is a map, or fails.

use super::*;
use crate::http::Body;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

const KEY: &str = "note/1";

#[derive(Default)]
struct Map {
    values: RefCell<HashMap<String, Vec<u8>>>,
    /// Every call fails.
    broken: Cell<bool>,
}

impl Cache for Map {
    async fn get(&self, key: &str) -> Option<Vec<u8>> {
        if self.broken.get() { None } else { self.values.borrow().get(key).cloned() }
    }

    async fn set(&self, key: &str, value: Vec<u8>) {
        if !self.broken.get() {
            self.values.borrow_mut().insert(key.to_owned(), value);
        }
    }
}

impl Map {
    /// Makes what is kept older.
    fn age(&self, ms: i64) {
        for value in self.values.borrow_mut().values_mut() {
            let kept = Kept::parse(value).expect("a value of ours");
            let read_at_ms = kept.read_at_ms.checked_add_signed(-ms).expect("a time");
            let aged = Kept { read_at_ms, ..kept }.bytes();
            *value = aged;
        }
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

fn request(token: &str, control: &str) -> Request {
    let header = |name: &str, value: String| (name.to_owned(), value.into_bytes());
    Request {
        method: "GET".to_owned(),
        path: "/notes/1".to_owned(),
        query: String::new(),
        headers: vec![
            header("authorization", format!("Bearer {token}")),
            header("cache-control", control.to_owned()),
        ],
        body: Body::Read(Vec::new()),
    }
}

/// The answer, and whether it was read for this request.
fn ask(map: &Map, request: &Request, version: i64) -> (String, bool) {
    let read = Cell::new(false);
    let response = now(through(map, request, KEY, async || {
        read.set(true);
        Ok((version, json(format!("{{\"version\":{version}}}").into_bytes())))
    }));
    let response = response.expect("an answer");
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    (String::from_utf8(response.body).expect("JSON"), read.get())
}

fn told(version: i64, read: bool) -> (String, bool) {
    (format!("{{\"version\":{version}}}"), read)
}

#[test]
fn an_answer_is_given_again_to_its_own_token_and_for_less_than_a_second() {
    let map = Map::default();
    let (mine, anothers) = (request("mine", ""), request("anothers", ""));
    assert_eq!(ask(&map, &mine, 1), told(1, true));
    assert_eq!(ask(&map, &mine, 2), told(1, false));
    assert_eq!(ask(&map, &anothers, 2), told(2, true), "another token is checked, whoever's it is");
    assert_eq!(ask(&map, &mine, 3), told(3, true));
    map.age(FRESH_MS as i64);
    assert_eq!(ask(&map, &mine, 4), told(4, true), "too old");
    map.age(-5_000);
    assert_eq!(ask(&map, &mine, 5), told(5, true), "from a clock that is ahead");
    let key = map.values.borrow().keys().cloned().collect::<Vec<_>>();
    assert_eq!(key, [KEY], "one value for one note, however many ask");
    let kept = map.values.borrow()[KEY].clone();
    assert!(!kept.windows(4).any(|part| part == b"mine"), "no token is kept");
}

#[test]
fn without_a_token_nothing_is_looked_up_or_kept() {
    let map = Map::default();
    let nobody = Request { headers: Vec::new(), ..request("", "") };
    for _ in 0..2 {
        let answer = now(through(&map, &nobody, KEY, async || Err(Problem::unauthorized("no token"))));
        assert_eq!(answer.map_err(|problem| problem.status), Err(401));
    }
    assert!(map.values.borrow().is_empty());
}

#[test]
fn refusals_are_not_kept() {
    let map = Map::default();
    let mine = request("mine", "");
    let refused = now(through(&map, &mine, KEY, async || Err(Problem::not_found("no such note"))));
    assert_eq!(refused.map_err(|problem| problem.status), Err(404));
    let unusual = now(through(&map, &mine, KEY, async || Ok((1, Response::empty(204)))));
    assert_eq!(unusual.map(|response| response.status), Ok(204));
    assert!(map.values.borrow().is_empty());
}

#[test]
fn a_request_can_ask_for_a_new_read_and_for_nothing_to_be_kept() {
    let map = Map::default();
    assert_eq!(ask(&map, &request("mine", "no-store"), 1), told(1, true));
    assert!(map.values.borrow().is_empty());
    assert_eq!(ask(&map, &request("mine", ""), 1), told(1, true));
    assert_eq!(ask(&map, &request("mine", "max-age=0, No-Cache"), 2), told(2, true));
    assert_eq!(ask(&map, &request("mine", ""), 3), told(2, false), "it was kept");
    assert_eq!(ask(&map, &request("mine", "no-store"), 3), told(3, true));
    assert_eq!(ask(&map, &request("mine", "no-storage"), 4), told(2, false), "another word");
}

#[test]
fn a_committed_change_ends_what_was_kept_and_keeps_older_reads_out() {
    let map = Map::default();
    let mine = request("mine", "");
    assert_eq!(ask(&map, &mine, 1), told(1, true));
    now(changed(&map, KEY, 2));
    assert_eq!(ask(&map, &mine, 1), told(1, true), "a read that began before the commit");
    assert_eq!(ask(&map, &mine, 2), told(2, true), "was not kept");
    assert_eq!(ask(&map, &mine, 3), told(2, false), "one after the commit is");
    now(changed(&map, KEY, 9));
    map.age(FRESH_MS as i64);
    assert_eq!(ask(&map, &mine, 3), told(3, true));
    assert_eq!(ask(&map, &mine, 4), told(3, false), "what has aged keeps nothing out");
}

#[test]
fn a_store_that_fails_or_holds_something_else_is_a_miss() {
    let map = Map::default();
    let mine = request("mine", "");
    assert_eq!(ask(&map, &mine, 1), told(1, true));
    map.broken.set(true);
    assert_eq!(ask(&map, &mine, 2), told(2, true));
    assert_eq!(ask(&map, &mine, 3), told(3, true));
    map.broken.set(false);
    for strange in [&b""[..], b"{}", &[0; HEADER_BYTES + 2], &[FORMAT; HEADER_BYTES - 1]] {
        map.values.borrow_mut().insert(KEY.to_owned(), strange.to_vec());
        assert_eq!(ask(&map, &mine, 4), told(4, true), "{strange:?}");
    }
    assert_eq!(ask(&map, &mine, 5), told(4, false), "and is replaced");
}
