//! What groups and topics of these tests are called.

pub fn group(role: &str, unique: &str) -> String {
    format!("{role}-{unique}")
}

use fnhost_manifest::{Filter, Manifest, TriggerConfig};
use std::path::Path;
use std::time::Duration;

/// What the triggers of these tests have where nothing else is said.
pub fn config() -> TriggerConfig {
    TriggerConfig { max_age: Duration::from_secs(3600), ..TriggerConfig::new() }
}

/// The topic that the guest emits to when it handles this one.
pub fn out(topic: &str) -> String {
    format!("{topic}.out")
}

/// The filter of a manifest whose trigger has this one.
pub fn filter(written: &str) -> Filter {
    let manifest = format!(
        "spin_manifest_version = 2\n[application]\nname = \"filtered\"\n[variables]\ndatabase_url = {{ default = \"\" }}\n\
         [component.guest]\nsource = \"guest.wasm\"\n[component.guest.variables]\ndatabase_url = \"{{{{ database_url }}}}\"\n\
         [component.guest.tool.fnhost.database]\nschema = \"own\"\n\
         [[component.guest.tool.fnhost.kafka]]\ntopics = [\"a\"]\nfilter = {written}\n"
    );
    let manifest = Manifest::parse(Path::new("spin.toml"), &manifest).expect("a manifest");
    manifest.kafka[0].filter.clone()
}
