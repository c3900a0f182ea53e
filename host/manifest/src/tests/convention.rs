//! What need not be written, because it follows from the rest.

use std::path::Path;

use super::super::Manifest;

/// As short as a manifest with a database and a Kafka trigger can be.
const SHORT: &str = r#"
spin_manifest_version = 2
[application]
name = "loyalty"
[variables]
database_host = { default = "127.0.0.1:5432" }
loyalty_url = { default = "", secret = true }
[component.loyal-users]
source = "loyalty.wasm"
allowed_outbound_hosts = ["postgres://{{ database_host }}"]
variables = { database_url = "{{ loyalty_url }}" }
[component.loyal-users.tool.fnhost]
database = {}
kafka = [{ topics = ["orders"] }]
"#;

/// What a table of a live route holds.
const LIVE: &str = r#"
route = "/orders/:id/events"
key = "id"
snapshot = "/orders/:id"
topics = ["order-events"]
"#;

fn parse(text: &str) -> Result<Manifest, String> {
    Manifest::parse(Path::new("spin.toml"), text).map_err(|error| error.to_string())
}

/// `SHORT` with a part of it in other words.
fn changed(part: &str, other: &str) -> String {
    assert!(SHORT.contains(part), "{part}");
    SHORT.replace(part, other)
}

#[test]
fn names_follow_from_the_component() {
    let manifest = parse(SHORT).expect("a manifest");
    let database = manifest.components["loyal-users"].database.as_ref().expect("a database");
    assert_eq!((database.schema.as_str(), database.url_variable.as_str()), ("loyal_users", "loyalty_url"));
    assert_eq!(database.migrations, None, "there is no such folder");
    assert_eq!(manifest.application.database_host_variable.as_deref(), Some("database_host"));
    let [trigger] = &manifest.kafka[..] else { panic!("{:?}", manifest.kafka) };
    assert_eq!((trigger.id.as_str(), trigger.group.as_str()), ("loyal-users", "loyal-users"));
}

#[test]
fn what_is_written_counts() {
    let text = changed("database = {}", "database = { schema = \"s\", url_variable = \"database_host\" }");
    let text = text.replace("[{ topics", "[{ id = \"first\", topics");
    let manifest = parse(&text).expect("a manifest");
    let database = manifest.components["loyal-users"].database.as_ref().expect("a database");
    assert_eq!((database.schema.as_str(), database.url_variable.as_str()), ("s", "database_host"));
    assert_eq!(
        manifest.application.database_host_variable, None,
        "a schema of its own: nothing by convention"
    );
    assert_eq!((manifest.kafka[0].id.as_str(), manifest.kafka[0].group.as_str()), ("first", "first"));
}

#[test]
fn migrations_are_those_of_the_component_or_of_the_application() {
    let folder = std::env::temp_dir().join(format!("fnhost-convention-{}", std::process::id()));
    let migrations = |text: &str| {
        let manifest = Manifest::parse(&folder.join("spin.toml"), text).expect("a manifest");
        manifest.components["loyal-users"].database.clone().expect("a database").migrations
    };
    std::fs::create_dir_all(folder.join("migrations")).expect("made");
    assert_eq!(migrations(SHORT), Some(folder.join("migrations")));
    std::fs::create_dir_all(folder.join("migrations/loyal-users")).expect("made");
    assert_eq!(migrations(SHORT), Some(folder.join("migrations/loyal-users")));
    assert_eq!(migrations(&changed("{}", "{ migrations = \"sql\" }")), Some(folder.join("sql")));
    assert_eq!(migrations(&changed("{}", "{ schema = \"s\" }")), None, "as before there were conventions");
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn what_does_not_follow_has_to_be_written() {
    for (part, other, message) in [
        ("variables = {", "environment = {", "needs url_variable = \"VARIABLE\""),
        ("\"{{ loyalty_url }}\"", "\"{{ loyalty_url }}/x\"", "needs url_variable = \"VARIABLE\""),
        ("\"{{ loyalty_url }}\"", "\"{{ loyal_url }}\"", "did you mean \"loyalty_url\"?"),
        (
            "kafka = [{ topics = [\"orders\"] }]",
            "kafka = [{ topics = [\"a\"] }, { topics = [\"b\"] }]",
            "two Kafka triggers have the id \"loyal-users\"",
        ),
        (
            "kafka = [{ topics = [\"orders\"] }]",
            "[[trigger.kafka]]\ncomponent = \"loyal-users\"\ntopics = [\"orders\"]",
            "a trigger in [[trigger.kafka]] needs an id",
        ),
    ] {
        let error = parse(&changed(part, other)).expect_err(message);
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn tables_are_also_read_under_the_names_that_they_had() {
    let tables = ["[[application.tool.fnhost.live]]", "[application.tool.fnhost.edge]"];
    let new = format!("{}\n[[application.tool.fnhost.live]]\n{LIVE}", super::GOOD);
    assert!(tables.iter().all(|table| new.contains(table)));
    let old = new
        .replace("application.tool.fnhost.live", "application.tool.fnhost.push")
        .replace("application.tool.fnhost.edge", "application.tool.fnhost.gateway");
    let (old, new) = (parse(&old).expect("the old names"), parse(&new).expect("the new names"));
    assert_eq!((new.application.live.len(), new.application.edge.routes.len()), (1, 1));
    assert_eq!(format!("{:?}", old.application), format!("{:?}", new.application));
}
