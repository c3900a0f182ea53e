//! Core modules that say which component they are: what `--target wasm32-wasip1` makes, and with it most of what was
//! built for Spin 2 and 3. Wrapped in a component they run like one, as under Spin.

use wasi_preview1_component_adapter_provider as adapter;
use wit_component::ComponentEncoder;

/// What a module for the command world exports; without it it is a library, called through its exports.
const COMMAND_EXPORT: &[u8] = b"\x06_start\x00";

/// The component of a module. One that carries no description of its interfaces makes a component without exports.
///
/// # Errors
/// The module is invalid, or imports what neither its description nor WASI 0.1 has.
pub(super) fn componentize(module: &[u8]) -> Result<Vec<u8>, String> {
    let command = module.windows(COMMAND_EXPORT.len()).any(|window| window == COMMAND_EXPORT);
    let wasi = if command {
        adapter::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER
    } else {
        adapter::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER
    };
    ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|encoder| encoder.adapter(adapter::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, wasi))
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| format!("{error:#}"))
}
