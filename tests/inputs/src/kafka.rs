//! Records, as they may come from any producer.

use crate::{KeysOnly, at_once};
use contract::event::{Batch, Event};
use fnhost_sdk::kafka::{Failure, Header, Message, Reply};

/// The types of events that a consumer may see.
pub const TYPES: [&str; 8] = [
    "order.created",
    "order.confirmed",
    "order.rejected",
    "order.cancelled",
    "order.expired",
    "order.refunded",
    "inventory.reserved",
    "notification.requested",
];

/// A record with the headers of an event.
pub fn message(ce_type: &str, key: Option<Vec<u8>>, value: Option<Vec<u8>>) -> Message {
    let header = |name: &str, value: &str| Header { name: name.to_owned(), value: value.into() };
    let headers = vec![header("ce_type", ce_type), header("ce_id", "1")];
    Message { key, value, headers, attempt: 1, last_attempt: false }
}

/// Hands the records to every function that consumes; none of them may take the call down.
///
/// # Panics
/// A reply has not one outcome for each record.
pub fn deliver(messages: &[Message]) {
    let batch = || Batch::decode(messages.to_vec());
    let replies = [
        at_once(order::kafka::handle(&KeysOnly, batch())),
        at_once(inventory::kafka::handle(&KeysOnly, batch())),
        at_once(payment::kafka::handle(&KeysOnly, batch())),
        at_once(notify::kafka::handle_to(&KeysOnly, batch(), &mut std::io::sink())),
        at_once(forecast::kafka::handle(&KeysOnly, batch())),
    ];
    for reply in replies {
        check(&reply, messages.len());
    }
}

fn check(reply: &Result<Reply, Failure>, records: usize) {
    match reply {
        Ok(reply) => assert_eq!(reply.outcomes.len(), records),
        // Only the database or the gateway are to blame: what a record has in it is rejected for itself.
        Err(failure) => assert!(failure.message.is_none_or(|at| (at as usize) < records), "{failure:?}"),
    }
}

/// Reads a record as an event, and says whether it is one.
pub fn is_event(message: &Message) -> bool {
    <Event as fnhost_sdk::kafka::Payload>::read(message).is_ok()
}
