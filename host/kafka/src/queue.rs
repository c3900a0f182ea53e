//! The queue of one partition's fetched messages, as librdkafka has it.
//!
//! Not rdkafka's own view of it: that one drops the offset at which a partition's end was reached, which is the only sign that
//! nothing but control records and aborted transactions stands between the last record and the log's end.

use super::consumer::Inner;
use super::record::owned;
use fnhost_types::record::{Record, TopicPartition};
use fnhost_types::stream_keys::StreamKeys;
use rdkafka::bindings as rd;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{IsError as _, KafkaError};
use rdkafka::types::RDKafka;
use std::ffi::{CString, c_void};
use std::ptr;
use std::sync::Arc;
use tokio::sync::Notify;

/// What a queue gives.
pub(super) enum Polled {
    /// A message.
    Record(Record),
    /// Everything below this offset has been given.
    End(i64),
    /// Fetching failed.
    Failed(KafkaError),
}

/// A queue that nothing else is forwarded to or from.
pub(super) struct Queue {
    native: *mut rd::rd_kafka_queue_t,
    tp: TopicPartition,
    /// What librdkafka has a pointer to.
    arrived: Arc<Notify>,
    /// Outlives the queue.
    _consumer: Arc<Inner>,
}

// SAFETY: librdkafka's queues may be used from any thread.
#[allow(unsafe_code, reason = "said above")]
unsafe impl Send for Queue {}

impl Queue {
    /// Splits the partition's queue off the consumer's: what is fetched from here on arrives here alone, and `arrived` is
    /// notified whenever it was empty. None where the partition has no queue.
    #[allow(unsafe_code, reason = "librdkafka's queues are C")]
    pub fn split(consumer: &Arc<Inner>, tp: &TopicPartition, arrived: Arc<Notify>) -> Option<Self> {
        let topic = CString::new(tp.topic.as_str()).ok()?;
        // SAFETY: the client is alive; the queue is destroyed by `drop`.
        let native = unsafe {
            rd::rd_kafka_queue_get_partition(consumer.client().native_ptr(), topic.as_ptr(), tp.partition)
        };
        if native.is_null() {
            return None;
        }
        let queue = Self { native, tp: tp.clone(), arrived, _consumer: consumer.clone() };
        queue.keep_apart();
        // SAFETY: `arrived` is shared until `drop` has switched the callback off.
        unsafe {
            rd::rd_kafka_queue_cb_event_enable(
                native,
                Some(notify),
                Arc::as_ptr(&queue.arrived).cast_mut().cast(),
            );
        }
        Some(queue)
    }

    /// Keeps what is fetched from being forwarded to the consumer's own queue.
    #[allow(unsafe_code, reason = "librdkafka's queues are C")]
    pub fn keep_apart(&self) {
        // SAFETY: the queue is alive.
        unsafe { rd::rd_kafka_queue_forward(self.native, ptr::null_mut()) }
    }

    /// How much has arrived and was not taken.
    #[allow(unsafe_code, reason = "librdkafka's queues are C")]
    pub fn len(&self) -> usize {
        // SAFETY: the queue is alive.
        unsafe { rd::rd_kafka_queue_length(self.native) }
    }

    /// The next that has arrived; none where nothing has. Does not wait.
    #[allow(unsafe_code, reason = "librdkafka's messages are C")]
    pub fn poll(&self, keys: &StreamKeys) -> Option<Polled> {
        // SAFETY: the queue is alive, and the message is until it is destroyed here.
        unsafe {
            let message = rd::rd_kafka_consume_queue(self.native, 0);
            let (error, offset) = (message.as_ref()?.err, (*message).offset);
            let polled = if error == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF {
                Polled::End(offset)
            } else if error.is_error() {
                Polled::Failed(KafkaError::MessageConsumption(error.into()))
            } else {
                Polled::Record(owned(message, (&self.tp.topic, self.tp.partition), keys))
            };
            rd::rd_kafka_message_destroy(message);
            Some(polled)
        }
    }
}

impl Drop for Queue {
    #[allow(unsafe_code, reason = "librdkafka's queues are C")]
    fn drop(&mut self) {
        // SAFETY: nothing uses it after this; without its callback nothing uses `arrived`.
        unsafe {
            rd::rd_kafka_queue_cb_event_enable(self.native, None, ptr::null_mut());
            rd::rd_kafka_queue_destroy(self.native);
        }
    }
}

#[allow(unsafe_code, reason = "called by librdkafka")]
unsafe extern "C" fn notify(_: *mut RDKafka, arrived: *mut c_void) {
    // SAFETY: it is the pointer that `split` gave, to what the queue shares for as long as there is the callback.
    unsafe { (*arrived.cast::<Notify>()).notify_one() }
}
