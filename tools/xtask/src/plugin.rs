//! `./dev spin-plugin`: packs fnhost as Spin's plugin `trigger-kafka`, which runs `[[trigger.kafka]]` in one `spin up`.

use crate::builds;
use crate::checkout::Checkout;
use crate::process::{run, say};
use anyhow::Context as _;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Where the archive and its manifest go.
const FOLDER: &str = "target/spin-plugin";
/// The plugin's name, and its program's: what Spin looks for.
const NAME: &str = "trigger-kafka";
/// The file beside the program.
const LICENSE: &str = "trigger-kafka.license";
/// Where the archive will be fetched from, if not from this machine.
const URL: &str = "FNHOST_PLUGIN_URL";

/// Builds the host and packs it; prints how to install the plugin.
///
/// # Errors
/// The host does not run on this machine or does not build, or a file cannot be written.
pub fn pack(checkout: &Checkout) -> anyhow::Result<()> {
    let arch = architecture(std::env::consts::OS, std::env::consts::ARCH)?;
    builds::host()?;
    let folder = Path::new(FOLDER);
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot empty {FOLDER}"))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {FOLDER}"))?;
    let folder = folder.canonicalize()?;
    let archive = folder.join(format!("{NAME}-{}-linux-{arch}.tar.gz", checkout.version));
    archive_of(&checkout.program("fnhost"), Path::new("LICENSE"), &archive)?;
    let url = std::env::var(URL).ok().filter(|url| !url.is_empty());
    let url = url.unwrap_or_else(|| format!("file://{}", archive.display()));
    let sum = hex_sha256(&fs::read(&archive).with_context(|| format!("cannot read {}", archive.display()))?);
    let manifest = format!("{:#}\n", manifest(&checkout.version, arch, &url, &sum));
    let path = Path::new(FOLDER).join(format!("{NAME}.json"));
    fs::write(&path, manifest).with_context(|| format!("cannot write {}", path.display()))?;
    say(format_args!("packed; install it with: spin plugins install --file {}", path.display()));
    Ok(())
}

/// The processor, as Spin names it.
fn architecture(system: &str, processor: &str) -> anyhow::Result<&'static str> {
    match (system, processor) {
        ("linux", "x86_64") => Ok("amd64"),
        ("linux", "aarch64") => Ok("aarch64"),
        _ => anyhow::bail!("fnhost runs on Linux, on x86_64 and aarch64; this is {system} on {processor}"),
    }
}

/// Packs a program and its licence. The same content gives the same archive, and so the same checksum.
fn archive_of(program: &Path, license: &Path, archive: &Path) -> anyhow::Result<()> {
    let content = archive.with_extension("content");
    fs::create_dir(&content).with_context(|| format!("cannot make {}", content.display()))?;
    for (from, name) in [(program, NAME), (license, LICENSE)] {
        let copied = fs::copy(from, content.join(name));
        copied.with_context(|| format!("cannot copy {}", from.display()))?;
    }
    let mut tar = Command::new("tar");
    tar.args(["--create", "--use-compress-program=gzip -n", "--file"]).arg(archive);
    tar.arg("--directory").arg(&content);
    tar.args([
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mode=u=rwX,go=rX",
        "--mtime=@0",
    ]);
    run(tar.args([NAME, LICENSE]))?;
    fs::remove_dir_all(&content).with_context(|| format!("cannot remove {}", content.display()))
}

/// What `spin plugins install --file` reads.
fn manifest(version: &str, arch: &str, url: &str, sha256: &str) -> Value {
    json!({
        "name": NAME,
        "description": "Runs components on Kafka records, with effects exactly once in Postgres (fnhost)",
        "version": version,
        "spinCompatibility": ">=3.0",
        "license": "Apache-2.0",
        "packages": [{ "os": "linux", "arch": arch, "url": url, "sha256": sha256 }],
    })
}

fn hex_sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn spin_is_told_version_place_and_checksum() {
        let expected = json!({
            "name": "trigger-kafka",
            "description": "Runs components on Kafka records, with effects exactly once in Postgres (fnhost)",
            "version": "1.2.3",
            "spinCompatibility": ">=3.0",
            "license": "Apache-2.0",
            "packages": [
                { "os": "linux", "arch": "amd64", "url": "file:///a.tar.gz", "sha256": hex_sha256(b"abc") },
            ],
        });
        let arch = architecture("linux", "x86_64").expect("it runs there");
        assert_eq!(manifest("1.2.3", arch, "file:///a.tar.gz", &hex_sha256(b"abc")), expected);
        // FIPS 180-4's example.
        assert_eq!(hex_sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(architecture("linux", "aarch64").expect("it runs there"), "aarch64");
        let refused = architecture("macos", "aarch64").expect_err("fnhost does not run there").to_string();
        assert!(
            refused.starts_with("fnhost runs on Linux") && refused.ends_with("macos on aarch64"),
            "{refused}"
        );
    }

    #[test]
    fn the_same_content_gives_the_same_archive() {
        let scratch = Scratch::new();
        let (program, license) = (scratch.path().join("fnhost"), scratch.path().join("LICENSE"));
        let pack = |name: &str, mode| {
            std::fs::write(&program, "#!/bin/sh\necho packed\n").expect("a file");
            std::fs::set_permissions(&program, Permissions::from_mode(mode)).expect("a mode");
            std::fs::write(&license, "free").expect("a file");
            let archive = scratch.path().join(name);
            archive_of(&program, &license, &archive).expect("it is packed");
            std::fs::read(archive).expect("an archive")
        };
        // Whatever umask the checkout was made under.
        assert!(pack("one.tar.gz", 0o755) == pack("two.tar.gz", 0o700), "archives differ");
        let out = scratch.path().join("out");
        std::fs::create_dir(&out).expect("a folder");
        run(Command::new("tar").arg("-xzf").arg(scratch.path().join("one.tar.gz")).arg("-C").arg(&out))
            .expect("tar");
        let mut names: Vec<_> = std::fs::read_dir(&out)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        assert_eq!(names, [NAME, LICENSE]);
        let ran = Command::new(out.join(NAME)).output().expect("it may be run");
        assert_eq!(String::from_utf8_lossy(&ran.stdout), "packed\n");
    }
}
