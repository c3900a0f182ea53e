//! What a component may import: one folder for each interface that fnhost itself offers, beside WASI.

#[path = "../../manifest/src/files.rs"]
pub mod files;
pub mod key_value;
pub mod outbound_http;
pub mod postgres;
pub mod variables;

use wasmtime::component::Linker;

use crate::engine::CallState;

/// What every component can import, as said to the author of one that imports something else.
pub(crate) const OFFERED: &str = "WASI 0.2 and 0.3 with their HTTP clients, spin:variables@3.0.0, spin:postgres@4.2.0 and 3.0.0, \
     spin:key-value@3.0.0, and variables, postgres and key-value of fermyon:spin@2.0.0";

/// Links everything a component can import; one linker serves all components.
pub(crate) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi::p3::add_to_linker(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    wasmtime_wasi_http::p3::add_to_linker(linker)?;
    variables::add_to_linker(linker)?;
    postgres::add_to_linker(linker)?;
    key_value::add_to_linker(linker)?;
    Ok(())
}
