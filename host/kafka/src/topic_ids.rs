//! The ids that Kafka gives topics (KIP-516), by which a topic that was deleted and made anew is told from the former one.
//!
//! rdkafka has no call for them; librdkafka's DescribeTopics has.

use super::cluster::ANSWER_TIMEOUT;
use rdkafka::bindings as rd;
use rdkafka::error::{IsError as _, KafkaError};
use rdkafka::types::RDKafka;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr;
use uuid::Uuid;

/// What is destroyed when it goes out of use.
pub(super) struct Guard<T>(pub *mut T, pub unsafe extern "C" fn(*mut T));

impl<T> Drop for Guard<T> {
    #[allow(unsafe_code, reason = "librdkafka's structures are C")]
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: it was made for this guard, which is the only one that destroys it.
            unsafe { self.1(self.0) }
        }
    }
}

/// The ids of these topics; one that does not exist is left out, and so is every topic of brokers that have no ids (before Kafka 2.8). Blocks.
///
/// # Errors
/// No broker answered within [`ANSWER_TIMEOUT`].
///
/// # Safety
/// `client` is a client of librdkafka that lives until this returns.
#[allow(unsafe_code, reason = "librdkafka's admin interface is C")]
pub(super) unsafe fn read(
    client: *mut RDKafka,
    topics: &[String],
) -> Result<HashMap<String, Uuid>, KafkaError> {
    let names: Vec<CString> = topics.iter().filter_map(|name| CString::new(name.as_str()).ok()).collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let timeout_ms = ANSWER_TIMEOUT.as_millis() as i32;
    // SAFETY: the client lives, and what is made here lives until its guard goes.
    unsafe {
        let queue = Guard(rd::rd_kafka_queue_new(client), rd::rd_kafka_queue_destroy);
        let options = Guard(
            rd::rd_kafka_AdminOptions_new(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS),
            rd::rd_kafka_AdminOptions_destroy,
        );
        rd::rd_kafka_AdminOptions_set_request_timeout(options.0, timeout_ms, ptr::null_mut(), 0);
        let wanted = Guard(
            rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()),
            rd::rd_kafka_TopicCollection_destroy,
        );
        rd::rd_kafka_DescribeTopics(client, wanted.0, options.0, queue.0);
        // The request's own time-out comes first.
        let event = Guard(rd::rd_kafka_queue_poll(queue.0, timeout_ms + 1_000), rd::rd_kafka_event_destroy);
        let error = if event.0.is_null() {
            rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__TIMED_OUT
        } else {
            rd::rd_kafka_event_error(event.0)
        };
        if error.is_error() {
            return Err(KafkaError::AdminOp(error.into()));
        }
        let mut count = 0;
        let found = rd::rd_kafka_DescribeTopics_result_topics(
            rd::rd_kafka_event_DescribeTopics_result(event.0),
            &raw mut count,
        );
        let mut ids = HashMap::with_capacity(count);
        for index in 0..count {
            let topic = *found.add(index);
            let error = rd::rd_kafka_TopicDescription_error(topic);
            if !error.is_null() && rd::rd_kafka_error_code(error).is_error() {
                continue;
            }
            let id = rd::rd_kafka_TopicDescription_topic_id(topic);
            let high = rd::rd_kafka_Uuid_most_significant_bits(id).cast_unsigned();
            let low = rd::rd_kafka_Uuid_least_significant_bits(id).cast_unsigned();
            let id = Uuid::from_u64_pair(high, low);
            if !id.is_nil() {
                let name = CStr::from_ptr(rd::rd_kafka_TopicDescription_name(topic));
                ids.insert(name.to_string_lossy().into_owned(), id);
            }
        }
        Ok(ids)
    }
}
