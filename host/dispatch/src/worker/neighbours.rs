//! Whether a failure that may be the database's or a record's own is the record's: its neighbours tell.
//!
//! A full disk fails one record after the other, and none of them should die of it; a record whose value breaks an index fails alone,
//! and must not hold up the others for ever. Both look the same from one record. So the first one that fails is set aside without an
//! attempt charged. If another fails alike, the partition backs off; if another succeeds, the first one is to blame.

use std::collections::HashMap;

/// Who is to blame for a failure of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// The record: others succeed.
    Record,
    /// The database: others fail alike.
    Database,
    /// Not known yet. With how often it was set aside before.
    Unknown(u32),
}

/// The records of a partition that failed and were not blamed.
#[derive(Debug, Default)]
pub(super) struct Neighbours(HashMap<i64, Suspect>);

#[derive(Debug, Default)]
struct Suspect {
    set_aside: u32,
    /// Another record has succeeded since it failed last.
    others_succeed: bool,
}

impl Neighbours {
    /// The record at `offset` failed.
    pub fn failed(&mut self, offset: i64) -> Blame {
        let alike = self.0.iter().any(|(other, suspect)| *other != offset && !suspect.others_succeed);
        if let Some(suspect) = self.0.get_mut(&offset) {
            if std::mem::take(&mut suspect.others_succeed) {
                return Blame::Record;
            }
            if alike {
                return Blame::Database;
            }
            suspect.set_aside += 1;
            return Blame::Unknown(suspect.set_aside);
        }
        if alike {
            return Blame::Database;
        }
        self.0.insert(offset, Suspect::default());
        Blame::Unknown(0)
    }

    /// These records succeeded.
    pub fn succeeded(&mut self, offsets: impl Iterator<Item = i64>) {
        if self.0.is_empty() {
            return;
        }
        let mut any = false;
        for offset in offsets {
            self.0.remove(&offset);
            any = true;
        }
        if any {
            self.0.values_mut().for_each(|suspect| suspect.others_succeed = true);
        }
    }

    /// A record is finished otherwise.
    pub fn forget(&mut self, offset: i64) {
        self.0.remove(&offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_blamed_only_where_others_succeed() {
        let mut neighbours = Neighbours::default();
        assert_eq!(neighbours.failed(1), Blame::Unknown(0), "nothing to compare with");
        assert_eq!(neighbours.failed(1), Blame::Unknown(1));
        assert_eq!(neighbours.failed(2), Blame::Database, "two in a row");
        assert_eq!(neighbours.failed(1), Blame::Unknown(2));
        neighbours.succeeded([3].into_iter());
        assert_eq!(neighbours.failed(1), Blame::Record, "3 succeeded meanwhile");
        assert_eq!(neighbours.failed(1), Blame::Unknown(3), "once for each time that others succeed");
        neighbours.succeeded([1].into_iter());
        assert_eq!(neighbours.failed(4), Blame::Unknown(0), "1 was not to blame");
        neighbours.succeeded([5].into_iter());
        assert_eq!(neighbours.failed(6), Blame::Unknown(0), "4 alone is to blame so far");
        assert_eq!(neighbours.failed(7), Blame::Database);
        neighbours.forget(6);
        assert_eq!(neighbours.failed(7), Blame::Unknown(0));
    }
}
