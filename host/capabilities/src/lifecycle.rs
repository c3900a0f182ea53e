//! The life of a capability, the same for all: validated and measured when a component is loaded, linked once, made anew for
//! each call.

use std::sync::Arc;

use fnhost_manifest::ComponentSpec;
use fnhost_trace::Origin;
use fnhost_types::memory::CallMemory;
use fnhost_types::trust::NoAuthorities;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::WasiView;
use wasmtime_wasi_http::WasiHttpView;

use crate::Calls;
use crate::key_value::Stores;
use crate::postgres::CallPostgres;

/// An interface that components may import, in all the versions of it that are offered. The value is what all calls of one
/// component share of it.
pub trait Capability: Sized + Send + Sync + 'static {
    /// The interfaces, as they are named in a component's imports and in messages: `spin:variables@3.0.0`.
    const OFFERS: &'static [&'static str];

    /// What one call has of it.
    type Call: Send + 'static;

    /// What the component is granted, when it is loaded.
    ///
    /// # Errors
    /// It asks for what this host cannot give; the component is not loaded then.
    fn validate(component: &ComponentSpec, host: &Provided) -> Result<Self, Refused>;

    /// Shows what is counted of this component before anything happened: a rate needs the 0 it rises from.
    fn show_metrics(&self) {}

    /// Links every version; one linker serves all components.
    ///
    /// # Errors
    /// The linker has one of them already.
    fn link<T: View>(linker: &mut Linker<T>) -> wasmtime::Result<()>;

    /// What a new call has of it.
    fn call(self: &Arc<Self>, call: &NewCall<'_>) -> Self::Call;
}

/// A store's data that capabilities work on: the embedder's state of a call.
pub trait View: WasiView + WasiHttpView + Send + 'static {
    /// What the call has of each capability, and where the guest's resources are kept.
    fn capabilities(&mut self) -> (&mut Calls, &mut ResourceTable);
}

/// What the host brings along for all components.
#[derive(Clone, Debug)]
pub struct Provided {
    /// Where components keep values by key.
    pub key_value: Arc<dyn Stores>,
}

/// A call that begins.
pub struct NewCall<'a> {
    /// Which call it is.
    pub origin: &'a Arc<Origin>,
    /// Its use of Postgres where it is part of a dispatch; absent for a request, whose statements are each a transaction of
    /// their own.
    pub postgres: Option<CallPostgres>,
    /// What it may hold in memory, in its guest and in the host.
    pub memory: &'a CallMemory,
}

/// Why a component cannot have what it asks for.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Some of its hosts are asked by TLS, and nobody is trusted.
    #[error("it may call hosts over TLS, but no certificate authorities are loaded")]
    Trust(#[from] NoAuthorities),
}
