//! Loading a component: compile it, see what it exports, and refuse what could not serve its triggers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use wasmtime::component::{Component, InstancePre};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use super::call::CallState;
use super::compile::{self, Elsewhere};
use super::error::LoadError;
use super::{Engine, cache};
use fnhost_capabilities::Capabilities;
use fnhost_capabilities::variables::TOKEN_MAC_HEADER;
use fnhost_db::session::RolePool;
use fnhost_manifest::{ComponentSpec, Limits};
use fnhost_metrics::ComponentMetrics;
use fnhost_types::wit::KafkaFunctionPre;

const HTTP_HANDLER: &str = "wasi:http/handler@0.3.0";
/// What components of Spin 2 and 3 export in its place; the last number does not matter.
const HTTP_HANDLER_P2: &str = "wasi:http/incoming-handler@0.2.";
const KAFKA_HANDLER: &str = "fnhost:kafka/handler@0.1.0";
/// Characters of a digest that name a version in events and log lines: enough to tell any two, and few bytes a message.
pub const SHORT_DIGEST_CHARS: usize = 12;
/// What every WebAssembly file begins with.
const WASM_MAGIC: &[u8] = b"\0asm";

/// A component that is ready to be called. Cheap to clone.
#[derive(Clone)]
pub struct LoadedComponent {
    pub(super) engine: Engine,
    pub(super) shared: Arc<Shared>,
    pub(super) http: Option<HttpHandler>,
    pub(super) kafka: Option<KafkaFunctionPre<CallState>>,
    /// HTTP calls at a time, where the manifest bounds them.
    pub(super) http_places: Option<Arc<Semaphore>>,
    /// What it was granted of each capability.
    pub(super) capabilities: Capabilities,
    /// Counts its code among what is in memory until the last clone is gone.
    _resident: Arc<Resident>,
}

/// Code in memory, counted by its engine.
struct Resident(Arc<AtomicUsize>);

impl Resident {
    fn new(counter: &Arc<AtomicUsize>) -> Arc<Self> {
        counter.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self(counter.clone()))
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The HTTP handler that a component exports.
#[derive(Clone)]
pub(super) enum HttpHandler {
    /// `wasi:http/handler@0.3.0`, preferred where there are both.
    P3(ServicePre<CallState>),
    /// `wasi:http/incoming-handler@0.2`.
    P2(ProxyPre<CallState>),
}

/// What all calls of a component share.
pub(super) struct Shared {
    pub id: Arc<str>,
    pub digest: String,
    /// The digest, short.
    pub version: Arc<str>,
    pub limits: Limits,
    pub environment: Vec<(String, String)>,
    pub metrics: ComponentMetrics,
    pub uses_postgres: bool,
    /// Copies of its files.
    pub files: Option<PathBuf>,
}

impl LoadedComponent {
    /// The component with its own database, which it reaches as its role.
    pub fn with_database(mut self, own: RolePool) -> Self {
        let own = own.of_version(self.version());
        self.capabilities.postgres = Arc::new(self.capabilities.postgres.with_own(own));
        self
    }

    /// The component where another version of it ran: what bounds its HTTP calls at a time, and what is known of the hosts it
    /// sends to, counts for both.
    pub fn in_place_of(mut self, other: &Self) -> Self {
        self.http_places = other.http_places.clone();
        self.capabilities.outbound_http = other.capabilities.outbound_http.clone();
        self
    }

    /// The header that tells this component of a request that its access token was checked; `signed` is the token's
    /// `header.claims`.
    pub fn vouch(&self, signed: &[u8]) -> (&'static str, String) {
        (TOKEN_MAC_HEADER, self.capabilities.variables.vouch(signed))
    }

    /// The component's id.
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// SHA-256 of its file, in hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.shared.digest
    }

    /// The first [`SHORT_DIGEST_CHARS`] digits: what events and log lines carry.
    pub fn version(&self) -> &str {
        short_digest(&self.shared.digest)
    }

    /// What one call may use.
    pub fn limits(&self) -> Limits {
        self.shared.limits
    }

    /// Whether it can answer HTTP requests.
    pub fn handles_http(&self) -> bool {
        self.http.is_some()
    }

    /// Whether it can handle Kafka records.
    pub fn handles_kafka(&self) -> bool {
        self.kafka.is_some()
    }

    /// Whether it imports Postgres, in any version.
    pub fn uses_postgres(&self) -> bool {
        self.shared.uses_postgres
    }
}

/// SHA-256 of a component's file, in hexadecimal digits.
pub fn digest_of(wasm: &[u8]) -> String {
    cache::hex(&Sha256::digest(wasm))
}

/// The first [`SHORT_DIGEST_CHARS`] characters of a digest.
pub fn short_digest(digest: &str) -> &str {
    digest.get(..SHORT_DIGEST_CHARS).unwrap_or(digest)
}

impl Engine {
    /// Loads a component from its file; blocks for a second or so where it must be compiled first.
    ///
    /// # Errors
    /// The file cannot be read, or [`Engine::load_bytes`] refuses it.
    pub fn load(&self, spec: &ComponentSpec) -> Result<LoadedComponent, LoadError> {
        let bytes = std::fs::read(&spec.source).map_err(|source| LoadError::Read {
            component: spec.id.clone(),
            path: spec.source.clone(),
            source,
        })?;
        self.load_bytes(spec, &bytes)
    }

    /// Loads a component from the bytes of its file; the spec's source only names it in messages.
    ///
    /// # Errors
    /// It is no component, does not compile, cannot serve its triggers, or imports what the host does not offer.
    pub fn load_bytes(&self, spec: &ComponentSpec, bytes: &[u8]) -> Result<LoadedComponent, LoadError> {
        let id = spec.id.clone();
        if !bytes.starts_with(WASM_MAGIC) {
            return Err(LoadError::NoWebAssembly { component: id, path: spec.source.clone() });
        }
        let digest = digest_of(bytes);
        let component = self.compile(&id, &digest, bytes)?;
        let (http, kafka) = self.handlers(spec, &component)?;
        let ty = component.component_type();
        let uses_postgres = ty.imports(&self.shared.wasm).any(|(name, _)| name.contains("postgres"));
        let pre = self.link(&id, &component)?;
        let files = self.stage(spec)?;
        let wrong = |export: &'static str, error: wasmtime::Error| LoadError::WrongHandler {
            component: id.clone(),
            export,
            reason: format!("{error:#}"),
        };
        let http = match http {
            Some(Http::P3) => {
                let pre = ServicePre::new(pre.clone()).map_err(|error| wrong(HTTP_HANDLER, error))?;
                Some(HttpHandler::P3(pre))
            }
            Some(Http::P2) => {
                let pre = ProxyPre::new(pre.clone()).map_err(|error| wrong(HTTP_HANDLER_P2, error))?;
                Some(HttpHandler::P2(pre))
            }
            None => None,
        };
        let kafka = if kafka {
            Some(KafkaFunctionPre::new(pre).map_err(|error| wrong(KAFKA_HANDLER, error))?)
        } else {
            None
        };
        let capabilities = Capabilities::validate(spec, &self.shared.provided)
            .map_err(|source| LoadError::Refused { component: id.clone(), source })?;
        Ok(LoadedComponent {
            engine: self.clone(),
            http,
            kafka,
            _resident: Resident::new(&self.shared.resident),
            http_places: spec.limits.max_concurrency.map(|places| Arc::new(Semaphore::new(places))),
            capabilities,
            shared: Arc::new(Shared {
                id: id.into(),
                version: short_digest(&digest).into(),
                digest,
                limits: spec.limits,
                environment: spec.environment.clone().into_iter().collect(),
                metrics: ComponentMetrics::new(&spec.id, spec.http, spec.kafka),
                uses_postgres,
                files,
            }),
        })
    }

    fn compile(&self, id: &str, digest: &str, bytes: &[u8]) -> Result<Component, LoadError> {
        let cache = self.shared.cache.as_ref();
        if let Some(component) = cache.and_then(|cache| cache.load(&self.shared.wasm, digest)) {
            return Ok(component);
        }
        // Of a large component this takes seconds.
        tracing::info!(component = id, kib = bytes.len() / 1024, "compiling");
        let fault = |reason| LoadError::Compile { component: id.to_owned(), reason };
        if let (Some(cache), Some(program)) = (cache, &self.shared.compiler) {
            match compile::elsewhere(program, cache.directory(), bytes) {
                Ok(()) => {}
                Err(Elsewhere::Refused(reason)) => return Err(fault(reason)),
                Err(Elsewhere::Failed(reason)) => {
                    tracing::warn!(component = id, "compiling in this process: {reason}");
                }
            }
            if let Some(component) = cache.load(&self.shared.wasm, digest) {
                return Ok(component);
            }
        }
        let component = compile::here(&self.shared.wasm, bytes).map_err(fault)?;
        if let Some(Err(error)) = cache.map(|cache| cache.store(digest, &component)) {
            tracing::warn!(component = id, %error, "cannot store a precompiled image");
        }
        Ok(component)
    }

    /// Copies the files that the component is to see.
    fn stage(&self, spec: &ComponentSpec) -> Result<Option<PathBuf>, LoadError> {
        if spec.files.mounts.is_empty() {
            return Ok(None);
        }
        let fault = |reason| LoadError::Files { component: spec.id.clone(), reason };
        let into = self.shared.files.as_ref();
        let into = into.ok_or_else(|| fault("this engine has no folder for files".to_owned()))?;
        spec.files.stage(into).map_err(|error| fault(fnhost_types::causes::chain(&error)))
    }

    /// Which handlers a component exports; it must have those that its triggers need.
    fn handlers(
        &self,
        spec: &ComponentSpec,
        component: &Component,
    ) -> Result<(Option<Http>, bool), LoadError> {
        let ty = component.component_type();
        let exports: Vec<&str> = ty.exports(&self.shared.wasm).map(|(name, _)| name).collect();
        let http = if exports.contains(&HTTP_HANDLER) {
            Some(Http::P3)
        } else {
            exports.iter().any(|name| name.starts_with(HTTP_HANDLER_P2)).then_some(Http::P2)
        };
        let kafka = exports.contains(&KAFKA_HANDLER);
        if http.is_none() && !kafka {
            let exports = if exports.is_empty() { "none".to_owned() } else { exports.join(", ") };
            return Err(LoadError::NoHandler { component: spec.id.clone(), exports });
        }
        for (needed, offered, trigger, export) in [
            (spec.http, http.is_some(), "an HTTP", HTTP_HANDLER),
            (spec.kafka, kafka, "a Kafka", KAFKA_HANDLER),
        ] {
            if needed && !offered {
                return Err(LoadError::MissingHandler { component: spec.id.clone(), trigger, export });
            }
        }
        Ok((http, kafka))
    }

    fn link(&self, id: &str, component: &Component) -> Result<InstancePre<CallState>, LoadError> {
        self.shared.linker.instantiate_pre(component).map_err(|error| {
            let reason = error.root_cause().to_string();
            let chain = format!("{error:#}");
            // Wasmtime quotes the import that it did not find or that has another type.
            let import = chain.split('`').nth(1).unwrap_or("something").to_owned();
            LoadError::UnknownImport { component: id.to_owned(), import, reason }
        })
    }
}

/// Which HTTP handler a component exports.
#[derive(Clone, Copy)]
enum Http {
    P3,
    P2,
}
