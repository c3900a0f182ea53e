//! `fnhost new`: the template of `templates/kafka-rust`, which `spin templates install` takes as well.

use anyhow::Context as _;
use clap::Args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Every file of the template by its path in the new folder, with the text it is made from.
const FILES: &[(&str, &str)] = &[
    (".cargo/config.toml", include_str!("../../../../templates/kafka-rust/content/.cargo/config.toml")),
    (".gitignore", include_str!("../../../../templates/kafka-rust/content/.gitignore")),
    ("Cargo.toml", include_str!("../../../../templates/kafka-rust/content/Cargo.toml.tmpl")),
    ("README.md", include_str!("../../../../templates/kafka-rust/content/README.md")),
    (
        "migrations/0001_visit.sql",
        include_str!("../../../../templates/kafka-rust/content/migrations/0001_visit.sql"),
    ),
    ("records.jsonl", include_str!("../../../../templates/kafka-rust/content/records.jsonl")),
    ("rust-toolchain.toml", include_str!("../../../../templates/kafka-rust/content/rust-toolchain.toml")),
    ("spin.toml", include_str!("../../../../templates/kafka-rust/content/spin.toml")),
    ("src/lib.rs", include_str!("../../../../templates/kafka-rust/content/src/lib.rs")),
];
/// The SDK of the checkout that this program was built from.
const OWN_SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sdk");
/// Bytes of a name: the Postgres schema and role are called after it.
const NAME_BYTES_MAX: usize = 40;

/// Writes a new Kafka function: a crate, its spin.toml, a table and records to try it with.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  fnhost new page-visits && cd page-visits
  cargo build --release --target wasm32-wasip2
  fnhost test records.jsonl
  fnhost up")]
pub struct NewArgs {
    /// Name of the function: lower-case words joined by \"-\"
    name: String,
    /// Folder to create; without it the function's name
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Topic to consume
    #[arg(long, value_name = "TOPIC", default_value = "visits")]
    topic: String,
    /// One-line description
    #[arg(long, value_name = "TEXT", default_value = "Counts the visits of each page")]
    description: String,
    /// Folder sdk in a checkout of fnhost; without it the checkout that this fnhost was built from
    #[arg(long, value_name = "DIR", env = "FNHOST_SDK", alias = "kit")]
    sdk: Option<PathBuf>,
}

/// Writes the files and says what to do next.
pub fn run(args: &NewArgs) -> anyhow::Result<()> {
    check(args)?;
    let sdk = sdk(args.sdk.as_deref())?;
    let folder = args.dir.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    let sdk_path = sdk.to_str().context("the path of the SDK is not UTF-8")?;
    let parameters = BTreeMap::from([
        ("project-name", args.name.as_str()),
        ("project-description", args.description.as_str()),
        ("topic", args.topic.as_str()),
        ("sdk-path", sdk_path),
    ]);
    anyhow::ensure!(
        !folder.exists() || folder.read_dir().is_ok_and(|mut entries| entries.next().is_none()),
        "{} already exists; choose another folder with --dir",
        folder.display()
    );
    for (path, text) in FILES {
        let path = folder.join(path);
        let text = render(text, &parameters).map_err(anyhow::Error::msg)?;
        let parent = path.parent().context("a file has a folder")?;
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&path, text))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!(
        "created {}. Next:\n\n  cd {0}\n  cargo build --release --target wasm32-wasip2\n  fnhost test records.jsonl\n  fnhost up",
        folder.display()
    );
    Ok(())
}

fn check(args: &NewArgs) -> anyhow::Result<()> {
    let word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    anyhow::ensure!(
        args.name.split('-').all(word) && args.name.len() <= NAME_BYTES_MAX,
        "\"{}\" is not a valid function name; use up to {NAME_BYTES_MAX} lower-case letters and digits in words joined by \
         \"-\", like page-visits",
        args.name
    );
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    anyhow::ensure!(
        !args.topic.is_empty() && args.topic.chars().all(plain),
        "\"{}\" is not a valid topic name; use letters, digits, \".\", \"-\" and \"_\"",
        args.topic
    );
    anyhow::ensure!(
        !args.description.contains(['"', '\\', '\n']),
        "--description takes one line without quotation marks and backslashes"
    );
    Ok(())
}

/// The SDK's folder, which the new crate depends on by its path.
fn sdk(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = given.unwrap_or(Path::new(OWN_SDK));
    let sdk = path.canonicalize().ok().filter(|sdk| sdk.join("Cargo.toml").is_file());
    let sdk = sdk.with_context(|| {
        format!("{} is not the SDK's folder; give sdk of a checkout of fnhost with --sdk", path.display())
    })?;
    anyhow::ensure!(
        !sdk.to_string_lossy().contains(['"', '\\']),
        "move the checkout: {} has quotes",
        sdk.display()
    );
    Ok(sdk)
}

/// Fills a text of the template in: the part of Liquid that it uses, `{{name}}`, the filters `kebab_case` and
/// `snake_case`, and `{% raw %}…{% endraw %}` for braces that stay.
fn render(text: &str, parameters: &BTreeMap<&str, &str>) -> Result<String, String> {
    const RAW: &str = "{% raw %}";
    const END_RAW: &str = "{% endraw %}";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix(RAW) {
            let (raw, tail) = after.split_once(END_RAW).ok_or("a raw part does not end")?;
            out.push_str(raw);
            rest = tail;
        } else if let Some(after) = rest.strip_prefix("{{") {
            let (expression, tail) = after.split_once("}}").ok_or("a parameter does not end")?;
            out.push_str(&value(expression, parameters)?);
            rest = tail;
        } else {
            out.push('{');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn value(expression: &str, parameters: &BTreeMap<&str, &str>) -> Result<String, String> {
    let mut parts = expression.split('|').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let value = parameters.get(name).ok_or_else(|| format!("there is no parameter {name}"))?;
    parts.try_fold((*value).to_owned(), |value, filter| match filter {
        // Names are checked to be in kebab case.
        "kebab_case" => Ok(value),
        "snake_case" => Ok(value.replace('-', "_")),
        other => Err(format!("there is no filter {other}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fnhost_manifest::Manifest;

    fn args(name: &str) -> NewArgs {
        let (topic, description) = ("visits".to_owned(), "Counts".to_owned());
        NewArgs { name: name.to_owned(), dir: None, topic, description, sdk: None }
    }

    #[test]
    fn every_file_of_the_template_is_written() {
        let content = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../templates/kafka-rust/content");
        let mut found = Vec::new();
        let mut folders = vec![content.clone()];
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir().expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&content).expect("inside").to_string_lossy().into_owned();
                    found.push(name.trim_end_matches(".tmpl").to_owned());
                }
            }
        }
        found.sort();
        assert_eq!(found, FILES.iter().map(|(path, _)| (*path).to_owned()).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_written_is_a_manifest_that_fnhost_reads() {
        let parameters = BTreeMap::from([
            ("project-name", "page-visits"),
            ("project-description", "Counts"),
            ("topic", "seen"),
            ("sdk-path", "/sdk"),
        ]);
        for (path, text) in FILES {
            let text = render(text, &parameters).expect(path);
            assert!(!text.contains("{%"), "{path}");
            if *path == "spin.toml" {
                let manifest = Manifest::parse(Path::new("spin.toml"), &text).expect("a manifest");
                assert_eq!(manifest.kafka[0].topics, ["seen"]);
                let component = &manifest.components["page-visits"];
                assert_eq!(component.source, Path::new("target/wasm32-wasip2/release/page_visits.wasm"));
                assert_eq!(
                    component.allowed_outbound_hosts[0].variables().collect::<Vec<_>>(),
                    ["database_host"]
                );
                let database = component.database.as_ref().expect("a database");
                assert_eq!(
                    (database.schema.as_str(), database.url_variable.as_str()),
                    ("page_visits", "database_url")
                );
                assert_eq!(manifest.application.database_host_variable.as_deref(), Some("database_host"));
            }
        }
    }

    #[test]
    fn a_new_function_is_built_as_those_of_the_checkout_are() {
        let parsed = |text: &str| toml::from_str::<toml::Table>(text).expect("TOML");
        let file = |name| parsed(FILES.iter().find(|(path, _)| *path == name).expect("the file").1);
        let toolchain = parsed(include_str!("../../../../rust-toolchain.toml"));
        for key in ["channel", "targets"] {
            assert_eq!(file("rust-toolchain.toml")["toolchain"][key], toolchain["toolchain"][key], "{key}");
        }
        assert_eq!(
            file(".cargo/config.toml"),
            parsed(include_str!("../../../../.cargo/config.toml")),
            "the memory that a component begins with"
        );
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for name in ["", "Visits", "page_visits", "-visits", "7up", "a b", "../x", &"a".repeat(41)] {
            assert!(check(&args(name)).is_err(), "{name}");
        }
        assert!(check(&args("page-visits2")).is_ok());
    }
}
