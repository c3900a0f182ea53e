//! The database behind the system, as its owner: what the addresses do not show.

use crate::customer::Customer;
use anyhow::Context as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use std::str::FromStr as _;
use std::time::Duration;

/// What tells the sessions of the tests from those of the system.
const APPLICATION_NAME: &str = "tests";
/// Connections of a test.
const CONNECTIONS_MAX: u32 = 4;
/// Time in which the database answers.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// The owner's view of the database.
#[derive(Clone, Debug)]
pub struct Database {
    /// Pool of connections as the owner, for any statement.
    pub pool: PgPool,
}

impl Database {
    /// Connects.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        let options = PgPoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(CONNECT_DEADLINE);
        let login = PgConnectOptions::from_str(url)?.application_name(APPLICATION_NAME);
        let pool = options.connect_with(login).await.context("connect to the system's database")?;
        Ok(Self { pool })
    }

    /// Keeps the stock as it is now, in a table of the tests, for [`crate::consistency`] to compare with.
    ///
    /// # Errors
    /// What the database refused.
    pub async fn note_stock(&self) -> anyhow::Result<()> {
        let sql = "CREATE TABLE public.stock_before AS SELECT sku, on_hand FROM inventory.product";
        sqlx::raw_sql(sql).execute(&self.pool).await?;
        Ok(())
    }

    /// Adds a product of which nobody else orders, with this many units.
    ///
    /// # Errors
    /// There is one of this SKU.
    pub async fn add_product(&self, sku: &str, on_hand: i64) -> anyhow::Result<()> {
        let mut transaction = self.pool.begin().await?;
        for sql in [
            "INSERT INTO inventory.product (sku, name, price, currency, on_hand) VALUES ($1, $1, 100, 'EUR', $2)",
            "INSERT INTO orders.price (sku, amount, currency) SELECT $1, 100, 'EUR' WHERE $2 IS NOT NULL",
            "INSERT INTO public.stock_before (sku, on_hand) VALUES ($1, $2)",
        ] {
            sqlx::query(sql).bind(sku).bind(on_hand).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Gives a customer the role admin, and logs in again, since the token carries it.
    ///
    /// # Errors
    /// There is no such account.
    pub async fn make_admin(&self, customer: &Customer) -> anyhow::Result<Customer> {
        let sql = "UPDATE auth.account SET role = 'admin' WHERE id = $1";
        let changed = sqlx::query(sql).bind(customer.user_id).execute(&self.pool).await?;
        anyhow::ensure!(changed.rows_affected() == 1, "there is no account {}", customer.email);
        Customer::login(&customer.client, &customer.email).await
    }

    /// One number.
    ///
    /// # Errors
    /// What the database refused.
    pub async fn count(&self, sql: &'static str) -> anyhow::Result<i64> {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.with_context(|| sql.to_owned())
    }

    /// Ends every session of the functions' roles and of the hosts; answers how many.
    ///
    /// # Errors
    /// What the database refused.
    pub async fn terminate_sessions(&self) -> anyhow::Result<i64> {
        let sql = "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
                    WHERE backend_type = 'client backend' AND application_name IS DISTINCT FROM $1";
        Ok(sqlx::query_scalar(sql).bind(APPLICATION_NAME).fetch_one(&self.pool).await?)
    }
}
