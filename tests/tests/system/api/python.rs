//! The Python of `tests/api/requirements.txt`, which `./dev test` sets up.

use anyhow::Context as _;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where its programs are.
pub struct Python {
    programs: PathBuf,
    scripts: PathBuf,
}

impl Python {
    /// What this checkout has.
    ///
    /// # Errors
    /// It was not set up; the text says how it is.
    pub fn find() -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let programs = root.join("target/api-tests/bin");
        if !programs.join("schemathesis").exists() {
            return Err(
                "target/api-tests is missing; `./dev test` makes it where python3 has venv".to_owned()
            );
        }
        Ok(Self { programs, scripts: root.join("tests/api") })
    }

    /// A program of it.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// A file of `tests/api`.
    pub fn script(&self, name: &str) -> PathBuf {
        self.scripts.join(name)
    }

    /// Runs `check.py` on these files.
    ///
    /// # Errors
    /// It found faults; the error lists them.
    pub fn check(&self, files: &[(&str, Value)]) -> anyhow::Result<()> {
        let folder = std::env::temp_dir().join(format!("fnhost-api-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        for (name, content) in files {
            std::fs::write(folder.join(name), content.to_string())?;
        }
        let mut command = Command::new(self.program("python"));
        command.arg(self.script("check.py")).arg(&folder).stdin(Stdio::null());
        let output = command.output().context("cannot run python");
        std::fs::remove_dir_all(&folder)?;
        let output = output?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        println!("{said}");
        anyhow::ensure!(output.status.success(), "the documents do not say what was seen: {said}");
        Ok(())
    }
}
