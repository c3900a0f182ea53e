//! What becomes of the topic's log.

use super::{Log, RECORDS, State, bits};
use crate::part::{Step, Steps};

impl State {
    pub(super) fn kafka(&self, steps: &mut Steps<Self>) {
        let (log, left) = (&self.log, &self.left);
        if left.records > 0 && !log.shorter {
            let mut after = self.clone();
            after.log.records.push(RECORDS - left.records);
            after.left.records -= 1;
            steps.to(Step::world("a record is appended"), after);
        }
        if left.recreations > 0 {
            let mut after = self.clone();
            after.log = Log { topic_id: log.topic_id + 1, start: 0, records: Vec::new(), shorter: false };
            after.past.lost = 0;
            after.left.recreations -= 1;
            if after.group.is_some() {
                let forgotten = Self { group: None, ..after.clone() };
                steps.to(Step::world("the topic is made anew, the group's offset is gone"), forgotten);
            }
            steps.to(Step::world("the topic is made anew"), after);
        }
        let fetching = self.owner.as_ref().is_some_and(|owner| owner.fetched.is_some());
        let under_way = self.taking.is_some() || self.command.is_some() || fetching;
        if left.losses > 0 && !log.records.is_empty() && !under_way {
            let mut after = self.clone();
            after.log.records.pop();
            after.log.shorter = true;
            after.left.losses -= 1;
            steps.to(Step::world("the log loses its end"), after);
        }
        if left.retentions > 0 && !log.records.is_empty() {
            let kept = self.past.handled | self.past.excused | self.parked();
            let mut after = self.clone();
            let oldest = after.log.records.remove(0);
            after.log.start += 1;
            after.past.lost |= bits([oldest]) & !kept;
            after.left.retentions -= 1;
            steps.to(Step::world("retention deletes the oldest record"), after);
        }
    }
}
