//! What the host's tests share: the misbehaving guest, built once, and an engine that loads it.

pub mod app;
pub mod gate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use fnhost_engine::{ComponentSpec, Engine, EngineOptions, LoadedComponent};
use fnhost_manifest::hosts::AllowedHosts;
use fnhost_manifest::{Limits, Secret};

/// Pause between two looks at a condition: each look costs a processor that what is awaited needs too.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// The memory limit of the guest's calls where a test names none, in bytes.
pub const MEMORY_BYTES: usize = 16 << 20;

/// The checkout that these tests were built from.
pub fn checkout() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package
        .ancestors()
        .find(|folder| folder.join("spin.toml").is_file())
        .expect("a checkout around the package")
}

/// Where cargo builds what the tests need besides themselves.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or(checkout().join("target"), PathBuf::from)
}

/// The guest's component; built by cargo, which does nothing where it is up to date.
pub fn guest() -> &'static Path {
    static GUEST: LazyLock<PathBuf> = LazyLock::new(|| {
        let target = target_dir();
        let status = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
            .current_dir(checkout())
            .args(["build", "--quiet", "--profile", "function", "--target", "wasm32-wasip2"])
            .args(["-p", "fnhost-test-guest", "--target-dir"])
            .arg(&target)
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the guest builds");
        target.join("wasm32-wasip2/function/fnhost_test_guest.wasm")
    });
    &GUEST
}

/// One engine for all tests: its pool reserves much address space.
pub fn engine() -> &'static Engine {
    static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
        let options = EngineOptions { cache_dir: Some(cache_dir()), ..EngineOptions::default() };
        Engine::new(options).expect("an engine")
    });
    &ENGINE
}

/// A cache that stays from run to run, as a user's does.
fn cache_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("images")
}

/// A spec of the guest that a test changes to its needs.
pub fn spec() -> ComponentSpec {
    ComponentSpec {
        id: "guest".to_owned(),
        source: guest().to_owned(),
        limits: Limits {
            memory_bytes: MEMORY_BYTES,
            deadline: Duration::from_secs(20),
            max_concurrency: None,
        },
        environment: BTreeMap::from([("COLOUR".to_owned(), "green".to_owned())]),
        variables: BTreeMap::from([("greeting".to_owned(), Secret::new("hello"))]),
        rotated: Default::default(),
        allowed_hosts: AllowedHosts::default(),
        files: Default::default(),
        key_value_stores: Default::default(),
        outbound: Default::default(),
        http_sql: Default::default(),
        http: true,
        kafka: true,
    }
}

/// The guest as a test wants it.
pub fn load(change: impl FnOnce(&mut ComponentSpec)) -> LoadedComponent {
    let mut spec = spec();
    change(&mut spec);
    engine().load(&spec).expect("the guest loads")
}

/// Looks at a condition until it holds.
pub async fn holds(mut look: impl AsyncFnMut() -> bool) {
    while !look().await {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// A directory of its own for a test, removed with its contents.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes an empty directory; `name` says whose it is.
    pub fn new(name: &str) -> Arc<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Arc::new(Self(path))
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
