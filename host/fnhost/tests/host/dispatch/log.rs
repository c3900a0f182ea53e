//! What guests have printed, as the log has it.

use std::sync::Mutex;

/// The log lines of guests, of all tests of this process.
static PRINTED: Mutex<String> = Mutex::new(String::new());

/// Writes to [`PRINTED`].
pub struct Kept;

impl std::io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        PRINTED.lock().expect("no panic").push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The log lines so far of guests that have printed `text`.
pub fn printed(text: &str) -> Vec<String> {
    let all = PRINTED.lock().expect("no panic");
    all.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}
