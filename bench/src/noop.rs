//! What a dispatch costs by itself: a component that does nothing, with limits and epoch interruption on, without SQL and
//! with the store and its COMMIT.

use crate::host_native::ROLE_CONNECTIONS_MAX;
use crate::report::{Distribution, percentile};
use crate::system::Stage;
use anyhow::Context as _;
use fnhost_capabilities::postgres::{Access, CallPostgres};
use fnhost_db::OwnerPool;
use fnhost_db::ownership::{self, Ownership};
use fnhost_db::schema::{self, role_password};
use fnhost_db::session::{RolePool, SessionLimits, SharedTransaction, Transaction};
use fnhost_db::store::{self, Changes};
use fnhost_engine::{ComponentSpec, Engine, EngineOptions, LoadedComponent};
use fnhost_manifest::{Limits, Secret};
use fnhost_types::record::TopicPartition;
use fnhost_types::wit::{Batch, Header, Message};
use sqlx::postgres::PgConnectOptions;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr as _;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Sizes of a batch that are measured.
pub const BATCHES: [usize; 3] = [1, 100, 500];
/// Calls for each size.
const CALLS: usize = 2_000;
/// Calls with a COMMIT for each size: they wait for the disk.
const COMMITS: usize = 500;
/// Calls before the measurement.
const WARM_UP: usize = 100;
/// Bytes of each message's value: those of an event.
const VALUE_BYTES: usize = 300;
/// The component's limits: those of the functions.
pub const LIMITS: Limits =
    Limits { memory_bytes: 64 << 20, deadline: Duration::from_secs(30), max_concurrency: None };

/// Builds the host's test guest, which answers a message that names no behaviour with `done`, and loads it.
///
/// # Errors
/// It cannot be built or loaded.
pub fn load(workspace: &Path) -> anyhow::Result<LoadedComponent> {
    load_with(workspace, BTreeMap::default())
}

/// As [`load`], with these variables.
///
/// # Errors
/// As there.
pub fn load_with(workspace: &Path, variables: BTreeMap<String, Secret>) -> anyhow::Result<LoadedComponent> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(workspace.join("target"), PathBuf::from);
    let built = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .current_dir(workspace)
        .args([
            "build",
            "--quiet",
            "--profile",
            "function",
            "--target",
            "wasm32-wasip2",
            "-p",
            "fnhost-test-guest",
        ])
        .arg("--target-dir")
        .arg(&target)
        .status()?;
    anyhow::ensure!(built.success(), "the no-op component cannot be built");
    Ok(Engine::new(EngineOptions::default())?.load(&ComponentSpec {
        id: "noop".to_owned(),
        source: target.join("wasm32-wasip2/function/fnhost_test_guest.wasm"),
        limits: LIMITS,
        environment: BTreeMap::default(),
        variables,
        allowed_hosts: Default::default(),
        files: Default::default(),
        key_value_stores: Default::default(),
        outbound: Default::default(),
        http_sql: Default::default(),
        rotated: Default::default(),
        http: false,
        kafka: true,
    })?)
}

/// Instantiate, call, lift; in microseconds.
///
/// # Errors
/// The component failed.
pub async fn calls(component: &LoadedComponent, messages: usize) -> anyhow::Result<Distribution> {
    let mut took_us = Vec::with_capacity(CALLS);
    for n in 0..WARM_UP + CALLS {
        let batch = batch(messages);
        let began = Instant::now();
        let (outcome, _) = component.call_kafka(component.call_state(), batch).await;
        let took = began.elapsed();
        outcome?.map_err(|error| anyhow::anyhow!(error.reason))?;
        if n >= WARM_UP {
            took_us.push(took.as_secs_f64() * 1e6);
        }
    }
    Ok(distribution(took_us))
}

/// The same with the transaction that a dispatch wraps around it: BEGIN, the store of position and watermark, COMMIT.
pub struct Dispatches {
    component: LoadedComponent,
    role: RolePool,
    ownership: Ownership,
}

impl Dispatches {
    /// Takes over a partition of a trigger made for this.
    ///
    /// # Errors
    /// The database refused it.
    pub async fn new(component: LoadedComponent, stage: &Stage) -> anyhow::Result<Self> {
        let options = PgConnectOptions::from_str(&stage.servers.database)?;
        let owner = OwnerPool::connect(options.clone()).await?;
        let login = "fn_order";
        let trigger = schema::register_trigger(&owner, "bench", "noop", "kafka", "noop", login).await?;
        let tp = TopicPartition::new("noop", 0);
        schema::store_start(&owner, trigger, &tp, 0).await?;
        let taken = ownership::raise_epoch(&owner, trigger, &tp, Uuid::new_v4(), None).await?;
        let ownership = ownership::load(&owner, trigger, &tp, &taken).await?.ownership;
        let options = options.username(login).password(&role_password(&stage.servers.role_secret, login));
        let limits = SessionLimits { max_connections: ROLE_CONNECTIONS_MAX, deadline: LIMITS.deadline };
        Ok(Self { component, role: RolePool::new("noop", options, limits), ownership })
    }

    /// In microseconds.
    ///
    /// # Errors
    /// The component or the database failed.
    pub async fn run(&mut self, messages: usize) -> anyhow::Result<Distribution> {
        let mut took_us = Vec::with_capacity(COMMITS);
        for n in 0..WARM_UP + COMMITS {
            let batch = batch(messages);
            let began = Instant::now();
            self.dispatch(batch).await?;
            let took = began.elapsed();
            if n >= WARM_UP {
                took_us.push(took.as_secs_f64() * 1e6);
            }
        }
        Ok(distribution(took_us))
    }

    async fn dispatch(&mut self, batch: Batch) -> anyhow::Result<()> {
        let position = self.ownership.position + batch.messages.len() as i64;
        let transaction = SharedTransaction::new(Transaction::new(self.role.clone()));
        let access = Access::Transaction { transaction: transaction.clone(), own: self.role.clone() };
        let postgres = CallPostgres::new(access);
        let state = self.component.call_state_with(postgres.clone());
        let (outcome, report) = self.component.call_kafka(state, batch).await;
        outcome?.map_err(|error| anyhow::anyhow!(error.reason))?;
        postgres.close();
        drop(report);
        let mut transaction = transaction.take().context("the transaction is still lent")?;
        let changes = Changes {
            position,
            watermarks: HashMap::from([("bench/source/noop/0".to_owned(), position)]),
            ..Changes::default()
        };
        self.ownership = store::store(transaction.connection().await?, &self.ownership, &changes).await?;
        Ok(transaction.commit().await?)
    }
}

fn batch(messages: usize) -> Batch {
    let message = |index: usize| Message {
        offset: index as i64,
        timestamp_ms: 0,
        key: Some(vec![b'k'; 36]),
        value: Some(vec![b'x'; VALUE_BYTES]),
        headers: vec![Header { name: "ce_type".to_owned(), value: b"order.created".to_vec() }],
        attempt: 1,
        last_attempt: false,
    };
    Batch { topic: "noop".to_owned(), partition: 0, messages: (0..messages).map(message).collect() }
}

fn distribution(mut values: Vec<f64>) -> Distribution {
    values.sort_by(f64::total_cmp);
    Distribution { p50: percentile(&values, 0.5), p99: percentile(&values, 0.99) }
}
