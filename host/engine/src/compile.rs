//! Compiling, which takes both cores for a second and a hundred megabytes and more. A long-lived host leaves that to a
//! process of its own: its memory goes back with it, and it makes way for calls. Where that process fails the host compiles
//! by itself, so this is no protection from files that are made to be hard on the compiler.
//!
//! The host runs `fnhost compile --cache-dir DIR`, gives it the file on standard input, and afterwards finds the image in
//! the cache. Standard output has the reason where the file does not compile, and nothing otherwise; an exit code other
//! than 0 says that it could not be tried.

use std::borrow::Cow;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use wasmtime::component::Component;

use super::cache::Cache;
use super::componentize::componentize;
use super::load::digest_of;
use super::{LoadError, config};

/// The program that runs, under whatever name, also when its file was replaced meanwhile.
pub const OWN_PROGRAM: &str = "/proc/self/exe";
/// Nice value of a process or thread that compiles: calls go first, and under full load it still gets a quarter of a core's
/// time.
pub const NICENESS: i32 = 5;
/// Time after which a compiling process gives up; the order system's components take a second each.
const GIVE_UP: Duration = Duration::from_secs(300);
/// The calls that the compiling process has room for: it makes none. Images do not depend on it.
const NO_CALLS: u32 = 1;
/// What a core module begins with: the magic, version 1, layer 0.
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// Compiles in this process.
pub(super) fn here(engine: &wasmtime::Engine, wasm: &[u8]) -> Result<Component, String> {
    let wasm = match wasm.starts_with(CORE_MODULE) {
        true => Cow::Owned(componentize(wasm)?),
        false => Cow::Borrowed(wasm),
    };
    Component::from_binary(engine, &wasm).map_err(|error| format!("{error:#}"))
}

/// Has `program` compile a file to an image in the cache.
///
/// # Errors
/// [`Elsewhere::Refused`] where the file does not compile, [`Elsewhere::Failed`] where that could not be found out.
pub(super) fn elsewhere(program: &Path, cache: &Path, wasm: &[u8]) -> Result<(), Elsewhere> {
    let mut child = Command::new(program)
        // Under this name it is not taken for Spin's plugin.
        .arg0("fnhost")
        .args(["compile", "--cache-dir"])
        .arg(cache)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Ctrl-C in a terminal is for the host, which then decides.
        .process_group(0)
        .spawn()
        .map_err(|error| Elsewhere::Failed(error.to_string()))?;
    // Where the process ended too early, its exit code says more than the broken pipe.
    let given = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(wasm));
    let output = child.wait_with_output().map_err(|error| Elsewhere::Failed(error.to_string()))?;
    if !output.status.success() {
        return Err(Elsewhere::Failed(format!("the compiling process ended with {}", output.status)));
    }
    given.map_err(|error| Elsewhere::Failed(error.to_string()))?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "" => Ok(()),
        reason => Err(Elsewhere::Refused(reason.to_owned())),
    }
}

/// Why a compiling process left no image.
pub(super) enum Elsewhere {
    /// The file does not compile.
    Refused(String),
    /// The process could not do its work.
    Failed(String),
}

/// What the compiling process does: reads a file from standard input and leaves its image in the cache. Returns the reason
/// where the file does not compile.
///
/// # Errors
/// Standard input cannot be read, or the image cannot be kept.
pub fn compile_to_cache(cache: PathBuf) -> Result<Option<String>, LoadError> {
    std::thread::spawn(|| {
        std::thread::sleep(GIVE_UP);
        tracing::error!("compiling took longer than {} s; giving up", GIVE_UP.as_secs());
        std::process::exit(1);
    });
    // Set and not added, since the host's thread that started this process has it too. If it is refused, compiling only
    // competes with calls.
    let _ = rustix::process::setpriority_process(None, NICENESS);
    let engine = wasmtime::Engine::new(&config(NO_CALLS)).map_err(LoadError::Engine)?;
    let fault = |error: io::Error| LoadError::Cache { directory: cache.clone(), reason: error.to_string() };
    let mut wasm = Vec::new();
    io::stdin().lock().read_to_end(&mut wasm).map_err(fault)?;
    let images = Cache::open(cache.clone(), &engine)?;
    match here(&engine, &wasm) {
        Ok(component) => images.store(&digest_of(&wasm), &component).map(|()| None).map_err(fault),
        Err(reason) => Ok(Some(reason)),
    }
}
