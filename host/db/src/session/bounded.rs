//! A connection that waits for no answer without end.

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use sqlx::postgres::{PgConnection, PgQueryResult, PgRow, PgStatement, PgTypeInfo, Postgres};
use sqlx::{Connection as _, Either, Execute, Executor, SqlStr};
use std::time::Duration;

use super::is_connection_lost;

/// One answer of a statement: a row, or that it is done.
type Answer = Result<Either<PgQueryResult, PgRow>, sqlx::Error>;

/// A connection on which each statement has to be answered within a limit. The server has limits of its own, but a server that
/// is gone keeps none, and the connection to it may stay open for as long as nobody says otherwise.
///
/// Answers are collected before they are handed out, so that the limit is of the statement and not of who reads its rows.
#[derive(Debug)]
pub struct Bounded {
    connection: PgConnection,
    limit: Duration,
    /// False while a statement runs, and for good after one that was cancelled, got no answer or lost the connection: what comes
    /// next on the wire is then the rest of that answer.
    settled: bool,
}

impl Bounded {
    pub(crate) fn new(connection: PgConnection, limit: Duration) -> Self {
        Self { connection, limit, settled: true }
    }

    /// The connection without the limit: for statements of a guest, whose call has a deadline, and for migrations.
    pub fn unbounded(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Takes leave of the server.
    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        self.connection.close().await
    }

    /// False where only closing the connection is safe.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Waits for the end of what runs on the connection.
    async fn within<T>(
        limit: Duration,
        settled: &mut bool,
        run: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        if !std::mem::replace(settled, false) {
            return Err(sqlx::Error::Protocol(
                "an earlier statement got no answer on this connection".into(),
            ));
        }
        let answer = tokio::time::timeout(limit, run).await.unwrap_or_else(|_| Err(no_answer(limit)));
        *settled = !answer.as_ref().is_err_and(is_connection_lost);
        answer
    }

    /// All answers of a statement, or of several; the last one may be an error.
    pub(crate) fn answers<'e, 'q: 'e>(
        &'e mut self,
        query: impl Execute<'q, Postgres> + 'q,
    ) -> BoxFuture<'e, Vec<Answer>> {
        let Self { connection, limit, settled } = self;
        let mut stream = connection.fetch_many(query);
        async move {
            let mut answers = Vec::new();
            let read = async {
                while let Some(answer) = stream.next().await {
                    answers.push(Ok(answer?));
                }
                Ok(())
            };
            let end = Self::within(*limit, settled, read).await;
            answers.extend(end.err().map(Err));
            answers
        }
        .boxed()
    }
}

/// As a connection that broke: whether the statement ran is not known.
fn no_answer(limit: Duration) -> sqlx::Error {
    let said = format!("the database did not answer within {limit:?}");
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, said))
}

impl<'c> Executor<'c> for &'c mut Bounded {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Answer>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        self.answers(query).map(stream::iter).flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let Bounded { connection, limit, settled } = self;
        Bounded::within(*limit, settled, connection.fetch_optional(query)).boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        let Bounded { connection, limit, settled } = self;
        Bounded::within(*limit, settled, connection.prepare_with(sql, parameters)).boxed()
    }
}
