//! The ledger's entries in a file, one JSON object a line, written before the answer is given. A crash of the process
//! loses nothing; no line is forced to the disk, since no money depends on it.

use crate::ledger::Entry;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::Path;

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Something was promised.
    Entry(Entry),
    /// The webhook of all entries up to this number has been accepted.
    Told(u64),
}

/// The open file; none keeps nothing.
#[derive(Debug)]
pub struct Journal(Option<File>);

impl Journal {
    /// Keeps nothing.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Opens the file, made where it is missing, and reads its lines. The last one is dropped where a crash cut it off.
    ///
    /// # Errors
    /// The file cannot be read or written, or a line but the last makes no sense.
    pub fn open(path: &Path) -> anyhow::Result<(Self, Vec<Line>)> {
        let wrong = || format!("the journal {}", path.display());
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(path).with_context(wrong)?;
        let mut reader = BufReader::new(&file);
        let (mut lines, mut good, mut text) = (Vec::new(), 0, String::new());
        loop {
            text.clear();
            let read = reader.read_line(&mut text).with_context(wrong)?;
            if read == 0 || !text.ends_with('\n') {
                break;
            }
            lines.push(serde_json::from_str(&text).with_context(wrong)?);
            good += read as u64;
        }
        file.set_len(good).with_context(wrong)?;
        file.seek(SeekFrom::End(0)).with_context(wrong)?;
        Ok((Self(Some(file)), lines))
    }

    /// Writes a line.
    ///
    /// # Errors
    /// It cannot be written; then it must not take effect.
    pub fn write(&mut self, line: &Line) -> anyhow::Result<()> {
        let Some(file) = &mut self.0 else { return Ok(()) };
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        Ok(file.write_all(&text)?)
    }
}
