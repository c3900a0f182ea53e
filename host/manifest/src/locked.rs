//! A manifest from Spin's locked application, which `spin up` hands to its triggers.
//!
//! The lock has everything that Spin reads: variables, triggers, components with their files fetched. It lacks the tables
//! `tool.fnhost`, which Spin ignores: those are read from the `spin.toml` that the lock names as its origin. Both are
//! put together as the text of a manifest, so that the same rules hold as for a file. Components that have neither a
//! Kafka trigger nor a database are Spin's alone and are left out, whatever else they use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value as Json;
use toml::{Table, Value};

use super::{Error, Manifest, Place, error, validate};
use crate::files::{Files, Mount};

/// The trigger type that is fnhost's.
const TRIGGER_TYPE: &str = "kafka";

#[derive(Deserialize)]
struct LockedApp {
    #[serde(default)]
    metadata: BTreeMap<String, Json>,
    #[serde(default)]
    variables: BTreeMap<String, Variable>,
    triggers: Vec<Trigger>,
    components: Vec<Component>,
}

#[derive(Deserialize)]
struct Variable {
    description: Option<String>,
    default: Option<String>,
    #[serde(default)]
    secret: bool,
}

#[derive(Deserialize)]
struct Trigger {
    id: String,
    trigger_type: String,
    trigger_config: Json,
}

#[derive(Deserialize)]
struct Component {
    id: String,
    #[serde(default)]
    metadata: BTreeMap<String, Json>,
    source: Content,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    files: Vec<ContentPath>,
    #[serde(default)]
    config: BTreeMap<String, String>,
    #[serde(default)]
    dependencies: BTreeMap<String, Json>,
}

#[derive(Deserialize)]
struct Content {
    source: Option<String>,
}

#[derive(Deserialize)]
struct ContentPath {
    source: Option<String>,
    path: String,
}

impl Manifest {
    /// Reads the locked application at `path`, and the manifest that it was made from.
    ///
    /// # Errors
    /// One of them cannot be read, or what they say together cannot be run.
    pub fn load_locked(path: &Path) -> Result<Self, Error> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
        };
        let fault = |path: &Path, message: String| Error::Invalid {
            place: Place { path: path.to_owned(), line: None },
            message,
        };
        let app: LockedApp = serde_json::from_str(&read(path)?).map_err(|error| {
            fault(
                path,
                format!("this is not a locked application of a Spin version that fnhost knows: {error}"),
            )
        })?;
        let origin = app.metadata.get("origin").and_then(Json::as_str).unwrap_or_default();
        let origin = file(origin).map_err(|reason| {
            fault(
                path,
                format!("fnhost needs the application's spin.toml for its tables tool.fnhost: {reason}"),
            )
        })?;
        let written: Table = toml::from_str(&read(&origin)?)
            .map_err(|error| error::Source { path: &origin, text: "" }.parse_error(&error))?;
        let files = files(&app).map_err(|reason| fault(path, reason))?;
        let text = text(app, &written).map_err(|reason| fault(path, reason))?;
        let manifest = validate::manifest(&error::Source { path: &origin, text: &text });
        let mut manifest = manifest.map_err(|error| match error {
            // Its line would be one of a text that nobody has seen.
            Error::Invalid { message, .. } => fault(&origin, message),
            other => other,
        })?;
        for (id, files) in files {
            if let Some(component) = manifest.components.get_mut(&id) {
                component.files = files;
            }
        }
        manifest.check_files()?;
        Ok(manifest)
    }
}

/// The path of a `file://` URL.
fn file(url: &str) -> Result<PathBuf, String> {
    let path = url::Url::parse(url).ok().filter(|url| url.scheme() == "file");
    path.and_then(|url| url.to_file_path().ok())
        .ok_or_else(|| format!("\"{url}\" is not a file on this machine"))
}

/// A value below these keys.
fn at<'a>(table: &'a Table, keys: &[&str]) -> Option<&'a Value> {
    let (last, before) = keys.split_last()?;
    before.iter().try_fold(table, |table, key| table.get(*key)?.as_table())?.get(*last)
}

/// The text of the manifest that the lock and the tables of fnhost make together.
fn text(app: LockedApp, written: &Table) -> Result<String, String> {
    let mut application = Table::new();
    for key in ["name", "version", "description"] {
        if let Some(text) = app.metadata.get(key).and_then(Json::as_str) {
            application.insert(key.to_owned(), text.into());
        }
    }
    if let Some(tool) = at(written, &["application", "tool", "fnhost"]) {
        application.insert("tool".to_owned(), Table::from_iter([("fnhost".to_owned(), tool.clone())]).into());
    }
    let variables = app.variables.into_iter().map(|(name, variable)| {
        let mut table = Table::new();
        let Variable { description, default, secret } = variable;
        table.extend(description.map(|text| ("description".to_owned(), text.into())));
        match default {
            Some(default) => table.insert("default".to_owned(), default.into()),
            None => table.insert("required".to_owned(), true.into()),
        };
        table.insert("secret".to_owned(), secret.into());
        (name, Value::from(table))
    });
    let mut triggers = Vec::new();
    let mut triggered = Vec::new();
    for trigger in app.triggers.into_iter().filter(|trigger| trigger.trigger_type == TRIGGER_TYPE) {
        let mut config = Table::try_from(&trigger.trigger_config)
            .map_err(|error| format!("trigger \"{}\": {error}", trigger.id))?;
        triggered.extend(config.get("component").and_then(Value::as_str).map(str::to_owned));
        config.insert("id".to_owned(), trigger.id.into());
        triggers.push(Value::from(config));
    }
    let mut components = Table::new();
    for component in app.components {
        let tool = at(written, &["component", &component.id, "tool", "fnhost"]);
        let database = tool.and_then(|tool| tool.get("database")).is_some();
        let subscribed = tool.and_then(|tool| tool.get("kafka")).is_some();
        if triggered.contains(&component.id) || database || subscribed {
            components.insert(component.id.clone(), component_table(component, tool)?.into());
        }
    }
    let manifest = Table::from_iter([
        ("spin_manifest_version".to_owned(), Value::from(2)),
        ("application".to_owned(), application.into()),
        ("variables".to_owned(), variables.collect::<Table>().into()),
        ("trigger".to_owned(), Table::from_iter([(TRIGGER_TYPE.to_owned(), triggers.into())]).into()),
        ("component".to_owned(), components.into()),
    ]);
    toml::to_string(&manifest).map_err(|error| error.to_string())
}

fn component_table(component: Component, tool: Option<&Value>) -> Result<Table, String> {
    let of = |reason: String| format!("component \"{}\": {reason}", component.id);
    if !component.dependencies.is_empty() {
        return Err(of(
            "fnhost does not compose components; build it with its dependencies inside".to_owned()
        ));
    }
    let source = file(component.source.source.as_deref().unwrap_or_default()).map_err(of)?;
    let texts = |values: BTreeMap<String, String>| {
        Value::from(values.into_iter().map(|(name, value)| (name, value.into())).collect::<Table>())
    };
    let mut table = Table::from_iter([
        ("source".to_owned(), Value::from(source.to_string_lossy().into_owned())),
        ("environment".to_owned(), texts(component.env)),
        ("variables".to_owned(), texts(component.config)),
    ]);
    for key in ["allowed_outbound_hosts", "key_value_stores"] {
        if let Some(list) = component.metadata.get(key) {
            let list = Value::try_from(list).map_err(|error| format!("{key}: {error}"))?;
            table.insert(key.to_owned(), list);
        }
    }
    if let Some(tool) = tool {
        table.insert("tool".to_owned(), Table::from_iter([("fnhost".to_owned(), tool.clone())]).into());
    }
    Ok(table)
}

/// The components' files: Spin has copied them, so that their folder is outside of the application's.
fn files(app: &LockedApp) -> Result<BTreeMap<String, Files>, String> {
    let mut all = BTreeMap::new();
    for component in &app.components {
        let mut mounts = Vec::with_capacity(component.files.len());
        for content in &component.files {
            let folder = file(content.source.as_deref().unwrap_or_default())?;
            let source = folder.strip_prefix("/").unwrap_or(&folder).to_string_lossy().into_owned();
            mounts.push(Mount::Placement { source, destination: content.path.clone() });
        }
        all.insert(component.id.clone(), Files { root: PathBuf::from("/"), mounts, exclude: Vec::new() });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = r#"
spin_manifest_version = 2
[application]
name = "counting"
[application.tool.fnhost]
topics = { words = { partitions = 2 } }
[application.tool.fnhost.database]
host_variable = "database_host"
[component.count.tool.fnhost]
deadline_ms = 5000
[component.count.tool.fnhost.database]
schema = "count"
url_variable = "count_url"
migrations = "migrations"
"#;

    /// As `spin up` of Spin 4 writes it.
    fn lock(folder: &Path) -> Json {
        let url = |name: &str| url::Url::from_file_path(folder.join(name)).expect("a URL").to_string();
        serde_json::json!({
            "spin_lock_version": 0,
            "metadata": {"name": "counting", "version": "1.0.0", "origin": url("spin.toml"),
                         "triggers": [{"type": "http"}]},
            "variables": {
                "database_host": {"default": "127.0.0.1:5432"},
                "count_url": {"secret": true},
            },
            "triggers": [
                {"id": "http-trigger-page", "trigger_type": "http",
                 "trigger_config": {"component": "page", "executor": null, "route": "/"}},
                {"id": "words", "trigger_type": "kafka",
                 "trigger_config": {"component": "count", "group": "count", "topics": ["words"], "max_batch": 7}},
            ],
            "components": [
                {"id": "page", "metadata": {"ai_models": ["llama2-chat"]},
                 "source": {"content_type": "application/wasm", "source": url("page.wasm")}},
                {"id": "count",
                 "metadata": {"allowed_outbound_hosts": ["postgres://{{ database_host }}"], "description": ""},
                 "source": {"content_type": "application/wasm", "source": url("count.wasm")},
                 "env": {"COLOUR": "green"},
                 "files": [{"source": url("assets"), "path": "/"}],
                 "config": {"database_url": "{{ count_url }}"}},
            ],
        })
    }

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str, lock_of: impl FnOnce(&Path) -> Json) -> Self {
            let folder = std::env::temp_dir().join(format!("fnhost-locked-{name}-{}", std::process::id()));
            std::fs::create_dir_all(folder.join("migrations")).expect("made");
            let lock = lock_of(&folder).to_string();
            for (name, text) in [("spin.toml", ORIGIN), ("count.wasm", ""), ("spin.lock", lock.as_str())] {
                std::fs::write(folder.join(name), text).expect("written");
            }
            Self(folder)
        }

        fn load(&self) -> Result<Manifest, Error> {
            Manifest::load_locked(&self.0.join("spin.lock"))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_lock_and_the_tables_of_fnhost_make_a_manifest() {
        let folder = Folder::new("good", lock);
        let manifest = folder.load().expect("a manifest");
        assert_eq!(manifest.application.name, "counting");
        assert_eq!(manifest.application.topics["words"], 2);
        assert_eq!(manifest.components.keys().collect::<Vec<_>>(), ["count"], "the other is Spin's alone");
        assert!(manifest.http.is_empty());
        let [trigger] = &manifest.kafka[..] else { panic!("{:?}", manifest.kafka) };
        assert_eq!(
            (trigger.id.as_str(), trigger.component.as_str(), trigger.config.max_batch),
            ("words", "count", 7)
        );
        let count = &manifest.components["count"];
        assert_eq!(count.source, folder.0.join("count.wasm"));
        assert_eq!(count.environment["COLOUR"], "green");
        assert_eq!(count.limits.deadline.as_millis(), 5000);
        let database = count.database.as_ref().expect("a database");
        assert_eq!(database.migrations.as_deref(), Some(folder.0.join("migrations").as_path()));
        std::fs::create_dir_all(folder.0.join("assets")).expect("made");
        std::fs::write(folder.0.join("assets/page.html"), "hi").expect("written");
        let staged = count.files.stage(&folder.0.join("staged")).expect("staged").expect("a folder");
        assert_eq!(std::fs::read_to_string(staged.join("page.html")).expect("a copy"), "hi");
    }

    #[test]
    fn what_cannot_be_run_is_said() {
        /// What is changed in the lock, and what the message holds.
        type Case = (&'static str, fn(&mut Json), &'static str);
        let cases: [Case; 5] = [
            ("remote", |lock| lock["metadata"]["origin"] = "oci://x".into(), "\"oci://x\" is not a file"),
            ("shape", |lock| lock["triggers"] = Json::Null, "not a locked application"),
            (
                "composed",
                |lock| lock["components"][1]["dependencies"] = serde_json::json!({"a:b/c": {}}),
                "component \"count\": fnhost does not compose",
            ),
            (
                "key",
                |lock| lock["triggers"][1]["trigger_config"]["topic"] = "words".into(),
                "unknown key \"topic\"; did you mean \"topics\"?",
            ),
            (
                "gone",
                |lock| lock["components"][1]["source"]["source"] = "file:///no.wasm".into(),
                "has no file at",
            ),
        ];
        for (name, change, part) in cases {
            let folder = Folder::new(name, |folder| {
                let mut lock = lock(folder);
                change(&mut lock);
                lock
            });
            let error = folder.load().expect_err(name).to_string();
            assert!(error.contains(part), "{name}: {error}");
        }
    }
}
