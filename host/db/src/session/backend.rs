//! The server's side of a session: what ends there a statement that nobody waits for any more.

use std::sync::OnceLock;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::OwnerPool;

/// Which process of the server a session has, and who may end it.
///
/// The server notices by itself that a client is gone, and has a limit on a statement's time; but both are settings of the session,
/// and where a function may change those, its statement would hold a connection for as long as it likes.
#[derive(Default)]
pub(super) struct Backend {
    process: Option<Process>,
    /// Set while a statement of a function runs.
    running: bool,
}

struct Process {
    owner: OwnerPool,
    pid: i32,
    /// When it began, as the server writes it: a number is given again, but not for the same time.
    since: String,
}

impl Backend {
    /// The one of this connection, where there is somebody who may end it. One round trip, at the login.
    pub(super) async fn of(
        connection: &mut PgConnection,
        owner: &OnceLock<OwnerPool>,
    ) -> Result<Self, sqlx::Error> {
        let Some(owner) = owner.get() else { return Ok(Self::default()) };
        let sql = "SELECT pid, backend_start::text FROM pg_stat_get_activity(pg_backend_pid())";
        let row = sqlx::raw_sql(sql).fetch_one(connection).await?;
        let process = Process { owner: owner.clone(), pid: row.try_get(0)?, since: row.try_get(1)? };
        Ok(Self { process: Some(process), running: false })
    }

    /// Says whether a statement of a function runs.
    pub(super) fn set_running(&mut self, running: bool) {
        self.running = running;
    }
}

impl Drop for Backend {
    /// After the connection, so that nothing can arrive on it any more.
    fn drop(&mut self) {
        let Some(process) = self.process.take().filter(|_| self.running) else { return };
        // Without a runtime the host is at its end, and the server is left to its own limits.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let Process { owner, pid, since } = process;
            if let Err(error) = owner.end_backend(pid, &since).await {
                let error: &dyn std::error::Error = &error;
                // As a rule the server is gone, and what ran there too.
                tracing::debug!(error, pid, "cannot end a function's statement at the server");
            }
        });
    }
}
