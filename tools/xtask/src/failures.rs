//! What a run of `cargo test` says of tests that failed, so that it can be said again at the end, where somebody looks.

use std::io::{BufRead, Write};

/// Lines of what a test printed that are said again, at most.
const LINES_MAX: usize = 12;

/// A test that failed. A test program that does not come to its end names none.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// The test's name.
    pub name: String,
    /// The first of its lines about a panic, [`LINES_MAX`] at most.
    pub said: Vec<String>,
}

/// Copies what cargo prints, line by line, and collects what failed.
///
/// # Errors
/// What is read is no stream any more, or nobody takes the copy.
pub fn collect(mut from: impl BufRead, mut to: impl Write) -> std::io::Result<Vec<Failure>> {
    let mut failures: Vec<Failure> = Vec::new();
    let mut line = Vec::new();
    // The failure whose output is being read, and whether its panic has been seen.
    let mut within: Option<(usize, bool)> = None;
    while from.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        to.flush()?;
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if let Some(name) = text.strip_prefix("test ").and_then(|test| test.strip_suffix(" ... FAILED")) {
            failures.push(Failure { name: name.to_owned(), said: Vec::new() });
        } else if let Some(name) =
            text.strip_prefix("---- ").and_then(|head| head.strip_suffix(" stdout ----"))
        {
            within = failures.iter().position(|failure| failure.name == name).map(|at| (at, false));
        } else if text == "failures:" || text.starts_with("stack backtrace:") {
            within = None;
        } else if let Some((at, panicked)) = &mut within {
            *panicked |= text.contains("panicked at") || text.starts_with("Error: ");
            let said = &mut failures[*at].said;
            if *panicked && said.len() < LINES_MAX {
                said.push(text.to_owned());
            }
        }
        line.clear();
    }
    Ok(failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_said_with_their_panics() {
        let printed = "\
running 3 tests
test good ... ok
test a::bad ... FAILED
test b::error ... FAILED

failures:

---- a::bad stdout ----
what it printed
thread 'a::bad' (7) panicked at a.rs:5:5:
assertion `left == right` failed
stack backtrace:
   0: main

---- b::error stdout ----
Error: no such file

failures:
    a::bad
    b::error
";
        let mut copied = Vec::new();
        let failures = collect(printed.as_bytes(), &mut copied).expect("memory");
        assert_eq!(String::from_utf8_lossy(&copied), printed);
        let told: Vec<_> =
            failures.iter().map(|failure| (failure.name.as_str(), failure.said.join("|"))).collect();
        assert_eq!(
            told,
            [
                (
                    "a::bad",
                    "thread 'a::bad' (7) panicked at a.rs:5:5:|assertion `left == right` failed".to_owned()
                ),
                ("b::error", "Error: no such file|".to_owned()),
            ]
        );
    }
}
