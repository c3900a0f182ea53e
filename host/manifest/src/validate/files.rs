//! What a component is given beside its code: files and key-value stores.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use toml::Spanned;

use super::super::schema::{FilePlacement, TextOr};
use super::super::*;
use super::Builder;
use crate::files::{self, Mount};

impl Builder<'_> {
    pub(super) fn files(
        &self,
        written: Vec<Spanned<TextOr<FilePlacement>>>,
        exclude: Vec<Spanned<String>>,
    ) -> Result<Files, Error> {
        let mut mounts = Vec::with_capacity(written.len());
        for entry in written {
            let at = entry.span().start;
            mounts.push(match entry.into_inner() {
                TextOr::Text(text) if text.is_empty() => return self.fail(at, "an entry of files is empty"),
                TextOr::Text(text) => {
                    files::pattern(&text).or_else(|fault| self.fail(at, fault.to_string()))?;
                    Mount::Pattern(text)
                }
                TextOr::Other(FilePlacement { source, destination }) => {
                    Mount::Placement { source, destination }
                }
            });
        }
        for pattern in &exclude {
            files::pattern(pattern.get_ref())
                .or_else(|fault| self.fail(pattern.span().start, fault.to_string()))?;
        }
        let exclude = exclude.into_iter().map(Spanned::into_inner).collect();
        Ok(Files { root: self.root.clone(), mounts, exclude })
    }

    pub(super) fn key_value_stores(&self, written: Vec<Spanned<String>>) -> Result<BTreeSet<String>, Error> {
        let mut stores = BTreeSet::new();
        for name in written {
            if name.get_ref().is_empty() {
                return self.fail(name.span().start, "the name of a key-value store is empty");
            }
            stores.insert(name.into_inner());
        }
        Ok(stores)
    }

    pub(super) fn key_value_max_age(
        &self,
        written: BTreeMap<Spanned<String>, Spanned<i64>>,
    ) -> Result<BTreeMap<String, Duration>, Error> {
        let age = |(label, age): (Spanned<String>, Spanned<i64>)| {
            let age = self.number("key_value_max_age_ms", Some(age), 1, MAX_KEY_VALUE_AGE_MS)?;
            Ok((label.into_inner(), Duration::from_millis(age)))
        };
        written.into_iter().map(age).collect()
    }
}
