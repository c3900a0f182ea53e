//! Hands records to a function as the dispatch does, batch by batch, each in a transaction of its own.

use super::records::Record;
use fnhost_db::session::{RolePool, SharedTransaction, Transaction};
use fnhost_deployment::Slot;
use fnhost_dispatch::plan::{self, Breach, Item, Verdict};
use fnhost_dispatch::wasm::WasmHandlers;
use fnhost_dispatch::{CallFailure, Called, FailureClass, Handler, Handlers as _};
use fnhost_engine::LoadedComponent;
use fnhost_manifest::KafkaTrigger;
use fnhost_types::wit::{Batch, Emit};
use std::sync::Arc;

/// A message that a topic takes at most: the default `max.message.bytes` of Kafka.
const MESSAGE_BYTES_MAX: usize = 1_048_588;

/// What became of a record.
#[derive(Debug)]
pub struct Outcome {
    /// Its place in the file's records.
    pub record: usize,
    /// `done`, `retry`, `reject`, `exhausted`, `behind`, `unwanted` or `failed`.
    pub word: &'static str,
    /// Why it is not done.
    pub reason: Option<String>,
    /// What it caused, in order.
    pub emits: Vec<Emit>,
}

/// A trigger with the function that it calls.
pub struct Trial<'a> {
    handler: Arc<dyn Handler>,
    role: RolePool,
    trigger: &'a KafkaTrigger,
    records: &'a [Record],
}

impl<'a> Trial<'a> {
    /// The function of a trigger, on the database of `role`.
    pub fn new(
        component: LoadedComponent,
        role: RolePool,
        trigger: &'a KafkaTrigger,
        records: &'a [Record],
    ) -> Self {
        Self { handler: WasmHandlers::new(Slot::of(component), role.clone()).pick(0), role, trigger, records }
    }

    /// Runs the records that the trigger consumes; those of one partition that follow each other are a batch.
    pub async fn run(&self) -> Vec<Outcome> {
        let consumed = |record: &Record| self.trigger.topics.contains(&record.topic);
        let mine = (0..self.records.len()).filter(|i| consumed(&self.records[*i]));
        let wanted = |i: &usize| self.trigger.filter.wants(&item(&self.records[*i]).record);
        let (mine, unwanted): (Vec<usize>, Vec<usize>) = mine.partition(wanted);
        let place = |i: &usize| (&self.records[*i].topic, self.records[*i].partition);
        let mut outcomes: Vec<Outcome> = unwanted.into_iter().map(|i| outcome(i, "unwanted", None)).collect();
        for stretch in mine.chunk_by(|a, b| place(a) == place(b)) {
            for batch in stretch.chunks(self.trigger.config.max_batch) {
                outcomes.extend(self.batch(batch).await);
            }
        }
        outcomes.sort_by_key(|outcome| outcome.record);
        outcomes
    }

    /// One batch; where its call fails it is split until the fault is alone.
    async fn batch(&self, batch: &[usize]) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let mut waiting = vec![batch.to_vec()];
        while let Some(batch) = waiting.pop() {
            match self.call(&batch).await {
                Ok(settled) => outcomes.extend(settled),
                Err(Fault::OutOfOrder(behind)) => {
                    let reason = "done although an earlier record of its key was not; parked behind it";
                    let (parked, rest) =
                        batch.iter().enumerate().partition::<Vec<_>, _>(|(i, _)| behind.contains(i));
                    outcomes
                        .extend(parked.iter().map(|(_, i)| outcome(**i, "behind", Some(reason.to_owned()))));
                    waiting.push(rest.into_iter().map(|(_, i)| *i).collect());
                }
                Err(Fault::Failed(failure)) if batch.len() == 1 => {
                    outcomes.push(outcome(batch[0], "failed", Some(failure.reason)));
                }
                // The last one pushed is the next one taken.
                Err(Fault::Failed(failure)) => {
                    let parts = plan::split(batch.len(), &failure).into_iter().rev();
                    waiting.extend(parts.map(|part| batch[part].to_vec()));
                }
            }
        }
        outcomes.sort_by_key(|outcome| outcome.record);
        outcomes
    }

    async fn call(&self, batch: &[usize]) -> Result<Vec<Outcome>, Fault> {
        let messages = batch.iter().map(|i| self.records[*i].message.clone()).collect();
        let Record { topic, partition, .. } = &self.records[batch[0]];
        let shared = SharedTransaction::new(Transaction::new(self.role.clone()));
        let Called { reply, printed, .. } = self
            .handler
            .call(Batch { topic: topic.clone(), partition: *partition, messages }, shared.clone())
            .await?;
        let items: Vec<Item> = batch.iter().map(|i| item(&self.records[*i])).collect();
        let items: Vec<&Item> = items.iter().collect();
        let limit = |topic: &str| self.trigger.emits.iter().any(|t| t == topic).then_some(MESSAGE_BYTES_MAX);
        let verdicts = plan::judge(&items, &reply, &self.trigger.config, &limit)?;
        let Some(transaction) = shared.take() else {
            return Err(failed("the function replied while one of its statements was still running"));
        };
        transaction.commit().await.map_err(|error| failed(&fnhost_types::causes::chain(&error)))?;
        printed.committed();
        let mut outcomes: Vec<Outcome> =
            batch.iter().zip(verdicts).map(|(i, verdict)| settled(*i, verdict)).collect();
        for emit in reply.emits {
            outcomes[emit.cause as usize].emits.push(emit);
        }
        Ok(outcomes)
    }
}

/// Why a call settled nothing.
enum Fault {
    OutOfOrder(Vec<usize>),
    Failed(CallFailure),
}

impl From<CallFailure> for Fault {
    fn from(failure: CallFailure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Breach> for Fault {
    fn from(breach: Breach) -> Self {
        match breach {
            Breach::OutOfOrder(behind) => Self::OutOfOrder(behind),
            Breach::Malformed(reason) => failed(&format!("the reply breaks the contract: {reason}")),
        }
    }
}

fn failed(reason: &str) -> Fault {
    Fault::Failed(CallFailure { class: FailureClass::Function, reason: reason.to_owned(), message: None })
}

/// A record that could not be handed to its function.
pub fn failed_outcome(record: usize, reason: &str) -> Outcome {
    outcome(record, "failed", Some(reason.to_owned()))
}

fn outcome(record: usize, word: &'static str, reason: Option<String>) -> Outcome {
    Outcome { record, word, reason, emits: Vec::new() }
}

fn settled(record: usize, verdict: Verdict) -> Outcome {
    match verdict {
        Verdict::Done => outcome(record, "done", None),
        Verdict::Retry { reason, .. } | Verdict::SetAside { reason, .. } => {
            outcome(record, "retry", Some(reason))
        }
        Verdict::Dead { reason, .. } => outcome(record, "reject", Some(reason)),
        Verdict::Exhausted { reason, .. } => outcome(record, "exhausted", Some(reason)),
        Verdict::Behind => {
            outcome(record, "behind", Some("waits behind an earlier record of its key".to_owned()))
        }
    }
}

fn item(record: &Record) -> Item {
    let message = record.message.clone();
    let record = fnhost_types::record::Record {
        offset: message.offset,
        timestamp_ms: message.timestamp_ms,
        key: message.key,
        value: message.value,
        headers: message.headers,
    };
    Item { attempts: message.attempt - 1, ..Item::new(record) }
}
