//! Joins [`CallPostgres`] to the component model.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use wasmtime::StoreContextMut;
use wasmtime::component::{
    Access, Accessor, Destination, FutureReader, HasData, Linker, Resource, ResourceTable, StreamProducer,
    StreamReader, StreamResult, VecBuffer,
};

use super::call::{CallPostgres, GuestConnection, Handle};
use super::error::Error;
use super::statement::{Answer, Buffered, Wanted};
use super::wit::{self, Column, ParameterValue, Row, RowSet};

/// How many rows are handed to the guest's stream at once; a guest that reads fewer finds the rest waiting.
const ROWS_PER_CHUNK: usize = 4096;
/// The longest certificate authority that a guest may set, in bytes.
const CA_ROOT_BYTES_MAX: usize = 64 * 1024;

/// What the interface needs of a store's data.
pub struct PostgresCtx<'a> {
    /// The call that the store serves.
    pub call: &'a mut CallPostgres,
    /// Where the guest's resources are kept.
    pub table: &'a mut ResourceTable,
}

/// A store's data that gives access to Postgres.
pub trait PostgresView: Send {
    /// The call's use of Postgres.
    fn postgres(&mut self) -> PostgresCtx<'_>;
}

/// Adds `spin:postgres/postgres` to a linker.
///
/// # Errors
/// Where the linker has the interface already.
pub fn add_to_linker<T: PostgresView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    wit::add_to_linker::<T, Binding>(linker, T::postgres)
}

/// Stands for the interface where the component model's bindings ask which part of the store's data serves it.
pub(super) struct Binding;

impl HasData for Binding {
    type Data<'a> = PostgresCtx<'a>;
}

/// A connection that the guest is about to open.
pub struct ConnectionBuilder {
    address: String,
    ca_root: Option<Arc<str>>,
    _handle: Handle,
}

type Opened = wasmtime::Result<Result<Resource<GuestConnection>, wit::Error>>;
type Streamed = (Vec<Column>, StreamReader<Row>, FutureReader<Result<(), wit::Error>>);

impl PostgresCtx<'_> {
    pub(super) fn open(&mut self, address: &str, ca_root: Option<Arc<str>>) -> Opened {
        Ok(match self.call.open(address, ca_root) {
            Ok(connection) => Ok(self.table.push(connection)?),
            Err(error) => Err(error.into_wit()),
        })
    }

    fn build(&mut self, builder: &Resource<ConnectionBuilder>) -> Opened {
        let ConnectionBuilder { address, ca_root, .. } = self.table.get(builder)?;
        let (address, ca_root) = (address.clone(), ca_root.clone());
        self.open(&address, ca_root)
    }

    /// Runs a statement for an interface that has no streams.
    pub(super) async fn run(
        &mut self,
        connection: &Resource<GuestConnection>,
        statement: &str,
        params: &[ParameterValue],
        wanted: Wanted,
    ) -> wasmtime::Result<Result<Answer, wit::Error>> {
        let (call, connection) = self.connection(connection)?;
        let answer = call.run_blocking(&connection, statement, params, wanted).await.and_then(complete);
        Ok(answer.map_err(Error::into_wit))
    }

    /// What a statement needs, out of the store, so that the store is free while the statement runs.
    fn connection(
        &self,
        connection: &Resource<GuestConnection>,
    ) -> wasmtime::Result<(CallPostgres, GuestConnection)> {
        Ok((self.call.clone(), self.table.get(connection)?.clone()))
    }
}

impl wit::Host for PostgresCtx<'_> {}

impl wit::HostConnectionBuilder for PostgresCtx<'_> {
    fn new(&mut self, address: String) -> wasmtime::Result<Resource<ConnectionBuilder>> {
        // The constructor has no way to fail but a trap.
        let handle = self.call.handle().map_err(|error| wasmtime::format_err!("{error}"))?;
        Ok(self.table.push(ConnectionBuilder { address, ca_root: None, _handle: handle })?)
    }

    fn set_ca_root(
        &mut self,
        builder: Resource<ConnectionBuilder>,
        certificate: String,
    ) -> wasmtime::Result<Result<(), wit::Error>> {
        let builder = self.table.get_mut(&builder)?;
        if certificate.len() > CA_ROOT_BYTES_MAX || !certificate.contains("-----BEGIN CERTIFICATE-----") {
            let text = "invalid root certificate: expected one or more in PEM form";
            return Ok(Err(wit::Error::Other(text.to_owned())));
        }
        builder.ca_root = Some(certificate.into());
        Ok(Ok(()))
    }

    fn drop(&mut self, builder: Resource<ConnectionBuilder>) -> wasmtime::Result<()> {
        self.table.delete(builder)?;
        Ok(())
    }
}

impl wit::HostConnection for PostgresCtx<'_> {
    fn drop(&mut self, connection: Resource<GuestConnection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

impl<T: Send + 'static> wit::HostConnectionBuilderWithStore<T> for Binding {
    async fn build(mut store: Access<'_, T, Self>, builder: Resource<ConnectionBuilder>) -> Opened {
        store.get().build(&builder)
    }

    async fn build_async(store: &Accessor<T, Self>, builder: Resource<ConnectionBuilder>) -> Opened {
        store.with(|mut store| store.get().build(&builder))
    }
}

impl<T: Send + 'static> wit::HostConnectionWithStore<T> for Binding {
    async fn open(mut store: Access<'_, T, Self>, address: String) -> Opened {
        store.get().open(&address, None)
    }

    async fn open_async(store: &Accessor<T, Self>, address: String) -> Opened {
        store.with(|mut store| store.get().open(&address, None))
    }

    async fn query(
        mut store: Access<'_, T, Self>,
        connection: Resource<GuestConnection>,
        statement: String,
        params: Vec<ParameterValue>,
    ) -> wasmtime::Result<Result<RowSet, wit::Error>> {
        let (call, connection) = store.get().connection(&connection)?;
        let result =
            call.run_blocking(&connection, &statement, &params, Wanted::Rows).await.and_then(complete);
        Ok(result.map(|Answer { columns, rows, .. }| RowSet { columns, rows }).map_err(Error::into_wit))
    }

    async fn query_async(
        store: &Accessor<T, Self>,
        connection: Resource<GuestConnection>,
        statement: String,
        params: Vec<ParameterValue>,
    ) -> wasmtime::Result<Result<Streamed, wit::Error>> {
        let (call, connection) = store.with(|mut store| store.get().connection(&connection))?;
        match call.run(&connection, &statement, &params, Wanted::Rows).await {
            Ok(answer) => store.with(|mut store| stream(&mut store, answer).map(Ok)),
            Err(error) => Ok(Err(error.into_wit())),
        }
    }

    async fn execute(
        mut store: Access<'_, T, Self>,
        connection: Resource<GuestConnection>,
        statement: String,
        params: Vec<ParameterValue>,
    ) -> wasmtime::Result<Result<u64, wit::Error>> {
        let (call, connection) = store.get().connection(&connection)?;
        let result =
            call.run_blocking(&connection, &statement, &params, Wanted::Count).await.and_then(complete);
        Ok(result.map(|answer| answer.affected).map_err(Error::into_wit))
    }

    async fn execute_async(
        store: &Accessor<T, Self>,
        connection: Resource<GuestConnection>,
        statement: String,
        params: Vec<ParameterValue>,
    ) -> wasmtime::Result<Result<u64, wit::Error>> {
        let (call, connection) = store.with(|mut store| store.get().connection(&connection))?;
        let result = call.run(&connection, &statement, &params, Wanted::Count).await.and_then(complete);
        Ok(result.map(|answer| answer.affected).map_err(Error::into_wit))
    }
}

/// For the functions that answer with everything or an error.
fn complete(mut answer: Answer) -> Result<Answer, Error> {
    answer.error.take().map_or(Ok(answer), Err)
}

/// The answer as the guest reads it: rows as it asks for them, and whether they were all.
fn stream<T: 'static>(store: &mut Access<'_, T, Binding>, answer: Answer) -> wasmtime::Result<Streamed> {
    let Answer { columns, rows, error, buffered, .. } = answer;
    let rows = StreamReader::new(&mut *store, RowProducer { rows: rows.into_iter(), buffered })?;
    let end = match error {
        None => Ok(()),
        Some(error) => Err(error.into_wit()),
    };
    let end = FutureReader::new(&mut *store, std::future::ready(wasmtime::error::Ok(end)))?;
    Ok((columns, rows, end))
}

/// Hands rows that are in memory to the guest in large chunks.
struct RowProducer {
    rows: std::vec::IntoIter<Row>,
    buffered: Buffered,
}

impl<D> StreamProducer<D> for RowProducer {
    type Item = Row;
    type Buffer = VecBuffer<Row>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: StoreContextMut<'a, D>,
        mut destination: Destination<'a, Row, VecBuffer<Row>>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let before = self.rows.len();
        let chunk: Vec<Row> = self.rows.by_ref().take(ROWS_PER_CHUNK).collect();
        // From here on they are the guest's, and counted there.
        self.buffered.give_back(chunk.len(), before);
        destination.set_buffer(chunk.into());
        let state = if self.rows.len() == 0 { StreamResult::Dropped } else { StreamResult::Completed };
        Poll::Ready(Ok(state))
    }
}
