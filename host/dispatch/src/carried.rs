//! What a partition carries, measured while it works, and so how long those wait who come last.

use std::time::Duration;

/// What was measured this many records ago counts for a third (1/e): large batches, which say what is carried when there is much to
/// do, soon outweigh small ones. Under overload half a second or less, since what a record takes then changes as fast.
const MEMORY_RECORDS: f64 = 50.0;
/// Records a second that a partition is taken to carry at least. Small batches say less than that of what it could.
const ASSUMED_PER_S: f64 = 200.0;

/// Records and the time that they took, from when their batch was taken until it was settled; older ones count less. Rests are not in
/// it: they would make whatever comes look like all that can be carried, and where batches are full there are none.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    records: f64,
    seconds: f64,
}

impl Carried {
    /// A batch took so long.
    pub fn add(&mut self, records: usize, took: Duration) {
        let records = records as f64;
        let keep = (-records / MEMORY_RECORDS).exp();
        self.records = self.records * keep + records;
        self.seconds = self.seconds * keep + took.as_secs_f64();
    }

    /// How long so many records will take; nothing is said before any were measured.
    pub fn time_for(&self, records: usize) -> Duration {
        if self.seconds <= 0.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(records as f64 / self.per_s())
    }

    /// Records a second; never 0.
    pub fn per_s(&self) -> f64 {
        if self.seconds <= 0.0 { ASSUMED_PER_S } else { (self.records / self.seconds).max(ASSUMED_PER_S) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_takes_as_long_as_what_was_measured() {
        let mut carried = Carried::default();
        assert_eq!(carried.time_for(1_000), Duration::ZERO, "nothing is known");
        for _ in 0..100 {
            carried.add(1, Duration::from_millis(20));
        }
        assert_eq!(
            carried.time_for(100),
            Duration::from_millis(500),
            "fifty a second are no measure of what it carries"
        );
        carried.add(500, Duration::from_millis(500));
        carried.add(500, Duration::from_millis(500));
        let took = carried.time_for(1_000).as_secs_f64();
        assert!((0.9..1.5).contains(&took), "{took}");
    }
}
