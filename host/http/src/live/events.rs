//! Live updates as server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! ```text
//! retry: 1000
//!
//! event: snapshot            the function's own answer; not sent to a client whose id still holds
//! id: 12-0-7
//! data: {...}
//!
//! event: payment.authorized  the CloudEvents type, or `record`
//! id: 12-0-8
//! data: {"topic":"payment-events","type":"payment.authorized","time":"...","data":{...}}
//! ```

use super::RETRY;
use super::updates::{Event, Update, Updates};
use bytes::Bytes;
use fnhost_engine::BodyError;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use std::fmt::Write as _;

pub(in super::super) type LiveBody = UnsyncBoxBody<Bytes, BodyError>;

/// The answer that streams the updates.
pub(super) fn stream(updates: Updates) -> Response<LiveBody> {
    let begun = format!("retry: {}\n\n", RETRY.as_millis());
    let texts = futures::stream::unfold((Some(begun), updates), |(begun, mut updates)| async move {
        let text = match begun {
            Some(begun) => begun,
            None => match updates.next().await {
                Update::Event(event) => text(&event),
                Update::Quiet => ":\n\n".to_owned(),
                Update::End(_) => return None,
            },
        };
        Some((Ok(Frame::data(Bytes::from(text))), (None, updates)))
    });
    let mut response = Response::new(StreamBody::new(texts).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies of nginx's kind would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn text(Event { kind, id, data }: &Event) -> String {
    let mut text = format!("event: {kind}\nid: {id}\n");
    for line in data.split(['\n', '\r']) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "data: {line}");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_of_several_lines_stays_one_event() {
        let event = Event { kind: "snapshot".into(), id: "1-2".into(), data: "{\n\"a\": 1}".into() };
        assert_eq!(text(&event), "event: snapshot\nid: 1-2\ndata: {\ndata: \"a\": 1}\n\n");
    }
}
