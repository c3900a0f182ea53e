//! A component as it is loaded: what the manifest says of it, with the variables filled in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::files::Files;
use crate::hosts::AllowedHosts;
use crate::outbound::OutboundSettings;
use crate::rotating::Rotated;
use crate::{HttpSql, Limits, Manifest, Secret, Values};

/// All that is needed to load and call a component.
#[derive(Debug, Clone)]
pub struct ComponentSpec {
    /// The component's id.
    pub id: String,
    /// Path of the WebAssembly file.
    pub source: PathBuf,
    /// What one call may use.
    pub limits: Limits,
    /// Environment variables that the guest sees through WASI.
    pub environment: BTreeMap<String, String>,
    /// What `spin:variables` answers, by name.
    pub variables: BTreeMap<String, Secret>,
    /// Which of them change while the host runs.
    pub rotated: Rotated,
    /// Where it may connect to.
    pub allowed_hosts: AllowedHosts,
    /// What it sees of the file system.
    pub files: Files,
    /// Key-value stores that it may open.
    pub key_value_stores: BTreeSet<String>,
    /// How its requests to other hosts are sent.
    pub outbound: OutboundSettings,
    /// Which statements its HTTP handler may send.
    pub http_sql: HttpSql,
    /// Whether an HTTP trigger calls it.
    pub http: bool,
    /// Whether a Kafka trigger calls it.
    pub kafka: bool,
}

impl ComponentSpec {
    /// The component of this file with the default limits, called by no trigger: it may connect to nothing, and has neither
    /// variables nor files.
    pub fn new(id: impl Into<String>, source: impl Into<PathBuf>) -> Self {
        Self {
            id: id.into(),
            source: source.into(),
            limits: Limits::default(),
            environment: BTreeMap::new(),
            variables: BTreeMap::new(),
            rotated: Rotated::default(),
            allowed_hosts: AllowedHosts::default(),
            files: Files::default(),
            key_value_stores: BTreeSet::new(),
            outbound: OutboundSettings::default(),
            http_sql: HttpSql::default(),
            http: false,
            kafka: false,
        }
    }

    /// The specs of a manifest's components that have a trigger, in the order of their ids.
    pub fn all(manifest: &Manifest, values: &Values) -> Vec<Self> {
        let mut specs = Vec::new();
        for (id, component) in &manifest.components {
            let http = manifest.http.iter().any(|trigger| trigger.component == *id);
            let kafka = manifest.kafka.iter().any(|trigger| trigger.component == *id);
            let Some(resolved) = values.components.get(id).filter(|_| http || kafka) else {
                continue;
            };
            specs.push(Self {
                id: id.clone(),
                source: component.source.clone(),
                limits: component.limits,
                environment: component.environment.clone(),
                variables: resolved.variables.clone(),
                rotated: Rotated { names: resolved.rotated.clone(), values: values.rotating.clone() },
                allowed_hosts: resolved.allowed_hosts.clone(),
                files: component.files.clone(),
                key_value_stores: component.key_value_stores.clone(),
                outbound: component.outbound,
                http_sql: component.http_sql,
                http,
                kafka,
            });
        }
        specs
    }
}
