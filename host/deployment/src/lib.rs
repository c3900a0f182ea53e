//! What runs: the versions of each component, switched under load, the same on every host of a deployment.
//!
//! [`slot`] is the one indirection through which batches and requests find their code. The running set is in Postgres, with
//! the code itself, so that it survives a restart and needs no shared disk: [`offer`] brings a version in, [`follow`] makes
//! this host run what the database says and tells it what calls came to, [`judge`] decides on versions that are on trial.
//! `upkeep` removes what is not kept any more, and [`watch`] offers what a build has changed.

pub mod fetch;
pub mod follow;
pub mod judge;
pub mod offer;
pub mod signed;
pub mod slot;
pub mod tally;
mod upkeep;
pub mod watch;

pub use slot::Slot;

use fnhost_db::OwnerPool;
use fnhost_db::audit::ByItself;
use fnhost_db::deployment::{self as sql, StoredRunning, StoredVersion};
use fnhost_db::hosts::{self, Enlisted, HostEntry};
use fnhost_db::session::RolePool;
use fnhost_engine::{ComponentSpec, Engine, LoadError, LoadedComponent, digest_of, short_digest};
use fnhost_manifest::Secret;
use futures::future::BoxFuture;
use signed::Signers;
use slot::{Candidate, Lane, Running, Version};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch as channel;

/// Bytes of a component's file at most.
pub const COMPONENT_BYTES_MAX: usize = 64 << 20;
/// How long a version that replaces another is on trial.
pub const PROBATION: Duration = Duration::from_secs(60);
/// How long a canary is tried where nobody says.
pub const CANARY_DURATION: Duration = Duration::from_secs(60);
/// The longest trial that can be asked for.
pub const TRIAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Time after which a host that does not renew its lease counts as gone.
pub const LEASE: Duration = Duration::from_secs(9);
/// Time after which a host that is gone is forgotten.
pub const FORGET_HOST: Duration = Duration::from_secs(24 * 60 * 60);

/// Why there is no running set.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database did not answer.
    #[error(transparent)]
    Database(#[from] fnhost_db::Error),
    /// A component cannot be run.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The manifest's file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Path of the component's file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The code of a running version is gone from the database.
    #[error(
        "the database has no code {digest} of component {component}; deploy it again: fnhost swap {component} FILE"
    )]
    NoCode {
        /// Component id.
        component: String,
        /// SHA-256, hex.
        digest: String,
    },
    /// Nobody who may has signed the code.
    #[error("component {component} ({digest}) may not run: {reason}")]
    Unsigned {
        /// Component id.
        component: String,
        /// SHA-256, hex.
        digest: String,
        /// What is wrong with its signature.
        reason: String,
    },
    /// A thread ended in the middle of its work, or cannot be started.
    #[error("cannot compile: {0}")]
    Compiler(String),
}

/// What a deployment is started with.
pub struct Setup {
    /// This host in the registry.
    pub entry: HostEntry,
    /// Connections as the owner role.
    pub owner: OwnerPool,
    /// Loads and runs components.
    pub engine: Engine,
    /// Components of the manifest, with their settings.
    pub specs: Vec<ComponentSpec>,
    /// Connections as each function's role, by component.
    pub roles: BTreeMap<String, RolePool>,
    /// How long a version that replaces another is on trial; [`PROBATION`] but in tests.
    pub probation: Duration,
    /// Who must have signed what runs.
    pub signers: Signers,
}

/// This host's part of a deployment. Cheap to clone.
#[derive(Clone)]
pub struct Deployment {
    shared: Arc<Shared>,
}

struct Shared {
    entry: HostEntry,
    owner: OwnerPool,
    loader: Loader,
    probation: Duration,
    slots: BTreeMap<String, Arc<Slot>>,
    /// The running set's revision that this host runs.
    applied: channel::Sender<i64>,
}

impl Deployment {
    /// Brings the manifest's files in, loads what the deployment runs, and registers this host.
    ///
    /// # Errors
    /// A component cannot be run, or the database did not answer; nothing was changed then.
    pub fn start(setup: Setup) -> BoxFuture<'static, Result<Self, Error>> {
        // Boxed, so that it is compiled here and not in the crate that awaits it.
        Box::pin(async move {
            let Setup { entry, owner, engine, specs, roles, probation, signers } = setup;
            let loader = Loader::new(engine, specs, roles, signers)?;
            let files = loader.read_files().await?;
            // What cannot run must not get into the running set. Nothing runs yet, so compiling may take the whole machine.
            let loading = files.iter().map(|(id, file)| async {
                loader
                    .load(id, file.code(), BTreeMap::new(), &file.origin, false)
                    .await
                    .map(|c| (id.clone(), c))
            });
            let mut loaded: BTreeMap<_, _> =
                futures::future::try_join_all(loading).await?.into_iter().collect();
            let offered: Vec<sql::NewVersion<'_>> = files.iter().map(|(id, file)| file.version(id)).collect();
            let enlisted =
                hosts::enlist(&owner, &entry.deployment, &entry.instance, &offered, probation, &entry.name)
                    .await?;
            let (revision, rows) = sql::running(&owner, &entry.deployment).await?;
            let mut slots = BTreeMap::new();
            for ((id, file), enlisted) in files.iter().zip(&enlisted) {
                let Some(row) = rows.iter().find(|row| row.component == *id) else { continue };
                say(id, &file.digest, enlisted, row);
                let own = loaded
                    .remove(id)
                    .filter(|_| row.current.digest == file.digest && row.current.variables.is_empty());
                let running = loader.running(&owner, row, own, None).await?;
                slots.insert(id.clone(), Slot::new(running, row.withdrawals));
            }
            let applied = channel::Sender::new(revision);
            let shared = Shared { entry, owner, loader, probation, slots, applied };
            let deployment = Self { shared: Arc::new(shared) };
            deployment.renew_lease().await?;
            Ok(deployment)
        })
    }

    /// The places of the components by id.
    pub fn slots(&self) -> &BTreeMap<String, Arc<Slot>> {
        &self.shared.slots
    }

    /// Under which name it keeps everything: the application's.
    pub fn id(&self) -> &str {
        &self.shared.entry.deployment
    }

    /// Components whose code is in memory, see [`Engine::resident`].
    pub fn resident(&self) -> usize {
        self.shared.loader.engine.resident()
    }

    /// Takes this host off the registry, after everything has stopped.
    pub async fn leave(&self) {
        if let Err(error) = hosts::leave(&self.shared.owner, &self.shared.entry, FORGET_HOST).await {
            tracing::warn!(
                error = fnhost_types::causes::chain(&error),
                "this host stays in the registry until its lease ends"
            );
        }
    }

    /// This host as the one that changes something by itself.
    fn by_itself(&self, occasion: &'static str) -> ByItself<'_> {
        ByItself { machine: &self.shared.entry.name, occasion }
    }

    async fn renew_lease(&self) -> Result<(), fnhost_db::Error> {
        let shared = &self.shared;
        let digest = |slot: &Arc<Slot>| slot.running().current.version.component.digest().to_owned();
        let digests = shared.slots.iter().map(|(id, slot)| (id.clone(), digest(slot))).collect();
        let revision = *shared.applied.borrow();
        hosts::renew(&shared.owner, &shared.entry, LEASE, revision, &digests).await
    }
}

/// Says what became of a component's file, where that is not what one expects.
fn say(component: &str, file: &str, enlisted: &Enlisted, row: &StoredRunning) {
    let (version, file) = (short_digest(&row.current.digest), short_digest(file));
    match enlisted {
        Enlisted::Outvoted(_) => tracing::warn!(
            component,
            version,
            file,
            "the manifest's file is older than what the other hosts run, so it does not run; to run it: fnhost swap {component} FILE"
        ),
        Enlisted::Known if version != file => tracing::warn!(
            component,
            version,
            file,
            "a version other than the manifest's file runs because of a later swap or rollback; to run the file: fnhost swap {component} FILE"
        ),
        Enlisted::Known => tracing::debug!(component, version, "as before"),
        Enlisted::Deployed => tracing::info!(component, version, "deployed from the manifest"),
    }
}

/// A component's file in the manifest.
struct File {
    wasm: Arc<Vec<u8>>,
    signature: Option<String>,
    digest: String,
    origin: String,
}

/// Bytes to be loaded, and the signature that came with them.
#[derive(Clone)]
struct Code {
    wasm: Arc<Vec<u8>>,
    signature: Option<String>,
}

impl File {
    fn code(&self) -> Code {
        Code { wasm: self.wasm.clone(), signature: self.signature.clone() }
    }

    fn version<'a>(&'a self, component: &'a str) -> sql::NewVersion<'a> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        sql::NewVersion {
            component,
            digest: &self.digest,
            wasm: &self.wasm,
            signature: self.signature.as_deref(),
            variables: &NONE,
            origin: &self.origin,
            is_file: true,
        }
    }
}

/// Loads versions off the threads that run batches.
struct Loader {
    engine: Engine,
    specs: BTreeMap<String, ComponentSpec>,
    roles: BTreeMap<String, RolePool>,
    compiler: Arc<rayon::ThreadPool>,
    signers: Signers,
}

impl Loader {
    fn new(
        engine: Engine,
        specs: Vec<ComponentSpec>,
        roles: BTreeMap<String, RolePool>,
        signers: Signers,
    ) -> Result<Self, Error> {
        let compiler = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .thread_name(|_| "fnhost-compiler".to_owned())
            .start_handler(|_| {
                // Of this thread alone. If it is refused, compiling only competes with calls.
                let _ = rustix::process::setpriority_process(None, fnhost_engine::NICENESS);
            })
            .build()
            .map_err(|error| Error::Compiler(error.to_string()))?;
        let specs = specs.into_iter().map(|spec| (spec.id.clone(), spec)).collect();
        Ok(Self { engine, specs, roles, compiler: Arc::new(compiler), signers })
    }

    /// Whether the manifest's file of a component has this digest now.
    async fn is_file(&self, component: &str, digest: &str) -> bool {
        let Some(spec) = self.specs.get(component) else { return false };
        tokio::fs::read(&spec.source).await.is_ok_and(|wasm| digest_of(&wasm) == digest)
    }

    async fn read_files(&self) -> Result<BTreeMap<String, File>, Error> {
        let mut files = BTreeMap::new();
        for (id, spec) in &self.specs {
            let wasm = tokio::fs::read(&spec.source).await;
            let wasm = wasm.map_err(|source| Error::Read { path: spec.source.clone(), source })?;
            let signature = signed::beside(&spec.source).await;
            let signature = signature.map_err(|source| Error::Read { path: spec.source.clone(), source })?;
            let (digest, origin) = (digest_of(&wasm), spec.source.display().to_string());
            files.insert(id.clone(), File { wasm: Arc::new(wasm), signature, digest, origin });
        }
        Ok(files)
    }

    /// Loads a component's code; `variables` take the place of the manifest's values. `aside`: other work goes first.
    async fn load(
        &self,
        component: &str,
        Code { wasm, signature }: Code,
        variables: BTreeMap<String, String>,
        origin: &str,
        aside: bool,
    ) -> Result<LoadedComponent, Error> {
        // Here, where all code passes: what a host of the deployment has let in, each checks again.
        self.signers.check(&wasm, signature.as_deref()).map_err(|reason| Error::Unsigned {
            component: component.to_owned(),
            digest: digest_of(&wasm),
            reason,
        })?;
        let Some(spec) = self.specs.get(component) else {
            return Err(Error::Compiler(format!("there is no component {component}")));
        };
        let mut spec = spec.clone();
        spec.source = PathBuf::from(origin);
        spec.variables.extend(variables.into_iter().map(|(name, value)| (name, Secret::new(value))));
        let (engine, compiler) = (self.engine.clone(), self.compiler.clone());
        let load = move || engine.load_bytes(&spec, &wasm);
        let work = move || if aside { compiler.install(load) } else { load() };
        let loaded = tokio::task::spawn_blocking(work).await;
        let loaded = loaded.map_err(|error| Error::Compiler(error.to_string()))??;
        Ok(match self.roles.get(component) {
            Some(role) => loaded.with_database(role.clone()),
            None => loaded,
        })
    }

    /// What a row of the running set says, loaded: from what runs already, else from the database.
    async fn running(
        &self,
        owner: &OwnerPool,
        row: &StoredRunning,
        current: Option<LoadedComponent>,
        former: Option<&Running>,
    ) -> Result<Running, Error> {
        let current = match current {
            Some(component) => Arc::new(Version { number: row.current.number, component }),
            None => self.version(owner, &row.component, &row.current, former).await?,
        };
        let candidate = match &row.candidate {
            Some((stored, percent)) => {
                let version = self.version(owner, &row.component, stored, former).await?;
                Some(Candidate { lane: Lane::new(version, row.revision), percent: *percent })
            }
            None => None,
        };
        Ok(Running {
            revision: row.revision,
            current: Lane::new(current, row.revision),
            candidate,
            on_trial: row.trial.is_some(),
        })
    }

    async fn version(
        &self,
        owner: &OwnerPool,
        component: &str,
        stored: &StoredVersion,
        former: Option<&Running>,
    ) -> Result<Arc<Version>, Error> {
        let lanes = former.into_iter().flat_map(Running::lanes);
        if let Some(lane) = lanes.into_iter().find(|lane| lane.version.number == stored.number) {
            return Ok(lane.version.clone());
        }
        let Some((wasm, signature)) = sql::code(owner, &stored.digest).await? else {
            return Err(Error::NoCode { component: component.to_owned(), digest: stored.digest.clone() });
        };
        let code = Code { wasm: Arc::new(wasm), signature };
        let loaded = self.load(component, code, stored.variables.clone(), &stored.origin, true).await?;
        let loaded = match former {
            Some(former) => loaded.in_place_of(&former.current.version.component),
            None => loaded,
        };
        Ok(Arc::new(Version { number: stored.number, component: loaded }))
    }
}
