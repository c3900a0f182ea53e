//! The functions' own code, compiled natively: the same handlers and statements over sqlx instead of a component's imports.

use anyhow::Context as _;
use bytes::Bytes;
use contract::event::Batch;
use fnhost_capabilities::outbound_http::{Outbound, RequestOptions, WasiBody};
use fnhost_capabilities::postgres::SqlFailure;
use fnhost_db::session::SharedTransaction;
use fnhost_dispatch::{CallFailure, Called, Handler};
use fnhost_manifest::{Manifest, Secret, VariableSources};
use fnhost_sdk::client::{self, Client};
use fnhost_sdk::kafka::{Emit, Failure, Header, Message, Outcome, Reply};
use fnhost_sdk::{Host, Row, Sql, SqlError, Value};
use fnhost_types::failure::FailureClass;
use fnhost_types::wit;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};
use hyper::http;
use sqlx::postgres::{PgArguments, PgConnection, PgRow, PgStatement};
use sqlx::types::JsonRawValue;
use sqlx::{
    Arguments as _, Column as _, Either, Executor as _, Row as _, SqlSafeStr as _, Statement as _,
    TypeInfo as _,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A function with a Kafka handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the components of the manifest")]
pub enum Function {
    Order,
    Inventory,
    Payment,
    Notify,
    Forecast,
}

impl Function {
    /// The function that is this component of the manifest.
    ///
    /// # Errors
    /// There is none.
    pub fn of_component(id: &str) -> anyhow::Result<Self> {
        Ok(match id {
            "order" => Self::Order,
            "inventory" => Self::Inventory,
            "payment" => Self::Payment,
            "notify" => Self::Notify,
            "forecast" => Self::Forecast,
            other => anyhow::bail!("no native code is known for component {other}"),
        })
    }

    /// Handles a batch.
    ///
    /// # Errors
    /// What the handler says.
    pub async fn handle<D: Host + Client>(self, database: &D, batch: Batch) -> Result<Reply, Failure> {
        match self {
            Self::Order => order::kafka::handle(database, batch).await,
            Self::Inventory => inventory::kafka::handle(database, batch).await,
            Self::Payment => payment::kafka::handle(database, batch).await,
            Self::Notify => notify::kafka::handle(database, batch).await,
            Self::Forecast => forecast::kafka::handle(database, batch).await,
        }
    }
}

/// Native code in the place of a component.
pub struct NativeHandler(pub Function, pub Arc<Around>);

impl Handler for NativeHandler {
    fn call(
        &self,
        batch: wit::Batch,
        transaction: SharedTransaction,
    ) -> BoxFuture<'_, Result<Called, CallFailure>> {
        async move {
            let database = Dispatched { transaction, failure: Mutex::new(None), around: self.1.clone() };
            let batch = Batch::decode(batch.messages.into_iter().map(message).collect());
            match self.0.handle(&database, batch).await {
                Ok(reply) => Ok(Called::from(wit::Reply {
                    outcomes: reply.outcomes.into_iter().map(outcome).collect(),
                    emits: reply.emits.into_iter().map(emit).collect(),
                })),
                Err(failure) => Err(CallFailure {
                    class: database.failure_class(),
                    reason: failure.reason,
                    message: failure.message,
                }),
            }
        }
        .boxed()
    }
}

fn message(message: wit::Message) -> Message {
    let wit::Message { key, value, headers, attempt, last_attempt, .. } = message;
    let headers = headers.into_iter().map(|wit::Header { name, value }| Header { name, value }).collect();
    Message { key, value, headers, attempt, last_attempt }
}

fn outcome(outcome: Outcome) -> wit::Outcome {
    match outcome {
        Outcome::Done => wit::Outcome::Done,
        Outcome::Retry(reason) => wit::Outcome::Retry(reason),
        Outcome::Reject(reason) => wit::Outcome::Reject(reason),
    }
}

fn emit(emit: Emit) -> wit::Emit {
    let Emit { cause, topic, key, value, headers } = emit;
    let headers = headers.into_iter().map(|Header { name, value }| wit::Header { name, value }).collect();
    wit::Emit { cause, topic: topic.into_owned(), key: Some(key), value: Some(value), headers }
}

/// The database of a call in the host: the dispatch's transaction.
struct Dispatched {
    transaction: SharedTransaction,
    /// The first refusal, which says who is to blame for the call's.
    failure: Mutex<Option<SqlFailure>>,
    around: Arc<Around>,
}

impl Dispatched {
    fn failure_class(&self) -> FailureClass {
        let failure = self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        failure.as_ref().map_or(FailureClass::Function, SqlFailure::class)
    }

    async fn run(&self, statement: &'static str, params: Vec<Value>) -> Result<(Vec<Row>, u64), SqlError> {
        let mut transaction = self.transaction.lock().await;
        let transaction =
            transaction.as_mut().ok_or_else(|| SqlError::new(None, "the transaction was taken back"))?;
        let connection =
            transaction.connection().await.map_err(|error| SqlError::new(None, error.to_string()))?;
        run(connection.unbounded(), statement, params).await.map_err(|error| {
            let failure = SqlFailure::from_sqlx(&error);
            let refused = SqlError::new(failure.code.clone(), failure.message.clone());
            let mut first = self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            first.get_or_insert(failure);
            refused
        })
    }
}

impl Sql for Dispatched {
    async fn query(&self, statement: &'static str, params: Vec<Value>) -> Result<Vec<Row>, SqlError> {
        Ok(self.run(statement, params).await?.0)
    }

    async fn execute(&self, statement: &'static str, params: Vec<Value>) -> Result<u64, SqlError> {
        Ok(self.run(statement, params).await?.1)
    }
}

/// One connection of the plain loop, inside its transaction.
pub struct Connected {
    /// The connection; locked for one statement at a time.
    pub connection: tokio::sync::Mutex<PgConnection>,
    /// What the function asks besides.
    pub around: Arc<Around>,
}

impl Connected {
    async fn run(&self, statement: &'static str, params: Vec<Value>) -> Result<(Vec<Row>, u64), SqlError> {
        let mut connection = self.connection.lock().await;
        run(&mut connection, statement, params).await.map_err(|error| SqlError::new(None, error.to_string()))
    }
}

impl Sql for Connected {
    async fn query(&self, statement: &'static str, params: Vec<Value>) -> Result<Vec<Row>, SqlError> {
        Ok(self.run(statement, params).await?.0)
    }

    async fn execute(&self, statement: &'static str, params: Vec<Value>) -> Result<u64, SqlError> {
        Ok(self.run(statement, params).await?.1)
    }
}

/// What the functions have around them beside SQL: the variables, and requests sent by fnhost's own client, as a
/// component's are.
pub struct Around {
    variables: BTreeMap<String, Secret>,
    outbound: Outbound,
}

impl Around {
    /// That of a component of the manifest, with the variables of this process's environment.
    ///
    /// # Errors
    /// A variable has no value.
    pub fn of(manifest: &Manifest, component: &str) -> anyhow::Result<Arc<Self>> {
        let mut sources = VariableSources::new([], std::env::vars())?;
        // What the host would fill in; no native code asks for it.
        let open = manifest.variables.iter().filter(|(_, variable)| variable.default.is_none());
        let open: Vec<_> = open.map(|(name, _)| name).filter(|name| sources.get(name).is_none()).collect();
        for name in open {
            sources.host.insert(name.clone(), Secret::new("127.0.0.1:5432"));
        }
        let values = manifest.resolve(&sources)?;
        let resolved = values.components.get(component).context("a component of the manifest")?;
        let settings = manifest.components.get(component).context("a component of the manifest")?.outbound;
        let outbound = Outbound::new(component, Arc::new(resolved.allowed_hosts.clone()), settings);
        Ok(Arc::new(Self { variables: resolved.variables.clone(), outbound: outbound? }))
    }

    async fn send(
        &self,
        request: http::Request<WasiBody>,
        timeout_ms: u32,
    ) -> Result<client::Answer, String> {
        let timeout = Some(Duration::from_millis(timeout_ms.into()));
        let options = RequestOptions {
            connect_timeout: timeout,
            first_byte_timeout: timeout,
            between_bytes_timeout: timeout,
        };
        let answer = self.outbound.send(request, options).await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.map_err(|error| error.to_string())?;
        Ok(client::Answer { status, body: body.to_bytes().to_vec() })
    }
}

macro_rules! surrounded {
    ($($type:ty),*) => {$(
        impl Host for $type {
            async fn variable(&self, name: &str) -> Result<String, String> {
                let value = self.around.variables.get(name).map(|value| value.expose().to_owned());
                value.ok_or_else(|| format!("there is no variable {name}"))
            }
        }

        impl Client for $type {
            async fn get(&self, url: &str, timeout_ms: u32) -> Result<client::Answer, String> {
                let request = http::Request::get(url).body(whole(Vec::new()));
                self.around.send(request.map_err(|error| error.to_string())?, timeout_ms).await
            }

            async fn post(&self, url: &str, key: &str, json: Vec<u8>, timeout_ms: u32) -> Result<client::Answer, String> {
                let request = http::Request::post(url)
                    .header("host", url.split('/').nth(2).unwrap_or_default())
                    .header("content-type", "application/json")
                    .header("idempotency-key", key)
                    .body(whole(json));
                self.around.send(request.map_err(|error| error.to_string())?, timeout_ms).await
            }
        }
    )*};
}

surrounded!(Dispatched, Connected);

fn whole(body: Vec<u8>) -> WasiBody {
    Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync()
}

/// Runs a statement the way the host runs a component's: prepared once per connection, typed by the server.
async fn run(
    connection: &mut PgConnection,
    statement: &'static str,
    params: Vec<Value>,
) -> Result<(Vec<Row>, u64), sqlx::Error> {
    let prepared: PgStatement = (&mut *connection).prepare_with(statement.into_sql_str(), &[]).await?;
    let mut arguments = PgArguments::default();
    for param in params {
        bind(&mut arguments, param).map_err(sqlx::Error::Encode)?;
    }
    let mut rows = Vec::new();
    let mut affected = 0;
    let mut answers = connection.fetch_many(prepared.query_with(arguments));
    while let Some(answer) = futures::TryStreamExt::try_next(&mut answers).await? {
        match answer {
            Either::Left(done) => affected += done.rows_affected(),
            Either::Right(row) => rows.push(cells(&row)?),
        }
    }
    Ok((rows, affected))
}

fn bind(arguments: &mut PgArguments, value: Value) -> Result<(), sqlx::error::BoxDynError> {
    match value {
        Value::Null => arguments.add(None::<String>),
        Value::Bool(value) => arguments.add(value),
        Value::Int32(value) => arguments.add(value),
        Value::Int64(value) => arguments.add(value),
        Value::Text(value) => arguments.add(value),
        Value::Bytes(value) => arguments.add(value),
        Value::Json(value) => {
            arguments.add(serde_json::from_slice::<Box<JsonRawValue>>(&value).map(sqlx::types::Json)?)
        }
        Value::Int32Array(values) => arguments.add(values),
        Value::Int64Array(values) => arguments.add(values),
        Value::TextArray(values) => arguments.add(values),
        Value::Unsupported(text) => Err(text.into()),
    }
}

fn cells(row: &PgRow) -> Result<Row, sqlx::Error> {
    let mut cells = Vec::with_capacity(row.len());
    for (at, column) in row.columns().iter().enumerate() {
        cells.push(match column.type_info().name() {
            "BOOL" => row.try_get::<Option<bool>, _>(at)?.into(),
            "INT4" => row.try_get::<Option<i32>, _>(at)?.into(),
            "INT8" => row.try_get::<Option<i64>, _>(at)?.into(),
            "TEXT" => row.try_get::<Option<String>, _>(at)?.into(),
            "UUID" => row.try_get::<Option<uuid::Uuid>, _>(at)?.map(|id| id.to_string()).into(),
            "BYTEA" => row.try_get::<Option<Vec<u8>>, _>(at)?.into(),
            "JSONB" => json(row, at)?,
            other => Value::Unsupported(other.to_owned()),
        });
    }
    Ok(Row::new(cells))
}

fn json(row: &PgRow, at: usize) -> Result<Value, sqlx::Error> {
    let json = row.try_get::<Option<sqlx::types::Json<Box<JsonRawValue>>>, _>(at)?;
    Ok(json.map_or(Value::Null, |json| Value::Json(json.0.get().as_bytes().to_vec())))
}
