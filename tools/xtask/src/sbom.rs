//! Lists of components in the form of CycloneDX: what each thing that is shipped is built from, as cargo and `Cargo.lock` say. The same
//! commit gives the same lists.

use crate::checkout::Checkout;
use crate::process::{cargo, say};
use anyhow::Context as _;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

/// Where the lists go.
const FOLDER: &str = "target/sbom";
/// The form of the lists.
const SPEC_VERSION: &str = "1.6";
/// What `./dev build` makes besides the functions.
const PROGRAMS: [&str; 2] = ["fnhost", "payment-gateway"];
/// What functions are built for.
const WASM: &str = "wasm32-wasip2";

/// Name and version.
type Package = (String, String);

/// Packages with those that each needs itself.
type Tree = BTreeMap<Package, BTreeSet<Package>>;

/// Writes the list of components of all that `./dev build` makes.
///
/// # Errors
/// cargo fails, or says something else than expected.
pub fn write(checkout: &Checkout) -> anyhow::Result<()> {
    let metadata = stdout(cargo("metadata").args(["--format-version", "1"]))?;
    let metadata = serde_json::from_str(&metadata).context("cargo's metadata is not JSON")?;
    let known = known(&metadata)?;
    let sums = checksums(&std::fs::read_to_string("Cargo.lock").context("cannot read Cargo.lock")?);
    // Not the time of now: the list is of the commit.
    let time = stdout(Command::new("git").args(["log", "-1", "--format=%cd", "--date=iso-strict"])).ok();
    std::fs::create_dir_all(FOLDER)?;
    let programs = PROGRAMS.into_iter().map(|name| (name, None));
    let functions = checkout.functions.iter().map(|name| (name.as_str(), Some(WASM)));
    for (name, target) in programs.chain(functions) {
        let mut command = cargo("tree");
        command.args(["-p", name, "--edges", "normal,build", "--prefix", "depth", "--format", " {p}"]);
        command.args(target.iter().flat_map(|target| ["--target", target]));
        let (root, tree) = tree(&stdout(&mut command)?)?;
        let list = list(&root, &tree, &known, &sums, time.as_deref().map(str::trim));
        let path = Path::new(FOLDER).join(format!("{name}.cdx.json"));
        std::fs::write(&path, format!("{list:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    say(format_args!(
        "{FOLDER} has the components of {}, {}",
        PROGRAMS.join(", "),
        checkout.functions.join(", ")
    ));
    Ok(())
}

fn stdout(command: &mut Command) -> anyhow::Result<String> {
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run {command:?}"))?;
    anyhow::ensure!(output.status.success(), "{command:?} failed ({})", output.status);
    String::from_utf8(output.stdout).context("it printed no text")
}

/// What `cargo tree` prints with the depth in front. A package's needs are below its first line alone.
fn tree(printed: &str) -> anyhow::Result<(Package, Tree)> {
    let (mut tree, mut path) = (Tree::new(), Vec::<Package>::new());
    for line in printed.lines() {
        let mut words = line.split(' ');
        let mut word = || words.next().with_context(|| format!("cargo tree printed: {line}"));
        let (depth, name, version) = (word()?, word()?, word()?);
        let depth: usize = depth.parse().with_context(|| format!("cargo tree printed: {line}"))?;
        let package = (name.to_owned(), version.trim_start_matches('v').to_owned());
        path.truncate(depth);
        if let Some(above) = path.last() {
            tree.entry(above.clone()).or_default().insert(package.clone());
        }
        tree.entry(package.clone()).or_default();
        path.push(package);
    }
    Ok((path.into_iter().next().context("cargo tree printed nothing")?, tree))
}

/// The packages of the workspace and of its dependencies.
fn known(metadata: &Value) -> anyhow::Result<BTreeMap<Package, &Value>> {
    let packages = metadata["packages"].as_array().context("cargo's metadata has no packages")?;
    let text = |package: &Value, key: &str| package[key].as_str().unwrap_or_default().to_owned();
    Ok(packages.iter().map(|package| ((text(package, "name"), text(package, "version")), package)).collect())
}

/// SHA-256 of the packages that come from a registry.
fn checksums(lock: &str) -> BTreeMap<Package, String> {
    let value = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
        line.map(|line| line.trim_end_matches('"').to_owned())
    };
    let blocks = lock.split("[[package]]").skip(1);
    let sums = blocks.filter_map(|block| {
        Some(((value(block, "name")?, value(block, "version")?), value(block, "checksum")?))
    });
    sums.collect()
}

fn list(
    root: &Package,
    tree: &Tree,
    known: &BTreeMap<Package, &Value>,
    sums: &BTreeMap<Package, String>,
    time: Option<&str>,
) -> Value {
    let describe = |package: &Package| component(package, known.get(package).copied(), sums.get(package));
    let mut main = describe(root);
    main["type"] = json!("application");
    let mut metadata = json!({
        "component": main,
        "tools": { "components": [{ "type": "application", "name": "./dev sbom" }] },
    });
    if let Some(time) = time {
        metadata["timestamp"] = json!(time);
    }
    let needs = |(package, needed): (&Package, &BTreeSet<Package>)| json!({ "ref": reference(package), "dependsOn": needed.iter().map(reference).collect::<Vec<_>>() });
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "version": 1,
        "metadata": metadata,
        "components": tree.keys().filter(|package| *package != root).map(describe).collect::<Vec<_>>(),
        "dependencies": tree.iter().map(needs).collect::<Vec<_>>(),
    })
}

fn reference((name, version): &Package) -> String {
    format!("{name}@{version}")
}

fn component(package: &Package, known: Option<&Value>, sum: Option<&String>) -> Value {
    let (name, version) = package;
    let mut described =
        json!({ "type": "library", "bom-ref": reference(package), "name": name, "version": version });
    let text = |key: &str| known.and_then(|known| known[key].as_str()).filter(|text| !text.is_empty());
    if let Some(text) = text("description") {
        described["description"] = json!(text.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    if let Some(licence) = text("license") {
        // As packages wrote it before there were expressions.
        described["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
    }
    if let Some(url) = text("repository") {
        described["externalReferences"] = json!([{ "type": "vcs", "url": url }]);
    }
    // What comes from the registry: a package of the workspace is nowhere under its name.
    if let Some(sum) = sum {
        described["purl"] = json!(format!("pkg:cargo/{name}@{}", version.replace('+', "%2B")));
        described["hashes"] = json!([{ "alg": "SHA-256", "content": sum }]);
    }
    described
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "\
0 order v0.1.0 (/checkout/functions/order)
1 serde v1.0.229
2 serde_core v1.0.229
1 toml v1.2.1+spec-1.1.0
2 serde v1.0.229 (*)
2 macros v2.0.0 (proc-macro)
";
    const LOCK: &str = "\
version = 4

[[package]]
name = \"order\"
version = \"0.1.0\"
dependencies = [
 \"serde\",
]

[[package]]
name = \"toml\"
version = \"1.2.1+spec-1.1.0\"
source = \"registry+https://github.com/rust-lang/crates.io-index\"
checksum = \"00ff\"
";

    #[test]
    fn a_list_has_what_is_needed_with_licences_sums_and_who_needs_it() {
        let metadata = json!({ "packages": [
            { "name": "toml", "version": "1.2.1+spec-1.1.0", "license": "MIT/Apache-2.0", "description": "Reads\n TOML",
              "repository": "https://example.com/toml" },
            { "name": "order", "version": "0.1.0", "license": "Apache-2.0", "repository": null },
            { "name": "unused", "version": "1.0.0", "license": "MIT" },
        ] });
        let (root, tree) = tree(TREE).expect("a tree");
        let list = list(
            &root,
            &tree,
            &known(&metadata).expect("packages"),
            &checksums(LOCK),
            Some("2026-01-31T00:00:00Z"),
        );
        assert_eq!(
            list["metadata"]["component"],
            json!({ "type": "application", "bom-ref": "order@0.1.0", "name": "order", "version": "0.1.0",
                    "licenses": [{ "expression": "Apache-2.0" }] })
        );
        let names: Vec<_> =
            list["components"].as_array().expect("a list").iter().map(|one| &one["name"]).collect();
        assert_eq!(names, ["macros", "serde", "serde_core", "toml"]);
        assert_eq!(
            list["components"][3],
            json!({ "type": "library", "bom-ref": "toml@1.2.1+spec-1.1.0", "name": "toml", "version": "1.2.1+spec-1.1.0",
                    "description": "Reads TOML", "licenses": [{ "expression": "MIT OR Apache-2.0" }],
                    "externalReferences": [{ "type": "vcs", "url": "https://example.com/toml" }],
                    "purl": "pkg:cargo/toml@1.2.1%2Bspec-1.1.0", "hashes": [{ "alg": "SHA-256", "content": "00ff" }] })
        );
        let needs = |name: &str| {
            let all = list["dependencies"].as_array().expect("a list");
            all.iter().find(|one| one["ref"] == name).expect(name)["dependsOn"].clone()
        };
        assert_eq!(needs("order@0.1.0"), json!(["serde@1.0.229", "toml@1.2.1+spec-1.1.0"]));
        assert_eq!(needs("toml@1.2.1+spec-1.1.0"), json!(["macros@2.0.0", "serde@1.0.229"]));
        assert_eq!(
            needs("serde@1.0.229"),
            json!(["serde_core@1.0.229"]),
            "which are below its first line alone"
        );
        assert_eq!(list["metadata"]["timestamp"], "2026-01-31T00:00:00Z");
    }

    #[test]
    fn what_cargo_does_not_print_is_no_list() {
        for printed in ["", "order v0.1.0", "0 order"] {
            assert!(tree(printed).is_err(), "{printed}");
        }
    }
}
