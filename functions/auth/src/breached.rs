//! Passwords that are known from breaches, without asking anybody: a filter in the component itself.
//!
//! The filter holds the first [`PREFIX_BYTES`] of the SHA-256 of each, sorted. Neither a password nor a part of its hash
//! leaves the function, and the filter tells no password either: each prefix stands for endlessly many. A password that is in
//! no list is taken for a known one about once in 300,000 times, and the customer chooses another.
//!
//! `cargo run --release -p auth --example breached -- FILE...` makes it anew from lists with one password a line. This one is of
//! the passwords of at least eight characters among the most frequent ones of public breaches, as the packages Django and
//! zxcvbn (PyPI, both MIT or BSD) count them.

use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// Bytes of a hash that are kept.
pub const PREFIX_BYTES: usize = 4;

type Prefix = [u8; PREFIX_BYTES];

const FILTER: &[u8] = include_bytes!("breached.bin");

/// Whether a password is in the filter, exactly as it is written.
#[must_use]
pub fn contains(password: &str) -> bool {
    let (prefixes, _) = FILTER.as_chunks::<PREFIX_BYTES>();
    prefixes.binary_search(&prefix(password)).is_ok()
}

/// A filter of these passwords.
#[must_use]
pub fn filter<'a>(passwords: impl Iterator<Item = &'a str>) -> Vec<u8> {
    passwords.map(prefix).collect::<BTreeSet<_>>().into_iter().flatten().collect()
}

fn prefix(password: &str) -> Prefix {
    let mut prefix = Prefix::default();
    prefix.copy_from_slice(&Sha256::digest(password.as_bytes())[..PREFIX_BYTES]);
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_list_is_found_and_other_words_are_not() {
        for known in ["password1", "12345678", "qwertyuiop", "iloveyou", "trustno1", "football", "1qaz2wsx"] {
            assert!(contains(known), "{known}");
        }
        for unknown in ["correct horse", "a long enough password", "Tr0ub4dor&3 and more", ""] {
            assert!(!contains(unknown), "{unknown}");
        }
    }

    #[test]
    fn the_filter_is_sorted_and_takes_few_others() {
        let (prefixes, rest) = FILTER.as_chunks::<PREFIX_BYTES>();
        assert!(rest.is_empty() && prefixes.is_sorted_by(|a, b| a < b), "else a search finds nothing");
        assert!((10_000..60_000).contains(&prefixes.len()), "{}", prefixes.len());
        let taken = (0..100_000).filter(|number| contains(&format!("no list has {number}"))).count();
        assert!(taken < 10, "{taken} of 100,000");
    }

    #[test]
    fn a_filter_is_made_of_a_list() {
        let made = filter(["b", "a", "b"].into_iter());
        let mut expected = [prefix("a"), prefix("b")];
        expected.sort_unstable();
        assert_eq!(made, expected.concat());
    }
}
