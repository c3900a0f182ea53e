//! The built functions import only what Spin 4.1 offers, so the same files run under plain `spin up`.

use std::path::{Path, PathBuf};

use wasmtime::component::Component;
use wasmtime::component::types::{ComponentInstance, ComponentItem};
use wasmtime::{Config, Engine, OptLevel};

use crate::support::checkout;

/// The interfaces that Spin 4.1 links, read in its `crates/factor-*/src`, as far as a function may use them. A version
/// stands for its track: Wasmtime takes 0.2.6 where 0.2.0 is asked for, and the other way round.
const OFFERED: [(&str, &[&str]); 9] = [
    (
        "wasi:cli@0.2",
        &[
            "environment",
            "exit",
            "stdin",
            "stdout",
            "stderr",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
        ],
    ),
    (
        "wasi:cli@0.3",
        &[
            "environment",
            "exit",
            "types",
            "stdin",
            "stdout",
            "stderr",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
        ],
    ),
    ("wasi:clocks@0.2", &["wall-clock", "monotonic-clock"]),
    ("wasi:clocks@0.3", &["types", "system-clock", "monotonic-clock"]),
    ("wasi:filesystem@0.2", &["types", "preopens"]),
    ("wasi:io@0.2", &["error", "poll", "streams"]),
    ("wasi:random@0.2", &["random", "insecure", "insecure-seed"]),
    ("wasi:random@0.3", &["random", "insecure", "insecure-seed"]),
    ("wasi:http@0.3", &["types", "client"]),
];
/// The same for Spin's own, whose versions are exact.
const OFFERED_EXACTLY: [&str; 3] =
    ["spin:key-value/key-value@3.0.0", "spin:postgres/postgres@4.2.0", "spin:variables/variables@3.0.0"];

/// The components that `./dev build` has put into the checkout: one for each function's folder.
fn functions() -> Vec<PathBuf> {
    let workspace = checkout();
    let folders = std::fs::read_dir(workspace.join("functions")).expect("the functions' folders");
    let names = folders.map(|folder| folder.expect("a folder").file_name().into_string().expect("a name"));
    let is_component = |name: &String| {
        let manifest = std::fs::read_to_string(workspace.join("functions").join(name).join("Cargo.toml"));
        manifest.is_ok_and(|text| text.contains("\"cdylib\""))
    };
    let mut components: Vec<PathBuf> = names
        .filter(is_component)
        .map(|name| workspace.join(format!("target/functions/{name}.wasm")))
        .collect();
    components.sort();
    components
}

fn component(engine: &Engine, path: &Path) -> Component {
    let bytes = std::fs::read(path)
        .unwrap_or_else(|error| panic!("{}: {error}; build it with `./dev build`", path.display()));
    Component::new(engine, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn engine() -> Engine {
    let mut config = Config::new();
    // Nothing is run here.
    config.wasm_component_model_async(true).cranelift_opt_level(OptLevel::None);
    Engine::new(&config).expect("an engine")
}

/// `wasi:cli/stdin@0.2.6` as package with track, and interface: `wasi:cli@0.2`, `stdin`.
fn split(import: &str) -> Option<(String, &str)> {
    let (package, rest) = import.split_once('/')?;
    let (interface, version) = rest.split_once('@')?;
    // A release candidate is a track of its own.
    let track = if version.contains('-') { version } else { version.rsplit_once('.')?.0 };
    Some((format!("{package}@{track}"), interface))
}

fn is_offered(import: &str) -> bool {
    let in_track = split(import).is_some_and(|(package, interface)| {
        OFFERED.iter().any(|(offered, interfaces)| *offered == package && interfaces.contains(&interface))
    });
    in_track || OFFERED_EXACTLY.contains(&import)
}

/// An instance with nothing to link in it. Wasmtime asks nothing of the host for such an import, and Spin, which hands a
/// component to Wasmtime's linker as it is, asks nothing more: the types of the Kafka handler appear as one.
fn is_types_only(engine: &Engine, instance: &ComponentInstance) -> bool {
    instance.exports(engine).all(|(_, item)| matches!(item.ty, ComponentItem::Type(_)))
}

#[test]
fn every_function_imports_only_what_spin_offers() {
    let engine = engine();
    let functions = functions();
    assert!(functions.len() >= 5, "{functions:?}");
    for path in functions {
        let component = component(&engine, &path);
        let ty = component.component_type();
        for (import, item) in ty.imports(&engine) {
            let ComponentItem::ComponentInstance(instance) = &item.ty else {
                panic!("{} imports {import}, which is no interface", path.display());
            };
            assert!(
                is_offered(import) || is_types_only(&engine, instance),
                "{} imports {import}, which Spin 4.1 does not offer",
                path.display()
            );
        }
    }
}

#[test]
fn every_function_answers_http_as_spin_calls_it() {
    let engine = engine();
    for path in functions() {
        let component = component(&engine, &path);
        let exports: Vec<String> =
            component.component_type().exports(&engine).map(|(name, _)| name.to_owned()).collect();
        // Spin refuses a component with more than one of the HTTP handlers it knows.
        let http: Vec<_> = exports
            .iter()
            .filter(|name| name.starts_with("wasi:http/") || name.starts_with("fermyon:spin/inbound-http"))
            .collect();
        assert_eq!(http, ["wasi:http/handler@0.3.0"], "{}", path.display());
    }
}

#[test]
fn what_spin_does_not_offer_is_noticed() {
    for import in [
        "wasi:cli/stdin@0.4.0",
        "wasi:http/client@0.3.0-rc-2026-03-15",
        "wasi:sockets/tcp@0.2.0",
        "wasi:nn/graph@0.2.0",
        "spin:postgres/postgres@4.3.0",
        "fnhost:kafka/types@0.1.0",
        "stdin",
    ] {
        assert!(!is_offered(import), "{import}");
    }
    assert!(is_offered("wasi:cli/stdin@0.2.0") && is_offered("spin:variables/variables@3.0.0"));
}
