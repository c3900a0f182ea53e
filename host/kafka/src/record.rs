//! A consumed message as an owned record, read from librdkafka's own structure.
//!
//! rdkafka's view of headers takes their names for UTF-8 and panics where one is not, and Kafka promises no such thing. So this
//! reads the bytes; in a name, what is not UTF-8 becomes U+FFFD, because the contract with functions has names as text.

use fnhost_types::record::{NumberClaim, Record};
use fnhost_types::stream_keys::StreamKeys;
use fnhost_types::wit::Header;
use rdkafka::bindings as rd;
use rdkafka::message::{BorrowedMessage, Message as _};
use std::ffi::CStr;
use std::ptr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often forged numbers are said in the log, at most; each is counted.
const FORGED_SAID_INTERVAL: Duration = Duration::from_secs(10);

/// Copies a message that rdkafka lends. A number that is not of this deployment is taken away.
#[allow(unsafe_code, reason = "librdkafka's structures are C")]
pub(super) fn borrowed(message: &BorrowedMessage<'_>, keys: &StreamKeys) -> Record {
    // SAFETY: it is alive for as long as it is lent.
    unsafe { owned(message.ptr(), (message.topic(), message.partition()), keys) }
}

/// Copies a message out of librdkafka's buffers. A number that is not of this deployment is taken away.
///
/// # Safety
/// `message` points to a message that librdkafka has handed out and that is not destroyed yet.
#[allow(unsafe_code, reason = "librdkafka's structures are C")]
pub(super) unsafe fn owned(
    message: *const rd::rd_kafka_message_t,
    tp: (&str, i32),
    keys: &StreamKeys,
) -> Record {
    let mut record = unsafe {
        let mut time_kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        let timestamp_ms = rd::rd_kafka_message_timestamp(message, &raw mut time_kind);
        Record {
            offset: (*message).offset,
            timestamp_ms: timestamp_ms.max(-1),
            key: bytes((*message).key, (*message).key_len),
            value: bytes((*message).payload, (*message).len),
            headers: headers(message),
        }
    };
    if record.keep_number_of(keys, tp) == NumberClaim::Forged {
        forged(tp, record.offset);
    }
    record
}

#[allow(unsafe_code, reason = "librdkafka's structures are C")]
unsafe fn headers(message: *const rd::rd_kafka_message_t) -> Vec<Header> {
    let mut native = ptr::null_mut();
    // SAFETY: the caller's message is alive, and so are its headers.
    unsafe {
        if rd::rd_kafka_message_headers(message, &raw mut native)
            != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return Vec::new();
        }
        let mut headers = Vec::with_capacity(rd::rd_kafka_header_cnt(native));
        for index in 0..headers.capacity() {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            let found =
                rd::rd_kafka_header_get_all(native, index, &raw mut name, &raw mut value, &raw mut size);
            if found != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                break;
            }
            headers.push(Header {
                name: CStr::from_ptr(name).to_string_lossy().into_owned(),
                value: bytes(value, size).unwrap_or_default(),
            });
        }
        headers
    }
}

/// Copies bytes; none where there are none, which is not the same as no bytes.
#[allow(unsafe_code, reason = "librdkafka's structures are C")]
unsafe fn bytes(start: *const std::ffi::c_void, length: usize) -> Option<Vec<u8>> {
    // SAFETY: librdkafka gives the length of what it points to.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) }.to_vec())
}

fn forged((topic, partition): (&str, i32), offset: i64) {
    static SAID: Mutex<Option<Instant>> = Mutex::new(None);
    fnhost_metrics::forged_number(topic);
    let mut said = SAID.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if said.is_none_or(|at| at.elapsed() >= FORGED_SAID_INTERVAL) {
        *said = Some(Instant::now());
        tracing::warn!(
            topic,
            partition,
            offset,
            "a record claims a number (fnhost-stream, fnhost-seq) that this deployment has not given; it is handled as a foreign \
             producer's, and the claim is ignored"
        );
    }
}
