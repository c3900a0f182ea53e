//! One fnhost for several tests.

use super::{Fnhost, Setup, print_log};
use tokio::sync::OnceCell;

/// Where tests find the fnhost that they share: the first of them starts it, with private servers.
#[derive(Debug, Default)]
pub struct Sharing(OnceCell<Fnhost>);

impl Sharing {
    /// One whose fnhost is not started yet, for a `static`.
    #[must_use]
    pub const fn new() -> Self {
        Self(OnceCell::const_new())
    }

    /// The fnhost, for tests that leave its stock of other tests alone.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn fnhost(&'static self) -> anyhow::Result<Shared> {
        let fnhost = self.0.get_or_try_init(|| Fnhost::start(Setup::default())).await?;
        let log_start = std::fs::metadata(fnhost.log_path())?.len();
        Ok(Shared { fnhost, log_start })
    }
}

/// The shared fnhost, as one test has it: when the test fails, what was logged meanwhile is printed.
#[derive(Debug)]
pub struct Shared {
    fnhost: &'static Fnhost,
    log_start: u64,
}

impl std::ops::Deref for Shared {
    type Target = Fnhost;

    fn deref(&self) -> &Fnhost {
        self.fnhost
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.fnhost.log();
            let start = usize::try_from(self.log_start).unwrap_or_default();
            print_log(log.get(start..).unwrap_or(&log), self.fnhost.folder.path());
        }
    }
}
