//! [`Sql`] and [`Host`] over Spin's interfaces.

use crate::sql::{Row, Sql, SqlError, Value};
use spin_sdk::key_value::Store;
use spin_sdk::pg::{Connection, DbValue, Error, ParameterValue, PgError, QueryError};
use spin_sdk::wit_bindgen::StreamResult;
use std::cell::OnceCell;

const URL_VARIABLE: &str = "database_url";

/// Rows that are read in one go: the largest batch with room to spare, so that most results take one call to the host.
const ROWS_PER_READ: usize = 1024;

/// What surrounds one call of this component. The connection is opened at the first statement.
#[derive(Default)]
pub struct Component {
    connection: OnceCell<Connection>,
    /// Nothing inside where the component was given no store.
    pub(super) store: OnceCell<Option<Store>>,
}

impl Component {
    /// Nothing is opened yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    async fn connection(&self) -> Result<&Connection, SqlError> {
        if let Some(open) = self.connection.get() {
            return Ok(open);
        }
        let url = crate::Host::variable(self, URL_VARIABLE)
            .await
            .map_err(|message| SqlError::new(None, message))?;
        let opened = Connection::open(url).await?;
        Ok(self.connection.get_or_init(|| opened))
    }
}

impl crate::Host for Component {
    async fn variable(&self, name: &str) -> Result<String, String> {
        spin_sdk::variables::get(name).await.map_err(|error| format!("variable {name}: {error}"))
    }
}

impl Sql for Component {
    async fn query(&self, statement: &'static str, params: Vec<Value>) -> Result<Vec<Row>, SqlError> {
        let (_, mut stream, result) =
            self.connection().await?.query(statement, parameters(params)).await?.into_inner();
        let mut rows = Vec::new();
        loop {
            let (status, read) = stream.read(Vec::with_capacity(ROWS_PER_READ)).await;
            rows.extend(read.into_iter().map(|cells| Row::new(cells.into_iter().map(value).collect())));
            if !matches!(status, StreamResult::Complete(_)) {
                break;
            }
        }
        result.await.map_err(Error::PgError)?;
        Ok(rows)
    }

    async fn execute(&self, statement: &'static str, params: Vec<Value>) -> Result<u64, SqlError> {
        Ok(self.connection().await?.execute(statement, parameters(params)).await?)
    }
}

fn parameters(params: Vec<Value>) -> Vec<ParameterValue> {
    params.into_iter().map(parameter).collect()
}

fn parameter(value: Value) -> ParameterValue {
    match value {
        Value::Null => ParameterValue::DbNull,
        Value::Bool(value) => ParameterValue::Boolean(value),
        Value::Int32(value) => ParameterValue::Int32(value),
        Value::Int64(value) => ParameterValue::Int64(value),
        Value::Text(value) => ParameterValue::Str(value),
        Value::Bytes(value) => ParameterValue::Binary(value),
        Value::Json(value) => ParameterValue::Jsonb(value),
        Value::Int32Array(values) => ParameterValue::ArrayInt32(values),
        Value::Int64Array(values) => ParameterValue::ArrayInt64(values),
        Value::TextArray(values) => ParameterValue::ArrayStr(values),
        // No conversion makes one, and a text is refused wherever another type is expected.
        Value::Unsupported(text) => ParameterValue::Str(text),
    }
}

fn value(value: DbValue) -> Value {
    match value {
        DbValue::DbNull => Value::Null,
        DbValue::Boolean(value) => Value::Bool(value),
        DbValue::Int32(value) => Value::Int32(value),
        DbValue::Int64(value) => Value::Int64(value),
        DbValue::Str(value) | DbValue::Uuid(value) => Value::Text(value),
        DbValue::Binary(value) => Value::Bytes(value),
        DbValue::Jsonb(value) => Value::Json(value),
        DbValue::ArrayInt32(values) => Value::Int32Array(values),
        DbValue::ArrayInt64(values) => Value::Int64Array(values),
        DbValue::ArrayStr(values) => Value::TextArray(values),
        other => Value::Unsupported(format!("{other:?}")),
    }
}

impl From<Error> for SqlError {
    fn from(error: Error) -> Self {
        /// `connection_failure`: the database was not reached, which is worth another try.
        const CONNECTION_FAILURE: &str = "08006";
        match error {
            Error::PgError(PgError::QueryFailed(QueryError::DbError(error))) => {
                Self::new(Some(error.code), error.as_text)
            }
            Error::PgError(PgError::ConnectionFailed(message)) => {
                Self::new(Some(CONNECTION_FAILURE.to_owned()), message)
            }
            other => Self::new(None, other.to_string()),
        }
    }
}

impl From<PgError> for SqlError {
    fn from(error: PgError) -> Self {
        Error::PgError(error).into()
    }
}
