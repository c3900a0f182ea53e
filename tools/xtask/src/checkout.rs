//! The checkout as cargo sees it: where it builds to, which packages are functions, the version.

use anyhow::Context as _;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folders whose packages are functions, in the order in which they are built and named.
const FOLDERS: [&str; 3] = ["functions", "examples", "tests"];
/// The kind of a package's library that makes a component of it.
const COMPONENT: &str = "cdylib";

/// What cargo says of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// The folder that cargo builds to, `CARGO_TARGET_DIR` and cargo's configuration included.
    pub target: PathBuf,
    /// The version of the package `fnhost`.
    pub version: String,
    /// The names of the functions: packages below functions/, examples/ and tests/ whose library is a `cdylib`.
    pub functions: Vec<String>,
}

impl Checkout {
    /// Asks cargo.
    ///
    /// # Errors
    /// A `Cargo.toml` of the workspace cannot be read, which cargo has then said.
    pub fn read() -> anyhow::Result<Self> {
        // Without the dependencies it needs neither a lock file nor a registry.
        let output = Command::new("cargo")
            .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run cargo")?;
        anyhow::ensure!(output.status.success(), "`cargo metadata` failed ({})", output.status);
        let metadata = serde_json::from_slice(&output.stdout).context("cargo's metadata is not JSON")?;
        Self::from_metadata(&metadata)
    }

    fn from_metadata(metadata: &Value) -> anyhow::Result<Self> {
        let text = |value: &Value, key: &str| {
            value[key].as_str().map(str::to_owned).with_context(|| format!("cargo's metadata has no {key}"))
        };
        let root = text(metadata, "workspace_root")?;
        let packages = metadata["packages"].as_array().context("cargo's metadata has no packages")?;
        let mut functions = Vec::new();
        let mut version = None;
        for package in packages {
            let name = text(package, "name")?;
            if name == "fnhost" {
                version = Some(text(package, "version")?);
            }
            let manifest = text(package, "manifest_path")?;
            let folder = Path::new(&manifest).strip_prefix(&root).ok().and_then(|path| path.iter().next());
            let place = FOLDERS.iter().position(|name| folder.is_some_and(|folder| folder == *name));
            if let Some(place) = place
                && is_component(package)
            {
                functions.push((place, name));
            }
        }
        functions.sort();
        Ok(Self {
            target: text(metadata, "target_directory")?.into(),
            version: version.context("the workspace has no package fnhost")?,
            functions: functions.into_iter().map(|(_, name)| name).collect(),
        })
    }

    /// A program that cargo built with the profile `release`.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.target.join("release").join(name)
    }
}

fn is_component(package: &Value) -> bool {
    let mut targets = package["targets"].as_array().into_iter().flatten();
    targets.any(|target| {
        target["crate_types"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == COMPONENT))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_function_is_a_cdylib_in_one_of_three_folders() {
        let package = |folder: &str, name: &str, kinds: &[&str]| {
            json!({
                "name": name,
                "version": "1.2.3",
                "manifest_path": format!("/src/{folder}/Cargo.toml"),
                "targets": [{ "crate_types": kinds }, { "crate_types": ["bin"] }],
            })
        };
        let metadata = json!({
            "workspace_root": "/src",
            "target_directory": "/elsewhere",
            "packages": [
                package("examples/count", "count", &["cdylib"]),
                package("functions/pay", "pay", &["cdylib", "rlib"]),
                package("functions/contract", "contract", &["lib"]),
                package("functions/auth", "auth", &["cdylib", "rlib"]),
                package("tests", "tests", &["lib"]),
                package("tests/ledger", "ledger", &["cdylib"]),
                package("host/fnhost", "fnhost", &["lib"]),
                package("host/tests/guest", "guest", &["cdylib"]),
            ],
        });
        let expected = Checkout {
            target: "/elsewhere".into(),
            version: "1.2.3".to_owned(),
            functions: ["auth", "pay", "count", "ledger"].map(str::to_owned).to_vec(),
        };
        assert_eq!(Checkout::from_metadata(&metadata).expect("a checkout"), expected);
        assert_eq!(expected.program("fnhost"), Path::new("/elsewhere/release/fnhost"));
    }

    #[test]
    fn this_one_has_the_functions_of_the_order_system() {
        let checkout = Checkout::read().expect("cargo runs");
        for name in ["auth", "order", "web", "word-count"] {
            assert!(checkout.functions.iter().any(|function| function == name), "{name}: {checkout:?}");
        }
        let order = checkout.functions.iter().position(|name| name == "order");
        assert!(order < checkout.functions.iter().position(|name| name == "word-count"), "{checkout:?}");
    }
}
