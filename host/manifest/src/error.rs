//! What can be wrong with a `spin.toml`, said with its place and its cure.

use std::fmt;
use std::path::{Path, PathBuf};

/// Why a manifest cannot be used. `Display` is one message for the person who wrote the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {}; give the manifest with -f PATH", path.display())]
    Read {
        /// Path of the manifest.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Something in the file is wrong: `path:line: message`.
    #[error("{place}: {message}")]
    Invalid {
        /// Line and column in the manifest.
        place: Place,
        /// What is wrong and what to do.
        message: String,
    },
    /// Variables have no value or a wrong one; one line each.
    #[error("{}", .0.join("\n"))]
    Variables(Vec<String>),
}

/// A line of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as it was given.
    pub path: PathBuf,
    /// Counted from 1; absent where the fault is of the whole file.
    pub line: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(out, "{}:{line}", self.path.display()),
            None => write!(out, "{}", self.path.display()),
        }
    }
}

/// The text of a manifest, for turning byte offsets into lines.
pub(super) struct Source<'a> {
    pub path: &'a Path,
    pub text: &'a str,
}

impl Source<'_> {
    /// An error at the line of a byte offset.
    pub fn error_at(&self, offset: usize, message: impl Into<String>) -> Error {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Error::Invalid {
            place: Place { path: self.path.to_owned(), line: Some(line) },
            message: message.into(),
        }
    }

    /// An error of the whole file.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::Invalid { place: Place { path: self.path.to_owned(), line: None }, message: message.into() }
    }

    /// An error that the TOML reader or serde found.
    pub fn parse_error(&self, error: &toml::de::Error) -> Error {
        match error.span() {
            Some(span) => {
                self.error_at(span.start, reword(error.message(), key_before(self.text, span.start)))
            }
            None => self.error(reword(error.message(), None)),
        }
    }
}

/// The key whose value begins at a byte offset, or the last one of the table's header there.
fn key_before(text: &str, offset: usize) -> Option<&str> {
    let (before, after) = text.split_at_checked(offset)?;
    let path = match before.trim_end().strip_suffix('=') {
        Some(before) => before.trim_end(),
        None => after.trim_start_matches('[').split(']').next().filter(|_| after.starts_with('['))?,
    };
    let in_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    path.rsplit(|c| !in_key(c)).next().filter(|key| !key.is_empty())
}

/// What serde calls a type, in the words of TOML.
fn type_name(words: &str) -> &str {
    match words {
        "i64" => "a whole number",
        "map" => "a table",
        "sequence" | "a sequence" => "a list",
        _ if words.starts_with("struct ") => "a table",
        other => other,
    }
}

/// Says what serde says of keys in the words of the file: one that is unknown with the nearest known one, one that is missing,
/// and one whose value is of another type. Other messages stay.
fn reword(message: &str, key: Option<&str>) -> String {
    if let Some(missing) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return format!("the key \"{missing}\" is missing here");
    }
    if let Some((found, expected)) =
        message.strip_prefix("invalid type: ").and_then(|rest| rest.split_once(", expected "))
    {
        let (found, expected) = (type_name(found), type_name(expected));
        return format!("{} is {found}, and has to be {expected}", key.unwrap_or("this"));
    }
    let Some(rest) = message.strip_prefix("unknown field `") else {
        return message.to_owned();
    };
    let mut names = rest.split('`').step_by(2);
    let unknown = names.next().unwrap_or_default();
    let known: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    match nearest(unknown, known.iter().copied()) {
        Some(near) => format!("unknown key \"{unknown}\"; did you mean \"{near}\"?"),
        None => format!("unknown key \"{unknown}\"; known here: {}", known.join(", ")),
    }
}

/// Edits between two names up to which one is offered as a correction of the other.
const NEAR_MISS_EDITS: usize = 2;

/// The name closest to `wanted`, where one is close enough to be a slip of the pen.
pub(super) fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|name| (edits(wanted, name), name))
        .filter(|(distance, name)| *distance <= NEAR_MISS_EDITS && *distance < name.len())
        .min()
        .map(|(_, name)| name)
}

/// The Levenshtein distance in bytes; names here are ASCII.
fn edits(left: &str, right: &str) -> usize {
    let right = right.as_bytes();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_offered_and_a_stranger_is_not() {
        let known = ["route", "component", "executor"];
        assert_eq!(nearest("rout", known.into_iter()), Some("route"));
        assert_eq!(nearest("compnent", known.into_iter()), Some("component"));
        assert_eq!(nearest("channel", known.into_iter()), None);
        assert_eq!(nearest("ab", ["cd"].into_iter()), None, "nothing in common is no near miss");
    }
}
