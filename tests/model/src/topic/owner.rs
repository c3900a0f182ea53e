//! What an owner does whose version is the row's, and whose epoch is.

use super::{COMPARE_TOPIC_ID, COMPARE_WHILE_OWNING, Fetched, Owner, State};
use crate::functions::{CHECK_TOPIC, DUE_WORK, FILTER, PROVE_MEMBERSHIP, STORE_VERDICTS, TAKE};
use crate::part::{Promise, Steps, Without, breaks};

impl State {
    pub(super) fn own(&self, owner: &Owner, without: &Without, steps: &mut Steps<Self>) {
        let log = &self.log;
        let position = owner.position;
        if self.group != Some(position) {
            let after = Self { group: Some(position), ..self.clone() };
            steps.to(PROVE_MEMBERSHIP.step("commit the position to the group"), after);
        }
        if let Some((_, record)) = self.row.parked.first() {
            let mut after = self.clone();
            after.row.chosen = false;
            after.row.parked.remove(0);
            after.past.handled |= 1 << record;
            steps.judged(DUE_WORK.step("handle a parked record"), after, self.unjust(*record));
        }
        let with = |fetched| Self { owner: Some(Owner { fetched, ..owner.clone() }), ..self.clone() };
        match &owner.fetched {
            None if (log.start..log.end()).contains(&position) => {
                let compared = !without.keeps(&COMPARE_WHILE_OWNING) || !without.keeps(&COMPARE_TOPIC_ID);
                let record = log.records[usize::from(position - log.start)];
                steps
                    .to(TAKE.step("fetch"), with(Some(Fetched { topic_id: log.topic_id, record, compared })));
            }
            None if position != log.end() => {
                steps.to(TAKE.step("fail to fetch outside of the log"), self.stop(without, true));
            }
            None => {}
            Some(fetched) if !fetched.compared => {
                if owner.topic_id == log.topic_id {
                    let compared = Fetched { compared: true, ..fetched.clone() };
                    steps.to(CHECK_TOPIC.step("find the same topic"), with(Some(compared)));
                } else {
                    steps.to(CHECK_TOPIC.step("find another topic and stop"), self.stop(without, true));
                }
            }
            Some(fetched) => self.finish(owner, fetched, steps),
        }
    }

    /// What becomes of the record that was fetched.
    fn finish(&self, owner: &Owner, fetched: &Fetched, steps: &mut Steps<Self>) {
        let (row, past, log) = (&self.row, &self.past, &self.log);
        let (position, record) = (owner.position, fetched.record);
        let parked = self.parked();
        let mut after = self.clone();
        after.row.chosen = false;
        after.row.position = position + 1;
        after.row.watermark = row.watermark.max(Some(record));
        after.owner = Some(Owner { topic_id: owner.topic_id, position: position + 1, fetched: None });
        if row.watermark.is_some_and(|watermark| record <= watermark) {
            let known = (past.handled | parked) & (1 << record) != 0;
            steps.judged(FILTER.step("refuse a duplicate"), after, breaks(Promise::NoRecordSkipped, !known));
            return;
        }
        let lost = past.lost & !(1 << record);
        let unhandled = log.below(position) & !(past.handled | parked | past.excused);
        let left_out = fetched.topic_id == log.topic_id && (lost | unhandled) != 0;
        let fault = self.unjust(record).or(breaks(Promise::NoRecordSkipped, left_out));
        after.past.lost = lost;
        let mut parked = after.clone();
        after.past.handled |= 1 << record;
        steps.judged(STORE_VERDICTS.step("handle the record"), after, fault);
        parked.row.parked.push((position, record));
        steps.judged(STORE_VERDICTS.step("park the record"), parked, fault);
    }

    /// Why the record should not be handled now, in whatever order.
    fn unjust(&self, record: u8) -> Option<Promise> {
        if self.row.stopped {
            return Some(Promise::StopLasts);
        }
        breaks(Promise::NoEffectTwice, self.past.handled & (1 << record) != 0)
    }
}
