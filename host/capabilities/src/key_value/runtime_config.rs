//! Spin's runtime-config file, of which fnhost reads what concerns key-value stores:
//!
//! ```toml
//! [key_value_store.default]
//! type = "redis"
//! url = "redis://127.0.0.1:6379"
//! ```
//!
//! `type = "spin"`, which is also what `default` is where the file says nothing of it, is Spin's own store: here in the
//! host's memory, as it is in Spin where no `path` is given.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::{Table, Value};

use super::memory::{MemoryStore, MemoryStores};
use super::redis::{CALL_TIMEOUT, RedisStore, URL};
use super::store::{Store, Stores};
use fnhost_manifest::{Manifest, Secret};

/// The label that is there without being configured.
pub const DEFAULT_LABEL: &str = "default";
/// The tables of Spin's own file that fnhost reads.
const TABLE: &str = "key_value_store";

/// What is wrong with the file, with its place and its cure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read {}; give the file with --runtime-config-file", path.display())]
    Read {
        /// Path of the runtime-config file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It cannot be used as it is.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// Path of the runtime-config file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
}

/// Where the stores of an application are kept.
#[derive(Debug, Clone, Default)]
pub struct RuntimeConfig {
    /// The file, and the stores that it names. Without one, stores of any label are in memory.
    file: Option<(PathBuf, BTreeMap<String, Kind>)>,
}

#[derive(Debug, Clone)]
enum Kind {
    Memory,
    Redis { url: Secret },
}

/// Who else reads the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Nobody: a table that fnhost does not read is a mistake.
    Alone,
    /// Spin, whose trigger this process is: other tables are for it.
    BesideSpin,
}

impl RuntimeConfig {
    /// Reads the file, where there is one.
    ///
    /// # Errors
    /// It cannot be read, or says what fnhost cannot do.
    pub fn read(path: Option<&Path>, readers: Readers) -> Result<Self, Error> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let stores =
            parse(&text, readers).map_err(|reason| Error::Invalid { path: path.to_owned(), reason })?;
        Ok(Self { file: Some((path.to_owned(), stores)) })
    }

    /// Refuses a manifest with a label that the file does not know.
    ///
    /// # Errors
    /// The component and the label.
    pub fn check(&self, manifest: &Manifest) -> Result<(), Error> {
        let Some((path, stores)) = &self.file else { return Ok(()) };
        for (id, component) in &manifest.components {
            let unknown = |label: &&String| *label != DEFAULT_LABEL && !stores.contains_key(*label);
            if let Some(label) = component.key_value_stores.iter().find(unknown) {
                let reason = format!(
                    "it does not say where the key-value store \"{label}\" of component \"{id}\" is; add \
                     [{TABLE}.{label}] with type = \"redis\" and a url, or type = \"spin\""
                );
                return Err(Error::Invalid { path: path.clone(), reason });
            }
        }
        Ok(())
    }

    /// Opens the stores, within a runtime of tokio; those with an age drop values that are older.
    ///
    /// # Errors
    /// A URL is none of Redis.
    pub fn open(&self, max_ages: &BTreeMap<String, Duration>) -> Result<Arc<dyn Stores>, Error> {
        let mut stores: HashMap<String, Arc<dyn Store>> = HashMap::new();
        for (label, kind) in self.file.iter().flat_map(|(_, stores)| stores) {
            let max_age = max_ages.get(label).copied();
            let store: Arc<dyn Store> = match kind {
                Kind::Memory => Arc::new(MemoryStore::new(label, max_age)),
                Kind::Redis { url } => Arc::new(
                    RedisStore::new(label, url.expose(), max_age, CALL_TIMEOUT)
                        .map_err(|why| self.fault(label, &why))?,
                ),
            };
            stores.insert(label.clone(), store);
        }
        for (label, age) in max_ages {
            let memory = || Arc::new(MemoryStore::new(label, Some(*age)));
            stores.entry(label.clone()).or_insert_with(|| memory());
        }
        Ok(Arc::new(Configured { stores, others: MemoryStores::default() }))
    }

    fn fault(&self, label: &str, reason: &str) -> Error {
        let path = self.file.as_ref().map(|(path, _)| path.clone()).unwrap_or_default();
        Error::Invalid { path, reason: format!("[{TABLE}.{label}] url: {reason}") }
    }
}

/// The stores of a file, and in memory all others.
struct Configured {
    stores: HashMap<String, Arc<dyn Store>>,
    others: MemoryStores,
}

impl std::fmt::Debug for Configured {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_set().entries(self.stores.keys()).finish()
    }
}

impl Stores for Configured {
    fn store(&self, label: &str) -> Option<Arc<dyn Store>> {
        self.stores.get(label).cloned().or_else(|| self.others.store(label))
    }
}

fn parse(text: &str, readers: Readers) -> Result<BTreeMap<String, Kind>, String> {
    let file: Table = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
        // Without the line's text, which may have a password.
        format!("line {}: {}", line.unwrap_or(1), error.message())
    })?;
    let mut stores = BTreeMap::new();
    for (key, value) in file {
        match value {
            Value::Table(written) if key == TABLE => {
                for (label, store) in written {
                    let kind = kind(store).map_err(|reason| format!("[{TABLE}.{label}]: {reason}"))?;
                    stores.insert(label, kind);
                }
            }
            _ if key != TABLE && readers == Readers::BesideSpin => {}
            _ => {
                return Err(format!("\"{key}\" is not read by fnhost; it reads the tables [{TABLE}.LABEL]"));
            }
        }
    }
    Ok(stores)
}

fn kind(written: Value) -> Result<Kind, String> {
    let Value::Table(mut written) = written else { return Err("this is not a table".to_owned()) };
    let mut text = |key: &str| match written.remove(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{key} is not a string")),
    };
    let kind = match text("type")?.as_deref() {
        Some("redis") => {
            let url = text("url")?.ok_or_else(|| format!("it has no url; add {URL}"))?;
            Kind::Redis { url: Secret::new(url) }
        }
        Some("spin") if text("path")?.is_some() => {
            return Err(
                "fnhost keeps this type in memory and no file; leave \"path\" out, or use type = \"redis\" \
                        for values that outlive the host"
                    .to_owned(),
            );
        }
        Some("spin") => Kind::Memory,
        Some(other) => {
            return Err(format!("fnhost does not support type = \"{other}\"; use \"redis\" or \"spin\""));
        }
        None => return Err("it has no type; add type = \"redis\" or type = \"spin\"".to_owned()),
    };
    match written.keys().next() {
        Some(key) => Err(format!("unknown key \"{key}\"")),
        None => Ok(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_spins_and_what_does_not_fit_is_refused_with_a_cure() {
        let redis = "[key_value_store.default]\ntype = \"redis\"\nurl = \"redis://:secret@127.0.0.1:1\"\n";
        for (text, expected) in [
            ("", Ok(vec![])),
            (redis, Ok(vec!["default"])),
            (
                "[key_value_store.a]\ntype = \"spin\"\n[key_value_store.b]\ntype = \"spin\"",
                Ok(vec!["a", "b"]),
            ),
            ("[key_value_store.a]\ntype = \"spin\"\npath = \"x.db\"", Err("leave \"path\" out")),
            ("[key_value_store.a]\ntype = \"azure_cosmos\"", Err("use \"redis\" or \"spin\"")),
            ("[key_value_store.a]\nurl = \"redis://h\"", Err("it has no type")),
            ("[key_value_store.a]\ntype = \"redis\"", Err("it has no url")),
            ("[key_value_store.a]\ntype = \"redis\"\nurl = 1", Err("url is not a string")),
            (
                "[key_value_store.a]\ntype = \"redis\"\nurl = \"redis://h\"\nttl = 1",
                Err("unknown key \"ttl\""),
            ),
            ("[key_value_store]\na = 1", Err("this is not a table")),
            ("key_value_store = 1", Err("\"key_value_store\" is not read")),
            ("[[variables_provider]]\ntype = \"vault\"", Err("\"variables_provider\" is not read")),
            ("[key_value_store.a]\nurl = \"redis://:secret@h", Err("line 2: ")),
        ] {
            let parsed = parse(text, Readers::Alone);
            match expected {
                Ok(labels) => assert_eq!(parsed.expect(text).keys().collect::<Vec<_>>(), labels, "{text}"),
                Err(part) => {
                    let reason = parsed.expect_err(text);
                    assert!(reason.contains(part), "{text}: {reason}");
                    assert!(!reason.contains("secret"), "{reason}");
                }
            }
        }
        assert!(!format!("{:?}", parse(redis, Readers::Alone)).contains("secret"));
        let beside = "[[variables_provider]]\ntype = \"vault\"\n[key_value_store.a]\ntype = \"spin\"";
        assert!(parse(beside, Readers::BesideSpin).is_ok_and(|stores| stores.contains_key("a")));
    }

    #[test]
    fn a_label_that_the_file_does_not_know_is_refused() {
        let manifest = |label: &str| {
            let text = format!(
                "spin_manifest_version = 2\n[application]\nname = \"a\"\n[[trigger.http]]\nroute = \"/\"\ncomponent = \
                 \"c\"\n[component.c]\nsource = \"c.wasm\"\nkey_value_stores = [\"{label}\"]"
            );
            Manifest::parse(Path::new("spin.toml"), &text).expect("a manifest")
        };
        let stores = parse("[key_value_store.known]\ntype = \"spin\"", Readers::Alone).expect("fits");
        let given = RuntimeConfig { file: Some(("runtime-config.toml".into(), stores)) };
        for label in ["known", DEFAULT_LABEL] {
            given.check(&manifest(label)).expect(label);
        }
        let error = given.check(&manifest("other")).expect_err("unknown").to_string();
        assert!(
            error.contains("runtime-config.toml") && error.contains("add [key_value_store.other]"),
            "{error}"
        );
        RuntimeConfig::default().check(&manifest("other")).expect("without a file any label will do");
    }

    #[tokio::test]
    async fn a_wrong_url_is_named_without_its_password() {
        let stores =
            parse("[key_value_store.a]\ntype = \"redis\"\nurl = \"http://:secret@h\"", Readers::Alone);
        let given = RuntimeConfig { file: Some(("f.toml".into(), stores.expect("fits"))) };
        let error = given.open(&BTreeMap::new()).expect_err("no Redis").to_string();
        assert!(error.contains("[key_value_store.a]") && !error.contains("secret"), "{error}");
    }
}
