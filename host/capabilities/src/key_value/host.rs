//! Joins the stores to the component model.

use wasmtime::component::{Accessor, FutureReader, HasData, Linker, Resource, ResourceTable, StreamReader};

use super::{CallKeyValue, OpenError, OpenStore, StoreError};
use crate::View;

mod v3 {
    wasmtime::component::bindgen!({
        inline: "
            package spin:key-value@3.0.0;

            interface key-value {
                resource store {
                    open: static async func(label: string) -> result<store, error>;
                    get: async func(key: string) -> result<option<list<u8>>, error>;
                    set: async func(key: string, value: list<u8>) -> result<_, error>;
                    delete: async func(key: string) -> result<_, error>;
                    exists: async func(key: string) -> result<bool, error>;
                    get-keys: async func() -> tuple<stream<string>, future<result<_, error>>>;
                }
                variant error { store-table-full, no-such-store, access-denied, other(string) }
            }

            world host {
                import key-value;
            }
        ",
        world: "host",
        imports: {
            "spin:key-value/key-value.[drop]store": trappable,
            default: async | store | trappable,
        },
        with: { "spin:key-value/key-value.store": crate::key_value::OpenStore },
    });
}

mod v2 {
    wasmtime::component::bindgen!({
        world: "fnhost:spin-v2-v3/key-value2",
        path: "wit-v2-v3",
        imports: { default: async | trappable },
        with: { "fermyon:spin/key-value.store": crate::key_value::OpenStore },
    });
}

use v2::fermyon::spin::key_value as api2;
use v3::spin::key_value::key_value as api3;

/// What the interfaces need of a store's data: the call, and where the guest's resources are kept.
struct Context<'a> {
    call: &'a CallKeyValue,
    table: &'a mut ResourceTable,
}

fn context<T: View>(state: &mut T) -> Context<'_> {
    let (calls, table) = state.capabilities();
    Context { call: &calls.key_value, table }
}

struct Binding;

impl HasData for Binding {
    type Data<'a> = Context<'a>;
}

/// Links both versions.
pub(super) fn add_to_linker<T: View>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    api3::add_to_linker::<T, Binding>(linker, context)?;
    api2::add_to_linker::<T, Binding>(linker, context)
}

type Answer<V, E> = wasmtime::Result<Result<V, E>>;

impl From<StoreError> for api3::Error {
    fn from(error: StoreError) -> Self {
        Self::Other(error.0)
    }
}

impl From<OpenError> for api3::Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::TableFull => Self::StoreTableFull,
            OpenError::NoSuchStore => Self::NoSuchStore,
            OpenError::AccessDenied => Self::AccessDenied,
        }
    }
}

impl From<StoreError> for api2::Error {
    fn from(error: StoreError) -> Self {
        Self::Other(error.0)
    }
}

impl From<OpenError> for api2::Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::TableFull => Self::StoreTableFull,
            OpenError::NoSuchStore => Self::NoSuchStore,
            OpenError::AccessDenied => Self::AccessDenied,
        }
    }
}

impl Context<'_> {
    fn open<E: From<OpenError>>(&mut self, name: &str) -> Answer<Resource<OpenStore>, E> {
        Ok(match self.call.open(name) {
            Ok(store) => Ok(self.table.push(store)?),
            Err(error) => Err(error.into()),
        })
    }

    fn store(&self, store: &Resource<OpenStore>) -> wasmtime::Result<OpenStore> {
        Ok(self.table.get(store)?.clone())
    }
}

impl api3::Host for Context<'_> {}

impl api3::HostStore for Context<'_> {
    fn drop(&mut self, store: Resource<OpenStore>) -> wasmtime::Result<()> {
        self.table.delete(store)?;
        Ok(())
    }
}

/// The store out of the call's state, which is free while the store works.
fn opened<T: 'static>(
    accessor: &Accessor<T, Binding>,
    store: &Resource<OpenStore>,
) -> wasmtime::Result<OpenStore> {
    accessor.with(|mut access| access.get().store(store))
}

impl<T: Send + 'static> api3::HostStoreWithStore<T> for Binding {
    async fn open(accessor: &Accessor<T, Self>, label: String) -> Answer<Resource<OpenStore>, api3::Error> {
        accessor.with(|mut access| access.get().open(&label))
    }

    async fn get(
        accessor: &Accessor<T, Self>,
        store: Resource<OpenStore>,
        key: String,
    ) -> Answer<Option<Vec<u8>>, api3::Error> {
        Ok(opened(accessor, &store)?.get(&key).await.map_err(Into::into))
    }

    async fn set(
        accessor: &Accessor<T, Self>,
        store: Resource<OpenStore>,
        key: String,
        value: Vec<u8>,
    ) -> Answer<(), api3::Error> {
        Ok(opened(accessor, &store)?.set(&key, value).await.map_err(Into::into))
    }

    async fn delete(
        accessor: &Accessor<T, Self>,
        store: Resource<OpenStore>,
        key: String,
    ) -> Answer<(), api3::Error> {
        Ok(opened(accessor, &store)?.delete(&key).await.map_err(Into::into))
    }

    async fn exists(
        accessor: &Accessor<T, Self>,
        store: Resource<OpenStore>,
        key: String,
    ) -> Answer<bool, api3::Error> {
        Ok(opened(accessor, &store)?.exists(&key).await.map_err(Into::into))
    }

    async fn get_keys(
        accessor: &Accessor<T, Self>,
        store: Resource<OpenStore>,
    ) -> wasmtime::Result<(StreamReader<String>, FutureReader<Result<(), api3::Error>>)> {
        let (keys, end) = match opened(accessor, &store)?.keys().await {
            Ok(keys) => (keys, Ok(())),
            Err(error) => (Vec::new(), Err(api3::Error::from(error))),
        };
        accessor.with(|mut access| {
            let keys = StreamReader::new(&mut access, keys)?;
            let end = FutureReader::new(&mut access, std::future::ready(wasmtime::error::Ok(end)))?;
            Ok((keys, end))
        })
    }
}

impl api2::Host for Context<'_> {}

impl api2::HostStore for Context<'_> {
    async fn open(&mut self, label: String) -> Answer<Resource<OpenStore>, api2::Error> {
        Context::open(self, &label)
    }

    async fn get(&mut self, store: Resource<OpenStore>, key: String) -> Answer<Option<Vec<u8>>, api2::Error> {
        Ok(self.store(&store)?.get(&key).await.map_err(Into::into))
    }

    async fn set(
        &mut self,
        store: Resource<OpenStore>,
        key: String,
        value: Vec<u8>,
    ) -> Answer<(), api2::Error> {
        Ok(self.store(&store)?.set(&key, value).await.map_err(Into::into))
    }

    async fn delete(&mut self, store: Resource<OpenStore>, key: String) -> Answer<(), api2::Error> {
        Ok(self.store(&store)?.delete(&key).await.map_err(Into::into))
    }

    async fn exists(&mut self, store: Resource<OpenStore>, key: String) -> Answer<bool, api2::Error> {
        Ok(self.store(&store)?.exists(&key).await.map_err(Into::into))
    }

    async fn get_keys(&mut self, store: Resource<OpenStore>) -> Answer<Vec<String>, api2::Error> {
        Ok(self.store(&store)?.keys().await.map_err(Into::into))
    }

    async fn drop(&mut self, store: Resource<OpenStore>) -> wasmtime::Result<()> {
        self.table.delete(store)?;
        Ok(())
    }
}
