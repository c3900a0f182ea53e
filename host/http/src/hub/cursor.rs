//! How far a viewer has been shown the records of its key.

use super::Pushed;
use std::fmt;

/// The next offset of the key's partition, for each topic of a live route. As text `12-0-7`, in the order of the route's topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(Vec<(usize, i64)>);

impl Cursor {
    pub(super) fn new(topics: &[usize], next: impl Iterator<Item = i64>) -> Self {
        Self(topics.iter().copied().zip(next).collect())
    }

    /// Reads what [`Cursor`] displays; none where it is of something else.
    pub(super) fn parse(text: &str, topics: &[usize]) -> Option<Self> {
        let next: Vec<i64> = text.split('-').map(str::parse).collect::<Result<_, _>>().ok()?;
        (next.len() == topics.len()).then(|| Self::new(topics, next.into_iter()))
    }

    /// Whether every record from here on is within these bounds: oldest that is kept, and next to be read.
    pub(super) fn holds(&self, bounds: &[(i64, i64)]) -> bool {
        self.0.iter().zip(bounds).all(|((_, at), (oldest, next))| oldest <= at && at <= next)
    }

    /// Whether the record is still to be shown. One on a topic that is not watched is not.
    pub fn is_before(&self, pushed: &Pushed) -> bool {
        self.0.iter().any(|(topic, next)| *topic == pushed.topic && pushed.offset >= *next)
    }

    /// Notes that the record was shown.
    pub fn pass(&mut self, pushed: &Pushed) {
        for (topic, next) in &mut self.0 {
            if *topic == pushed.topic {
                *next = pushed.offset + 1;
            }
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (_, next)) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str("-")?;
            }
            write!(f, "{next}")?;
        }
        Ok(())
    }
}
