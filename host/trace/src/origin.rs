//! Where a call comes from: its log lines carry the component, and the records or the request that caused it.

use crate::{Context, Hop, TRACEPARENT, TraceId};
use fnhost_types::wit::Batch;
use std::sync::{Arc, OnceLock};

/// A call, for its log lines.
#[derive(Debug)]
pub struct Origin {
    /// The component's id.
    pub component: Arc<str>,
    /// Short digest of its version.
    pub version: Arc<str>,
    /// The call's number, unique in this process.
    pub call: u64,
    /// What caused it, as soon as it is known.
    pub cause: OnceLock<Cause>,
    /// Its hop, where it is of a trace that is recorded.
    pub hop: OnceLock<Hop>,
}

/// What caused a call. Fields that do not fit it are absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cause {
    /// Topic of the batch.
    pub topic: Option<String>,
    /// Partition of the batch.
    pub partition: Option<i32>,
    /// Offset of the batch's first record.
    pub first_offset: Option<i64>,
    /// Offset of its last.
    pub last_offset: Option<i64>,
    /// The record's key, where there is one record and its key is text.
    pub key: Option<String>,
    /// Method of the request.
    pub method: Option<String>,
    /// The route that it took.
    pub route: Option<String>,
    /// What the client, or a proxy, calls it in `x-request-id`.
    pub request_id: Option<String>,
    /// Place in the trace of the request or the one record.
    pub context: Option<Context>,
}

impl Cause {
    /// A batch of records.
    pub fn batch(batch: &Batch) -> Self {
        let (first, last) = (batch.messages.first(), batch.messages.last());
        let only = first.filter(|_| batch.messages.len() == 1);
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        let header = only.and_then(|record| record.headers.iter().find(|h| h.name == TRACEPARENT));
        Self {
            topic: Some(batch.topic.clone()),
            partition: Some(batch.partition),
            first_offset: first.map(|record| record.offset),
            last_offset: last.map(|record| record.offset),
            key: only.and_then(|record| text(record.key.as_deref()?)),
            context: header.and_then(|header| Context::parse(&header.value)),
            ..Self::default()
        }
    }

    /// The trace's id, for a log line.
    pub fn trace_id(&self) -> Option<tracing::field::DisplayValue<TraceId>> {
        self.context.map(|context| tracing::field::display(context.trace_id()))
    }
}

impl Origin {
    /// What caused the call; nothing while it is not known.
    pub fn cause(&self) -> &Cause {
        static NONE: Cause = Cause {
            topic: None,
            partition: None,
            first_offset: None,
            last_offset: None,
            key: None,
            method: None,
            route: None,
            request_id: None,
            context: None,
        };
        self.cause.get().unwrap_or(&NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fnhost_types::wit::{Header, Message};

    fn message(offset: i64) -> Message {
        let header = Header {
            name: TRACEPARENT.to_owned(),
            value: b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_vec(),
        };
        Message {
            offset,
            timestamp_ms: 0,
            key: Some(b"k".to_vec()),
            value: None,
            headers: vec![header],
            attempt: 1,
            last_attempt: false,
        }
    }

    #[test]
    fn a_batch_is_named_by_its_ends_and_a_record_by_its_key_and_trace_too() {
        let batch = |messages| Batch { topic: "t".into(), partition: 2, messages };
        let many = Cause::batch(&batch(vec![message(3), message(4), message(9)]));
        assert_eq!((many.topic.as_deref(), many.partition), (Some("t"), Some(2)));
        assert_eq!((many.first_offset, many.last_offset), (Some(3), Some(9)));
        assert_eq!((many.key, many.context), (None, None));
        let one = Cause::batch(&batch(vec![message(3)]));
        assert_eq!((one.first_offset, one.last_offset), (Some(3), Some(3)));
        assert_eq!(one.key.as_deref(), Some("k"));
        assert_eq!(
            one.context.map(|c| c.trace_id().to_string()).as_deref(),
            Some("4bf92f3577b34da6a3ce929d0e0e4736")
        );
    }
}
