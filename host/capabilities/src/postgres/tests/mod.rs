//! The interface against a real Postgres, beneath the component model.

mod access;
mod codec;
mod sessions;

use std::alloc::System;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;

use super::call::{Access, CallPostgres, GuestConnection};
use super::error::Error;
use super::foreign::AddressPools;
use super::statement::{Answer, Wanted};
use super::wit::{DbValue, ParameterValue};
use fnhost_db::session::{RolePool, SessionLimits, SharedTransaction, Transaction};
use fnhost_manifest::HttpSql;
use fnhost_test_postgres::TestPostgres;
use fnhost_types::memory::Noted;

/// As in the host.
#[global_allocator]
static ALLOCATOR: Noted<System> = Noted(System);

/// Longer than any statement here takes, unless it is one that waits until it is ended.
const DEADLINE: Duration = Duration::from_secs(20);

/// A database with one function's role.
struct World {
    postgres: Arc<TestPostgres>,
    name: String,
    /// Logged in as the superuser, for looking at what the role's sessions do.
    owner: PgConnection,
    pool: RolePool,
}

impl World {
    async fn new() -> Self {
        Self::with_connections(4).await
    }

    async fn with_connections(max_connections: usize) -> Self {
        Self::on(TestPostgres::shared(), max_connections).await
    }

    async fn on(postgres: Arc<TestPostgres>, max_connections: usize) -> Self {
        let (name, owner) = postgres.new_database().await;
        let limits = SessionLimits { max_connections, deadline: DEADLINE };
        let pool = RolePool::new("test", postgres.login(&name, &name), limits);
        Self { postgres, name, owner, pool }
    }

    fn address(&self) -> String {
        format!("postgres://{0}:secret@127.0.0.1:{1}/{0}?sslmode=disable", self.name, self.postgres.port())
    }

    /// A call inside a dispatch, and its transaction.
    fn kafka_call(&self) -> (CallPostgres, SharedTransaction) {
        let transaction = SharedTransaction::new(Transaction::new(self.pool.clone()));
        let access = Access::Transaction { transaction: transaction.clone(), own: self.pool.clone() };
        (CallPostgres::new(access), transaction)
    }

    /// A call for an HTTP request whose component may reach the loopback address.
    fn http_call(&self) -> CallPostgres {
        self.http_call_with(HttpSql::Rows)
    }

    fn http_call_with(&self, sql: HttpSql) -> CallPostgres {
        CallPostgres::new(Access::Autocommit {
            own: Some(self.pool.clone()),
            foreign: Arc::new(AddressPools::new(DEADLINE)),
            allowed: Arc::new(|host, _| host == "127.0.0.1"),
            sql,
        })
    }

    fn open(&self, call: &CallPostgres) -> GuestConnection {
        call.open(&self.address(), None).expect("the component's own database")
    }

    /// Runs statements as the superuser.
    async fn prepare(&mut self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&mut self.owner).await.expect("the fixture");
    }

    /// A number that the superuser reads.
    async fn count(&mut self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&mut self.owner).await.expect("a number")
    }
}

/// Runs a statement that must succeed and returns its rows.
async fn rows(
    call: &CallPostgres,
    connection: &GuestConnection,
    sql: &str,
    parameters: &[ParameterValue],
) -> Vec<Vec<DbValue>> {
    let answer = call.run(connection, sql, parameters, Wanted::Rows).await;
    match answer {
        Ok(Answer { rows, error: None, .. }) => rows,
        other => panic!("{sql}: {other:?}"),
    }
}

/// Runs a statement that must fail, at once or after its rows.
async fn failure(
    call: &CallPostgres,
    connection: &GuestConnection,
    sql: &str,
    parameters: &[ParameterValue],
) -> Error {
    match call.run(connection, sql, parameters, Wanted::Rows).await {
        Ok(Answer { error: Some(error), .. }) | Err(error) => error,
        Ok(answer) => panic!("{sql}: {answer:?}"),
    }
}
