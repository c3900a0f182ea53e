//! The ids of the topics that a consumer fetches, as librdkafka learns them.
//!
//! librdkafka goes on at the same offset where a topic was deleted and made anew. It fetches by id though (from brokers of Kafka 3.1
//! and newer), so it has learned the new id before it gets any record of the new topic, and it says so: only in its log, and only
//! where that is asked for. The log goes to a queue of its own. Whoever has polled a record and takes the log in after that knows
//! the id that the record was fetched by, without asking a broker.

use super::topic_ids::Guard;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use rdkafka::ClientConfig;
use rdkafka::bindings as rd;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::types::RDKafka;
use std::collections::HashMap;
use std::ffi::CStr;
use std::ptr;
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

/// What librdkafka is asked to log: what it learns of topics, which is nothing while nothing changes.
const DEBUG: &str = "metadata";

/// A client's log, and what was learned from it.
pub(super) struct Learned(Mutex<Log>);

struct Log {
    queue: Guard<rd::rd_kafka_queue_t>,
    /// The lines that are shown as well.
    shown: Shown,
    ids: HashMap<String, Uuid>,
    /// A topic is another one than the client used before.
    made_anew: bool,
}

/// How much of a log is shown.
#[derive(Clone, Copy)]
pub(super) struct Shown {
    /// Up to which level.
    pub most: RDKafkaLogLevel,
    /// Whether somebody asked for details, which are read in any case.
    pub details: bool,
}

// SAFETY: librdkafka's queues may be used from any thread.
#[allow(unsafe_code, reason = "said above")]
unsafe impl Send for Log {}

/// Asks for the lines that are read here in the log of a client; answers what is shown of it.
pub(super) fn ask(config: &mut ClientConfig) -> Shown {
    let details = config.get("debug").map(str::to_owned);
    let shown = Shown { most: config.log_level, details: details.is_some() };
    let debug = details.map_or_else(|| DEBUG.to_owned(), |details| format!("{details},{DEBUG}"));
    config.set("debug", debug).set_log_level(RDKafkaLogLevel::Debug);
    shown
}

impl Learned {
    /// Takes over the log of a client for which it was asked.
    ///
    /// # Safety
    /// `client` is a client of librdkafka that lives while [`Learned::id`] and [`Learned::take_in`] are called.
    #[allow(unsafe_code, reason = "librdkafka's queues are C")]
    pub unsafe fn by(client: *mut RDKafka, shown: Shown) -> Self {
        // SAFETY: the client lives; it holds the queue that it is given, beside the guard.
        unsafe {
            let queue = Guard(rd::rd_kafka_queue_new(client), rd::rd_kafka_queue_destroy);
            rd::rd_kafka_set_log_queue(client, queue.0);
            Self(Mutex::new(Log { queue, shown, ids: HashMap::new(), made_anew: false }))
        }
    }

    /// The id by which records of a topic were fetched that have been polled by now; none where it is fetched by its name.
    pub fn id(&self, topic: &str, context: &impl ClientContext) -> Option<Uuid> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.take_in(context);
        log.ids.get(topic).copied()
    }

    /// Takes in what has been logged; `context` shows it. True where a topic was made anew since the client has used it, which then has to be
    /// made anew as well, see [`super::topics::MadeAnew`].
    pub fn take_in(&self, context: &impl ClientContext) -> bool {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.take_in(context);
        log.made_anew
    }
}

impl Log {
    #[allow(unsafe_code, reason = "librdkafka's events are C")]
    fn take_in(&mut self, context: &impl ClientContext) {
        loop {
            // SAFETY: the queue is alive, as is the event until its guard goes, and the texts of the event as long as it.
            let event =
                unsafe { Guard(rd::rd_kafka_queue_poll(self.queue.0, 0), rd::rd_kafka_event_destroy) };
            if event.0.is_null() {
                return;
            }
            let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
            // SAFETY: as above; they are set where it is an event of the log.
            let (facility, line) = unsafe {
                if rd::rd_kafka_event_log(event.0, &raw mut facility, &raw mut line, &raw mut level) != 0 {
                    continue;
                }
                (CStr::from_ptr(facility).to_string_lossy(), CStr::from_ptr(line).to_string_lossy())
            };
            if let Some((topic, id)) = new_id(&line) {
                let former = self.ids.insert(topic.to_owned(), id);
                self.made_anew |= former.is_some_and(|former| former != id);
            }
            let (level, Shown { most, details }) = (level_of(level), self.shown);
            if level as i32 <= most as i32 && (details || !matches!(level, RDKafkaLogLevel::Debug)) {
                context.log(level, &facility, &line);
            }
        }
    }
}

/// A level by its number, which is that of syslog.
fn level_of(number: i32) -> RDKafkaLogLevel {
    use RDKafkaLogLevel::{Alert, Critical, Debug, Emerg, Error, Info, Notice, Warning};
    let levels = [Emerg, Alert, Critical, Error, Warning, Notice, Info];
    usize::try_from(number).ok().and_then(|number| levels.get(number).copied()).unwrap_or(Debug)
}

/// The topic and its id, where that is what a line says.
fn new_id(line: &str) -> Option<(&str, Uuid)> {
    let (_, said) = line.split_once("Topic ")?;
    let (topic, ids) = said.split_once(" changed id from ")?;
    let (_, id) = ids.split_once(" to ")?;
    let id = Uuid::from_slice(&BASE64_STANDARD_NO_PAD.decode(id.trim()).ok()?).ok()?;
    (!id.is_nil()).then_some((topic, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_from_the_line_that_says_it() {
        let id = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
        let line =
            "[thrd:main]: Topic orders.v1 changed id from AAAAAAAAAAAAAAAAAAAAAA to ABEiM0RVZneImaq7zN3u/w";
        assert_eq!(new_id(line), Some(("orders.v1", id)));
        for line in [
            "[thrd:main]: Topic orders.v1 changed id from ABEiM0RVZneImaq7zN3u/w to AAAAAAAAAAAAAAAAAAAAAA",
            "[thrd:main]: Topic orders.v1 changed id from ABEiM0RVZneImaq7zN3u/w to ABEi",
            "[thrd:main]: Topic orders.v1 [0] Leader 1 Epoch 0",
        ] {
            assert_eq!(new_id(line), None, "{line}");
        }
    }
}
