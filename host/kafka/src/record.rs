//! A consumed message as an owned record.

use fnhost_types::record::Record;
use fnhost_types::wit::Header;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

/// Copies a message out of librdkafka's buffers.
pub(super) fn owned(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers
            .iter()
            .map(|h| Header { name: h.key.to_string(), value: h.value.unwrap_or_default().to_vec() })
            .collect()
    });
    Record {
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
    }
}
