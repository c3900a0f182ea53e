//! Private servers that are set up once for each test program, and copied for each fnhost that it starts.
//!
//! On an empty data directory fnhost creates a Postgres cluster, formats Kafka's log directory and runs Kafka once only to
//! archive its classes: seconds of work that are the same each time. A copy starts as an fnhost starts that has run before.
//! The servers of the original have run once and were stopped in an orderly way, and know nothing of fnhost yet; that a
//! start on an empty directory works is seen each time that the original is made, by the same code.

use crate::process::Folder;
use crate::system::free_port;
use anyhow::Context as _;
use fnhost_embedded::Options;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tokio::sync::OnceCell;
use uuid::Uuid;

/// Parts of a data directory, as [`embedded`] names them.
const POSTGRES: &str = "postgres";
const KAFKA: &str = "kafka";
/// Where Kafka runs.
const KAFKA_WORK: &str = "kafka/work";
const SECRETS: &str = "secrets";
/// Begins the name of the archive of Kafka's loaded classes, which goes on with the versions that it fits.
const ARCHIVE_PREFIX: &str = "classes-";

/// Puts servers that were set up into a data directory that has none yet.
///
/// # Errors
/// The original cannot be made, or not be copied.
pub(crate) async fn copy_to(
    data_dir: &Path,
    archives: &Path,
    postgres: bool,
    kafka: bool,
) -> anyhow::Result<()> {
    static ORIGINAL: OnceCell<Folder> = OnceCell::const_new();
    let original = ORIGINAL.get_or_try_init(|| make(archives)).await?.path();
    if postgres {
        copy(&original.join(POSTGRES), data_dir)?;
        // Only the superuser's password: the rest is the fnhost's own.
        let secrets = data_dir.join(SECRETS);
        DirBuilder::new().recursive(true).mode(0o700).create(&secrets)?;
        copy(&original.join(SECRETS).join(POSTGRES), &secrets)?;
    }
    if kafka {
        copy(&original.join(KAFKA), data_dir)?;
        make_cluster_of_its_own(&data_dir.join(KAFKA).join("data/meta.properties"))?;
    }
    let of = |is_run: bool, servers: &'static [&'static str]| if is_run { servers } else { &[] };
    let servers = [of(postgres, &["postgres", "payment-gateway"]), of(kafka, &["kafka", "kafka-controller"])];
    choose_ports(&data_dir.join("run"), &servers.concat())
}

/// Gives a copied log directory a cluster id of its own, so that no broker is ever taken for that of another copy.
fn make_cluster_of_its_own(properties: &Path) -> anyhow::Result<()> {
    const CLUSTER_ID: &str = "cluster.id=";
    let text = std::fs::read_to_string(properties)?;
    anyhow::ensure!(text.contains(CLUSTER_ID), "no {CLUSTER_ID} in {}", properties.display());
    // 16 bytes in base64url without padding: hexadecimal digits are among its characters, and the last one carries two bits.
    let id = format!("{CLUSTER_ID}{}A", &Uuid::new_v4().simple().to_string()[..21]);
    let lines = text.lines().map(|line| if line.starts_with(CLUSTER_ID) { id.as_str() } else { line });
    let text = lines.fold(String::new(), |text, line| text + line + "\n");
    Ok(std::fs::write(properties, text)?)
}

/// Keeps a port for each server that no other fnhost of this program is given. Where fnhost chooses, it takes the usual one where
/// that is free, and so also while a test has killed the server of another that comes back there: its clients would find this one.
fn choose_ports(run: &Path, servers: &[&str]) -> anyhow::Result<()> {
    std::fs::create_dir_all(run)?;
    for server in servers {
        std::fs::write(run.join(format!("{server}.port")), format!("{}\n", free_port()?))?;
    }
    Ok(())
}

/// Starts servers on an empty directory, and stops them.
async fn make(archives: &Path) -> anyhow::Result<Folder> {
    let folder = Folder::new()?;
    let work = folder.path().join(KAFKA_WORK);
    std::fs::create_dir_all(&work)?;
    std::fs::create_dir_all(archives)?;
    let kept = found(archives)?;
    for archive in &kept {
        std::os::unix::fs::symlink(archive, work.join(archive.file_name().context("a name")?))?;
    }
    fnhost_embedded::start(Options::new(folder.path())).await.context("set up private servers")?.stop().await;
    // One that was made just now is kept from run to run, and linked to, since it is larger than all the rest.
    for archive in found(&work)?.iter().filter(|archive| !archive.is_symlink()) {
        let name = archive.file_name().context("a name")?;
        let (to, part) = (archives.join(name), archives.join(format!("{}.part", std::process::id())));
        std::fs::copy(archive, &part)?;
        std::fs::rename(&part, &to)?;
        std::fs::remove_file(archive)?;
        std::os::unix::fs::symlink(to, archive)?;
    }
    Ok(folder)
}

/// The archives of classes in a folder.
fn found(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let archives = entries.into_iter().map(|entry| entry.path()).filter(|path| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(ARCHIVE_PREFIX.as_bytes()))
    });
    Ok(archives.collect())
}

/// With owners, modes and links: Postgres refuses a cluster of somebody else.
fn copy(from: &Path, into: &Path) -> anyhow::Result<()> {
    let copied = Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(into).output()?;
    anyhow::ensure!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    Ok(())
}
