//! Why a worker stops serving its partition, and which failures come to that.

use crate::stream::NotOpened;
use fnhost_kafka::producer::{Failed, NotResent, Refusal};
use fnhost_types::causes::chain;

/// Why a worker left its loop.
pub(super) enum Exit {
    /// It was told to stop.
    Stop,
    /// The partition has to be taken over again: fenced, or the producer failed.
    TakeOver(String),
    /// Nobody's fault: pause, then take over again.
    BackOff(String),
    /// Kafka refuses a message, and nothing behind it may be sent.
    Refused(Refusal),
    /// Going on would lose or double something.
    Stopped(String),
}

impl From<fnhost_db::Error> for Exit {
    fn from(error: fnhost_db::Error) -> Self {
        match error {
            fnhost_db::Error::Fenced { .. } => Exit::TakeOver(error.to_string()),
            other => Exit::BackOff(chain(&other)),
        }
    }
}

impl From<fnhost_kafka::Error> for Exit {
    fn from(error: fnhost_kafka::Error) -> Self {
        Exit::BackOff(chain(&error))
    }
}

impl From<Failed> for Exit {
    fn from(error: Failed) -> Self {
        match error {
            Failed::Refused(refusal) => Exit::Refused(refusal),
            Failed::Closed(_) => Exit::TakeOver(error.to_string()),
        }
    }
}

impl From<NotResent> for Exit {
    fn from(error: NotResent) -> Self {
        match error {
            NotResent::Unreadable(unreadable) => Exit::Stopped(unreadable.to_string()),
            NotResent::Failed(failed) => failed.into(),
        }
    }
}

impl From<NotOpened> for Exit {
    fn from(error: NotOpened) -> Self {
        match error {
            NotOpened::Database(error) => error.into(),
            NotOpened::Kafka(error) => error.into(),
            NotOpened::NotResent(error) => error.into(),
        }
    }
}
