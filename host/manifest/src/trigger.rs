//! The settings of a Kafka trigger. Each is named in [`settings!`] below, where it is used, and in `docs/functions.md`.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::Error;
use super::back_off::{self, BackOff};
use super::filter;
use super::validate::Builder;

/// What the number of a setting becomes.
trait Setting {
    fn of(number: u64) -> Self;
}

impl Setting for usize {
    fn of(number: u64) -> Self {
        number as usize
    }
}

impl Setting for u32 {
    fn of(number: u64) -> Self {
        number as u32
    }
}

/// In seconds.
impl Setting for Duration {
    fn of(number: u64) -> Self {
        Self::from_secs(number)
    }
}

/// Makes what is written, what it becomes, its defaults and its bounds of one list.
macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $key:ident => $field:ident: $type:ty, $default:literal unless given, $min:literal to $max:literal;)+) => {
        /// `[[component.ID.tool.fnhost.kafka]]`, and `[[trigger.kafka]]` where `component` names the component, as it is
        /// written.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct Subscription {
            pub component: Option<Spanned<String>>,
            /// The component's own id where absent.
            pub id: Option<Spanned<String>>,
            /// The trigger's id where absent.
            pub group: Option<Spanned<String>>,
            pub topics: Spanned<Vec<Spanned<String>>>,
            #[serde(default)]
            pub emits: Vec<Spanned<String>>,
            pub start: Option<Spanned<String>>,
            pub on_exhausted: Option<Spanned<String>>,
            pub dead_letter_topic: Option<Spanned<String>>,
            #[serde(default)]
            pub filter: Vec<Spanned<filter::Written>>,
            back_off: Option<Spanned<back_off::Written>>,
            // The cap of back_off, as it was called before there was that table.
            max_back_off_s: Option<Spanned<i64>>,
            $($key: Option<Spanned<i64>>,)+
        }

        /// How a Kafka trigger takes records and tries them again.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct TriggerConfig {
            $($(#[doc = $doc])+ pub $field: $type,)+
            /// Pauses between attempts.
            pub back_off: BackOff,
            /// What becomes of a record whose last attempt failed.
            pub on_exhausted: OnExhausted,
        }

        impl TriggerConfig {
            /// What a trigger has that sets nothing.
            pub fn new() -> Self {
                Self {
                    $($field: <$type>::of($default),)+
                    back_off: BackOff::default(),
                    on_exhausted: OnExhausted::DeadLetter,
                }
            }

            pub(crate) fn check(written: &Subscription, builder: &Builder<'_>) -> Result<Self, Error> {
                Ok(Self {
                    $($field: <$type>::of(builder.number_within(
                        stringify!($key),
                        written.$key.clone(),
                        $default,
                        $min..=$max,
                    )?),)+
                    back_off: BackOff::check(written.back_off.as_ref(), written.max_back_off_s.clone(), builder)?,
                    on_exhausted: OnExhausted::check(written.on_exhausted.as_ref(), builder)?,
                })
            }
        }
    };
}

settings! {
    /// Records handed to one call at most.
    max_batch => max_batch: usize, 500 unless given, 1 to 10_000;
    /// Attempts after which a record becomes a dead letter.
    max_attempts => max_attempts: u32, 8 unless given, 1 to 1_000;
    /// Age since its first attempt at which a record becomes a dead letter; one day, and 30 at most.
    max_age_s => max_age: Duration, 86_400 unless given, 1 to 2_592_000;
    /// Bytes of keys, values and headers handed to one call; one record is handed over in any case. 4 MiB, and 64 at most.
    max_batch_bytes => max_batch_bytes: usize, 4_194_304 unless given, 1 to 67_108_864;
    /// Batches that one host handles at a time.
    max_in_flight => max_in_flight: usize, 1_000 unless given, 1 to 1_000;
    /// Milliseconds between two batches of a partition that are not full: what comes meanwhile is one batch.
    batch_window_ms => batch_window_ms: u32, 0 unless given, 0 to 10_000;
    /// Days after which a dead letter is removed.
    dead_letters_kept_days => dead_letters_kept_days: u32, 90 unless given, 1 to 3_650;
}

/// What becomes of a record whose last attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExhausted {
    /// It becomes a dead letter.
    DeadLetter,
    /// It keeps waiting, and its partition is paused until somebody resumes it.
    Pause,
}

impl OnExhausted {
    fn check(written: Option<&Spanned<String>>, builder: &Builder<'_>) -> Result<Self, Error> {
        match written.map(|written| (written.get_ref().as_str(), written.span().start)) {
            None | Some(("dead-letter", _)) => Ok(Self::DeadLetter),
            Some(("pause", _)) => Ok(Self::Pause),
            Some((other, at)) => builder
                .fail(at, format!("on_exhausted = \"{other}\" is neither \"dead-letter\" nor \"pause\"")),
        }
    }
}

impl Default for TriggerConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl TriggerConfig {
    /// These, while a version of the function is on trial: its failures make no dead letters, for they may be the version's and
    /// not the record's.
    #[must_use]
    pub fn of_trial(self) -> Self {
        Self { max_attempts: u32::MAX, max_age: Duration::MAX, ..self }
    }
}
