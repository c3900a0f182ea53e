//! What is said while something takes long. Everything goes to stderr, so that what programs read on stdout stays whole.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;
use tokio::time::{Instant, interval_at};

/// Between two lines, and until the first: what is quicker needs none.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Between two states of a live line.
const LIVE_INTERVAL: Duration = Duration::from_millis(200);

/// Does the work, and says in the log every few seconds that it is still under way. For what may log meanwhile.
pub(super) async fn logged<T>(what: &str, work: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let mut ticks = interval_at(began + LINE_INTERVAL, LINE_INTERVAL);
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = ticks.tick() => tracing::info!(seconds = began.elapsed().as_secs(), "still {what}"),
        }
    }
}

/// Does the work under one line with the seconds that it takes, on a terminal; elsewhere the line is printed once and then
/// the log says that it goes on. For what logs nothing itself.
pub(super) async fn live<T>(what: &str, work: impl Future<Output = T>) -> T {
    if !std::io::stderr().is_terminal() {
        eprintln!("{what}");
        return logged(what, work).await;
    }
    let began = Instant::now();
    let mut ticks = interval_at(began, LIVE_INTERVAL);
    // Leaves the line empty, also where nobody waits for the end.
    let _clear = Clear;
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = ticks.tick() => write(&format!("\r\x1b[K{what}: {} s", began.elapsed().as_secs())),
        }
    }
}

struct Clear;

impl Drop for Clear {
    fn drop(&mut self) {
        write("\r\x1b[K");
    }
}

/// A terminal that is gone needs no line.
fn write(text: &str) {
    let mut terminal = std::io::stderr();
    let _ = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush());
}
