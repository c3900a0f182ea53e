//! A database for one run of `fnhost test`, dropped after it together with its roles.

use super::owner::OWNER_STATEMENT_TIMEOUT;
use super::session::Bounded;
use super::{Error, batch, ident};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use uuid::Uuid;

/// An empty database beside the one of the given login. It stays where [`Scratch::drop_all`] is not called.
pub struct Scratch {
    /// How to reach the server.
    server: PgConnectOptions,
    /// The database, and what the names of its roles begin with.
    name: String,
}

impl Scratch {
    /// Creates it.
    ///
    /// # Errors
    /// The server does not answer, or the login may not create databases.
    pub async fn create(server: PgConnectOptions) -> Result<Self, Error> {
        let name = format!("fnhost_test_{}", &Uuid::new_v4().simple().to_string()[..8]);
        let mut connection = connect(&server).await?;
        batch(&mut connection, format!("CREATE DATABASE {}", ident(&name))).await?;
        connection.close().await?;
        Ok(Self { server, name })
    }

    /// Its name, and what the names of its roles begin with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Drops the database and its roles, whoever is connected.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn drop_all(self) -> Result<(), Error> {
        let mut connection = connect(&self.server).await?;
        batch(&mut connection, format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", ident(&self.name))).await?;
        let roles: Vec<String> =
            sqlx::query_scalar("SELECT rolname::text FROM pg_roles WHERE starts_with(rolname, $1)")
                .bind(&self.name)
                .fetch_all(&mut connection)
                .await?;
        for role in roles {
            batch(&mut connection, format!("DROP ROLE IF EXISTS {}", ident(&role))).await?;
        }
        Ok(connection.close().await?)
    }
}

async fn connect(server: &PgConnectOptions) -> Result<Bounded, Error> {
    let connection = PgConnection::connect_with(&server.clone().disable_statement_logging()).await?;
    Ok(Bounded::new(connection, OWNER_STATEMENT_TIMEOUT))
}
