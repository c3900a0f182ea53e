//! The settings of a Kafka trigger. Each is named in [`settings!`] below, where it is used, and in `docs/functions.md`.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::Error;
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
    ($($(#[doc = $doc:literal])+ $key:ident => $field:ident: $type:ty, $default:literal unless given, 1 to $max:literal;)+) => {
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
            $($key: Option<Spanned<i64>>,)+
        }

        /// How a Kafka trigger takes records and tries them again.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct TriggerConfig {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl TriggerConfig {
            /// What a trigger has that sets nothing.
            pub fn new() -> Self {
                Self { $($field: <$type>::of($default),)+ }
            }

            pub(crate) fn check(written: &Subscription, builder: &Builder<'_>) -> Result<Self, Error> {
                Ok(Self {
                    $($field: <$type>::of(builder.number(
                        stringify!($key),
                        written.$key.clone(),
                        $default,
                        $max,
                    )?),)+
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
    /// Longest pause between two attempts of a record.
    max_back_off_s => max_back_off: Duration, 60 unless given, 1 to 60;
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
