//! Batches as the dispatch delivers them.

use super::Function;
use contract::event::Event;
use fnhost_db::session::{SharedTransaction, Transaction};
use fnhost_dispatch::CallFailure;
use fnhost_dispatch::plan::{self, Item};
use fnhost_sdk::event::CloudEvent as _;
use fnhost_types::record::Record;
use fnhost_types::wit::{Batch, Header, Message, Reply};
use uuid::Uuid;

pub use fnhost_types::wit::{Emit, Outcome};

/// A message that no topic would refuse here; the broker's own limit is for the host's tests.
const MESSAGE_MAX_BYTES: usize = 1 << 20;

/// An event as it lies in Kafka: sending the same one twice is a redelivery.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Null is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Key of the record, absent for a record without one.
    pub key: Option<Vec<u8>>,
    /// `ce_type`, `ce_id` and the trace.
    pub headers: Vec<(String, Vec<u8>)>,
    /// 1 for the first time.
    pub attempt: u32,
    /// Whether failing once more makes it a dead letter.
    pub last_attempt: bool,
}

impl Sent {
    /// The event's record, with a `ce_id` of its own.
    pub fn new(event: &Event) -> Self {
        let headers = [("ce_type", event.event_type().to_owned()), ("ce_id", Uuid::now_v7().to_string())];
        Self {
            value: Some(event.to_json()),
            key: Some(event.order_id().to_string().into_bytes()),
            headers: headers.map(|(name, value)| (name.to_owned(), value.into_bytes())).to_vec(),
            attempt: 1,
            last_attempt: false,
        }
    }

    /// A record that follows no convention.
    pub fn plain(key: &str, value: &str) -> Self {
        Self {
            value: Some(value.into()),
            key: Some(key.into()),
            headers: Vec::new(),
            attempt: 1,
            last_attempt: false,
        }
    }

    /// The same record at another attempt: 2 is the second time.
    pub fn again(&self, attempt: u32) -> Self {
        Self { attempt, ..self.clone() }
    }

    /// The same record, handed out for the last time.
    pub fn for_the_last_time(&self) -> Self {
        Self { last_attempt: true, ..self.clone() }
    }
}

impl From<Event> for Sent {
    fn from(event: Event) -> Self {
        Self::new(&event)
    }
}

/// What a committed batch came to.
#[derive(Debug)]
pub struct Delivery {
    /// One for each record, in their order.
    pub outcomes: Vec<Outcome>,
    /// What would be sent, in its order.
    pub emitted: Vec<Event>,
}

impl Delivery {
    /// The outcomes as one line: `done retry(why) reject(why)`.
    pub fn told(&self) -> String {
        told(&self.outcomes)
    }

    /// The types of what was emitted, as one line.
    pub fn types(&self) -> String {
        self.emitted.iter().map(Event::event_type).collect::<Vec<_>>().join(" ")
    }
}

/// Outcomes as one line: `done retry(why) reject(why)`.
pub fn told(outcomes: &[Outcome]) -> String {
    let word = |outcome: &Outcome| match outcome {
        Outcome::Done => "done".to_owned(),
        Outcome::Retry(reason) => format!("retry({reason})"),
        Outcome::Reject(reason) => format!("reject({reason})"),
    };
    outcomes.iter().map(word).collect::<Vec<_>>().join(" ")
}

impl Function {
    /// As [`Function::deliver`], for a function whose messages are not those of the order system.
    ///
    /// # Panics
    /// As [`Function::deliver`].
    pub async fn deliver_plain(&self, records: &[Sent]) -> (Vec<Outcome>, Vec<Emit>) {
        let (reply, transaction) = self.call(records).await.unwrap_or_else(|failure| panic!("{failure:?}"));
        transaction.commit().await.expect("committed");
        (reply.outcomes, reply.emits)
    }

    /// Delivers a batch and commits it: the reply keeps the contract, or this panics.
    ///
    /// # Panics
    /// Where the call fails, the reply breaks the contract or COMMIT fails.
    pub async fn deliver(&self, records: &[Sent]) -> Delivery {
        let (reply, transaction) = self.call(records).await.unwrap_or_else(|failure| panic!("{failure:?}"));
        let delivery = delivery(reply);
        transaction.commit().await.expect("committed");
        delivery
    }

    /// Delivers a batch and rolls it back, as the host does when it loses the partition: the function has no say in it.
    ///
    /// # Panics
    /// Where the call fails or the reply breaks the contract.
    pub async fn deliver_in_vain(&self, records: &[Sent]) -> Delivery {
        let (reply, transaction) = self.call(records).await.unwrap_or_else(|failure| panic!("{failure:?}"));
        let delivery = delivery(reply);
        transaction.rollback().await;
        delivery
    }

    /// Delivers a tick of a schedule, due now, and commits it.
    ///
    /// # Panics
    /// As [`Function::deliver`].
    pub async fn tick(&self, schedule: &str) -> Delivery {
        let tick = fnhost_dispatch::schedule::message(
            schedule,
            i64::try_from(fnhost_sdk::time::unix_seconds()).expect("a time") * 1_000,
        );
        let called = self.call_with(fnhost_manifest::SCHEDULE_TOPIC.to_owned(), vec![tick]).await;
        let (reply, transaction) = called.unwrap_or_else(|failure| panic!("{failure:?}"));
        let delivery = delivery(reply);
        transaction.commit().await.expect("committed");
        delivery
    }

    async fn call(&self, records: &[Sent]) -> Result<(Reply, Transaction), CallFailure> {
        let messages: Vec<Message> = (0..).zip(records).map(|(offset, sent)| message(offset, sent)).collect();
        self.call_with(self.trigger().topics[0].clone(), messages).await
    }

    async fn call_with(
        &self,
        topic: String,
        messages: Vec<Message>,
    ) -> Result<(Reply, Transaction), CallFailure> {
        let items: Vec<Item> = messages.iter().map(item).collect();
        let items: Vec<&Item> = items.iter().collect();
        let shared = SharedTransaction::new(Transaction::new(self.role.clone()));
        let reply = self.handler.call(Batch { topic, partition: 0, messages }, shared.clone()).await?.reply;
        let emits = &self.trigger().emits;
        let limit = |topic: &str| emits.iter().any(|listed| listed == topic).then_some(MESSAGE_MAX_BYTES);
        plan::judge(&items, &reply, &self.trigger().config, &limit).expect("a reply that keeps the contract");
        let transaction = shared.take().expect("no statement is left running");
        Ok((reply, transaction))
    }
}

fn delivery(reply: Reply) -> Delivery {
    Delivery { emitted: reply.emits.iter().map(event).collect(), outcomes: reply.outcomes }
}

fn message(offset: i64, sent: &Sent) -> Message {
    let headers =
        sent.headers.iter().map(|(name, value)| Header { name: name.clone(), value: value.clone() });
    Message {
        offset,
        timestamp_ms: 0,
        key: sent.key.clone(),
        value: sent.value.clone(),
        headers: headers.collect(),
        attempt: sent.attempt,
        last_attempt: sent.last_attempt,
    }
}

fn item(message: &Message) -> Item {
    let Message { offset, timestamp_ms, key, value, headers, attempt, .. } = message.clone();
    Item { attempts: attempt - 1, ..Item::new(Record { offset, timestamp_ms, key, value, headers }) }
}

/// Reads an emitted message back, as its consumer would.
fn event(emit: &Emit) -> Event {
    let text = |name: &str| {
        let header = emit.headers.iter().find(|header| header.name == name).expect("a CloudEvents header");
        std::str::from_utf8(&header.value).expect("text")
    };
    let event = Event::from_json(text("ce_type"), emit.value.as_deref().expect("a value")).expect("an event");
    assert_eq!(emit.topic, event.topic(), "each event has its topic");
    assert_eq!(emit.key.as_deref(), Some(event.order_id().to_string().as_bytes()), "the key is the order");
    assert_eq!(text("ce_source"), event.source());
    assert!(text("ce_id").parse::<Uuid>().is_ok());
    event
}
