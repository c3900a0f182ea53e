//! Brings versions in: checked on this host first, so that nothing gets into the running set that cannot run.

use super::{COMPONENT_BYTES_MAX, Code, Deployment, Error, TRIAL_MAX};
use fnhost_db::deployment::{self as sql, NewVersion, Rollout};
use fnhost_db::hosts;
use fnhost_engine::{LoadError, digest_of};
use fnhost_metrics::Swap;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long an offer waits until this host runs it, and then until the others do.
const APPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// Variables of a version at most.
pub const VARIABLES_MAX: usize = 100;
/// Bytes of a variable's value at most.
pub const VARIABLE_BYTES_MAX: usize = 64 << 10;

/// A version that somebody offers.
#[derive(Debug, Default)]
pub struct Offer {
    /// Bytes of the component.
    pub wasm: Vec<u8>,
    /// Signature of the code, in minisign's form.
    pub signature: Option<String>,
    /// SHA-256 that the code must have, hex.
    pub sha256: Option<String>,
    /// Where it comes from, for people.
    pub origin: String,
    /// Variables with new values; the others keep what the running version has.
    pub variables: BTreeMap<String, String>,
    /// Whether variables lose the values that earlier swaps gave them.
    pub clear_variables: bool,
    /// Percentage of the calls and the time to try it first.
    pub canary: Option<(u32, Duration)>,
    /// Whether the host found it by itself (`--watch`); what somebody asks for is noted where it is asked for.
    pub found: bool,
}

/// What became of an offer.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Changed {
    /// Component id.
    pub component: String,
    /// Number of the version that was brought in or rolled back.
    pub version: i64,
    /// SHA-256 of what runs now, or is tried.
    pub digest: String,
    /// Revision of the running set.
    pub revision: i64,
    /// Hosts that do not run it yet, by name and admin address.
    pub behind: Vec<String>,
}

/// Why an offer was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no such component.
    #[error("there is no component \"{component}\"; the deployment has {known}")]
    NoComponent {
        /// The id that was given.
        component: String,
        /// Those that there are.
        known: String,
    },
    /// The code is not what it should be, or the offer itself makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The code cannot serve the component's triggers.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Nothing ran before that could run again.
    #[error(
        "component \"{0}\" has no version to go back to: none ran before, or it was gone back to already; \
         run one by its digest with: fnhost swap {0} --sha256 DIGEST"
    )]
    NoFallback(String),
    /// The host's own trouble.
    #[error(transparent)]
    Host(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        match error {
            Error::Load(error) => Self::Load(error),
            unsigned @ Error::Unsigned { .. } => Self::Invalid(unsigned.to_string()),
            other => Self::Host(other),
        }
    }
}

impl From<fnhost_db::Error> for Refused {
    fn from(error: fnhost_db::Error) -> Self {
        Self::Host(error.into())
    }
}

impl Deployment {
    /// Checks a version and brings it in; answers when this host runs it.
    ///
    /// # Errors
    /// It was refused, and nothing has changed.
    pub async fn offer(&self, component: &str, offer: Offer) -> Result<Changed, Refused> {
        self.known(component)?;
        let outcome = self.bring_in(component, offer).await;
        fnhost_metrics::swap(component, if outcome.is_ok() { Swap::Switched } else { Swap::Refused });
        outcome
    }

    async fn bring_in(&self, component: &str, offer: Offer) -> Result<Changed, Refused> {
        check(&offer)?;
        let digest = digest_of(&offer.wasm);
        if let Some(expected) =
            offer.sha256.as_ref().filter(|expected| !expected.eq_ignore_ascii_case(&digest))
        {
            return Err(Refused::Invalid(format!("the SHA-256 of the code is {digest}, not {expected}")));
        }
        let mut variables = match offer.clear_variables {
            true => BTreeMap::new(),
            false => self.own_variables(component).await?,
        };
        variables.extend(offer.variables);
        let wasm = Arc::new(offer.wasm);
        // Compiled and checked here; every host then finds or makes its own image.
        let code = Code { wasm: wasm.clone(), signature: offer.signature.clone() };
        drop(self.shared.loader.load(component, code, variables.clone(), &offer.origin, true).await?);
        let new = NewVersion {
            component,
            digest: &digest,
            wasm: &wasm,
            signature: offer.signature.as_deref(),
            variables: &variables,
            origin: &offer.origin,
            is_file: self.shared.loader.is_file(component, &digest).await,
        };
        let by = offer.found.then(|| self.by_itself("watch"));
        let rollout = match offer.canary {
            Some((percent, duration)) => Rollout::Canary(percent, duration),
            None => Rollout::Switch(self.shared.probation),
        };
        let (version, revision) = sql::deploy(&self.shared.owner, self.id(), &new, rollout, by).await?;
        self.changed(component, version, digest, revision).await
    }

    /// The code of an earlier version and its signature, by its digest.
    ///
    /// # Errors
    /// It is not kept.
    pub async fn stored_code(&self, digest: &str) -> Result<(Vec<u8>, Option<String>), Refused> {
        let code = sql::code(&self.shared.owner, &digest.to_ascii_lowercase()).await?;
        code.ok_or_else(|| Refused::Invalid(format!("no stored version has the SHA-256 {digest}")))
    }

    /// Drops a canary, or goes back to the version before the one that runs; answers when this host has.
    ///
    /// # Errors
    /// There is nothing to go back to.
    pub async fn roll_back(&self, component: &str, reason: &str) -> Result<Changed, Refused> {
        self.known(component)?;
        let withdrawn = sql::withdraw(&self.shared.owner, self.id(), component, None, reason, None).await?;
        let Some((version, revision)) = withdrawn else {
            return Err(Refused::NoFallback(component.to_owned()));
        };
        let changed = self.changed(component, version, String::new(), revision).await?;
        let running = self.shared.slots.get(component).map(|slot| slot.running());
        let digest = running.map(|r| r.current.version.component.digest().to_owned()).unwrap_or_default();
        tracing::warn!(component, version = fnhost_engine::short_digest(&digest), reason, "rolled back");
        fnhost_metrics::swap(component, Swap::RolledBack);
        Ok(Changed { digest, ..changed })
    }

    fn known(&self, component: &str) -> Result<(), Refused> {
        if self.shared.slots.contains_key(component) {
            return Ok(());
        }
        let known: Vec<&str> = self.shared.slots.keys().map(String::as_str).collect();
        Err(Refused::NoComponent { component: component.to_owned(), known: known.join(", ") })
    }

    /// What the running version's variables have in place of the manifest's values.
    async fn own_variables(&self, component: &str) -> Result<BTreeMap<String, String>, Refused> {
        let (_, rows) = sql::running(&self.shared.owner, self.id()).await?;
        let row = rows.into_iter().find(|row| row.component == component);
        Ok(row.map(|row| row.current.variables).unwrap_or_default())
    }

    async fn changed(
        &self,
        component: &str,
        version: i64,
        digest: String,
        revision: i64,
    ) -> Result<Changed, Refused> {
        let mut applied = self.shared.applied.subscribe();
        let reached = applied.wait_for(|applied| *applied >= revision);
        if !matches!(tokio::time::timeout(APPLY_TIMEOUT, reached).await, Ok(Ok(_))) {
            tracing::warn!(component, revision, "the change is stored, but this host does not run it yet");
        }
        let behind = self.hosts_behind(revision).await?;
        Ok(Changed { component: component.to_owned(), version, digest, revision, behind })
    }

    /// Waits for the other hosts, for a time; answers those that are behind at its end.
    async fn hosts_behind(&self, revision: i64) -> Result<Vec<String>, Refused> {
        const LOOK_INTERVAL: Duration = Duration::from_millis(100);
        let end = tokio::time::Instant::now() + APPLY_TIMEOUT;
        // This host's own row follows with its lease; it knows better itself.
        self.renew_lease().await?;
        loop {
            let behind = hosts::behind(&self.shared.owner, self.id(), revision).await?;
            if behind.is_empty() || tokio::time::Instant::now() >= end {
                return Ok(behind);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

fn check(offer: &Offer) -> Result<(), Refused> {
    let refuse = |message: String| Err(Refused::Invalid(message));
    if offer.wasm.len() > COMPONENT_BYTES_MAX {
        return refuse(format!(
            "the code has {} bytes, at most {COMPONENT_BYTES_MAX} are allowed",
            offer.wasm.len()
        ));
    }
    if let Some((percent, duration)) = offer.canary {
        if !(1..=99).contains(&percent) {
            return refuse(format!("a canary of {percent}% is out of range: give 1 to 99"));
        }
        if duration.is_zero() || duration > TRIAL_MAX {
            return refuse(format!("a canary runs for 1 to {} seconds", TRIAL_MAX.as_secs()));
        }
    }
    if offer.variables.len() > VARIABLES_MAX {
        return refuse(format!("a version can have at most {VARIABLES_MAX} variables of its own"));
    }
    for (name, value) in &offer.variables {
        if !fnhost_manifest::valid_variable_name(name) {
            return refuse(format!(
                "\"{name}\" is not a valid variable name; use lower-case letters, digits and single underscores"
            ));
        }
        if value.len() > VARIABLE_BYTES_MAX || value.contains('\0') {
            return refuse(format!(
                "the value of variable {name} has more than {VARIABLE_BYTES_MAX} bytes, or a NUL"
            ));
        }
    }
    Ok(())
}
