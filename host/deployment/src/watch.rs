//! `fnhost up --watch`: builds what has changed and brings it in.
//!
//! Files are looked at by their times and sizes: that works on every file system and in every container, and a second is soon
//! enough for people.

use super::offer::Offer;
use super::{Deployment, signed};
use fnhost_engine::digest_of;
use fnhost_manifest::{Build, Manifest};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// How often files are looked at. A change is built once they have been quiet for as long.
const INTERVAL: Duration = Duration::from_secs(1);

/// A component whose files are looked at.
#[derive(Debug)]
pub struct Watched {
    component: String,
    /// The component's file.
    source: PathBuf,
    build: Option<Build>,
    /// Folder of the manifest, which build commands and watched files are relative to.
    folder: PathBuf,
}

/// Files with their times and sizes.
type Files = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

impl Watched {
    /// The components of a manifest.
    pub fn all(manifest: &Manifest) -> Vec<Self> {
        let folder = match manifest.path.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let components = manifest.components.values();
        let watched = components.map(|component| Self {
            component: component.id.clone(),
            source: component.source.clone(),
            build: component.build.clone(),
            folder: folder.clone(),
        });
        watched.collect()
    }

    fn workdir(&self) -> PathBuf {
        let workdir = self.build.as_ref().and_then(|build| build.workdir.as_ref());
        workdir.map_or_else(|| self.folder.clone(), |workdir| self.folder.join(workdir))
    }

    /// What a build depends on; without a build, or without `watch`, the component's own file.
    fn files(&self) -> Files {
        let globs: Vec<String> = match &self.build {
            Some(build) if !build.watch.is_empty() => {
                let workdir = self.workdir();
                build.watch.iter().map(|glob| workdir.join(glob).display().to_string()).collect()
            }
            _ => return files([self.source.clone()]),
        };
        files(globs.iter().filter_map(|glob| glob::glob(glob).ok()).flatten().flatten())
    }

    /// Runs the build's commands; false where one failed.
    async fn build(&self) -> bool {
        let Some(build) = self.build.as_ref().filter(|build| !build.watch.is_empty()) else { return true };
        for command in &build.commands {
            tracing::info!(component = self.component, command, "building");
            let mut shell = Command::new("sh");
            // Its output is for the people who wait for it, and results alone go to stdout.
            shell
                .args(["-c", command])
                .current_dir(self.workdir())
                .kill_on_drop(true)
                .stdout(std::io::stderr());
            match shell.status().await {
                Ok(status) if status.success() => {}
                Ok(status) => {
                    tracing::error!(component = self.component, command, %status, "the build failed; the current version keeps running");
                    return false;
                }
                Err(error) => {
                    tracing::error!(component = self.component, command, %error, "cannot build");
                    return false;
                }
            }
        }
        true
    }

    /// Brings the component's file in, where it is another than that of `digest`; answers its digest then.
    async fn offer(&self, deployment: &Deployment, digest: &str) -> Option<String> {
        let wasm = match tokio::fs::read(&self.source).await {
            Ok(wasm) => wasm,
            Err(error) => {
                tracing::error!(component = self.component, file = %self.source.display(), %error, "cannot read the component");
                return None;
            }
        };
        let built = digest_of(&wasm);
        if built == digest {
            tracing::info!(component = self.component, "the build changed nothing");
            return None;
        }
        let signature = signed::beside(&self.source).await.ok().flatten();
        let origin = self.source.display().to_string();
        let offer = Offer { wasm, signature, origin, found: true, ..Offer::default() };
        if let Err(error) = deployment.offer(&self.component, offer).await {
            tracing::error!(
                component = self.component,
                error = fnhost_types::causes::chain(&error),
                "the new version was refused; the current version keeps running"
            );
        }
        Some(built)
    }
}

fn files(paths: impl IntoIterator<Item = PathBuf>) -> Files {
    let look = |path: PathBuf| {
        let metadata = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
        Some((path, (metadata.modified().ok(), metadata.len())))
    };
    paths.into_iter().filter_map(look).collect()
}

/// What is known of a component whose files are looked at.
struct Known {
    /// As they were when it was last built.
    files: Files,
    /// Of the component that was made of them.
    digest: String,
}

/// Watches one component until `stop`, also through panics: a change that was in hand then is taken up again.
async fn watch_one<O>(watched: &Watched, known: Known, stop: &CancellationToken, offer: impl Fn(String) -> O)
where
    O: Future<Output = Option<String>>,
{
    let known = Mutex::new(known);
    fnhost_metrics::supervise("watch", &watched.component, || look_on(watched, &known, stop, &offer)).await;
}

async fn look_on<O>(
    watched: &Watched,
    known: &Mutex<Known>,
    stop: &CancellationToken,
    offer: &impl Fn(String) -> O,
) where
    O: Future<Output = Option<String>>,
{
    let look = || tokio::task::block_in_place(|| watched.files());
    let mut known = known.lock().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let mut seen = look();
        if seen == known.files {
            continue;
        }
        loop {
            tokio::time::sleep(INTERVAL).await;
            let later = look();
            if later == seen {
                break;
            }
            seen = later;
        }
        let built = tokio::select! {
            () = stop.cancelled() => return,
            built = watched.build() => built,
        };
        if built && let Some(offered) = offer(known.digest.clone()).await {
            known.digest = offered;
        }
        known.files = seen;
    }
}

/// Watches these components until `stop`.
pub fn watch(
    deployment: Deployment,
    watched: Vec<Watched>,
    stop: CancellationToken,
) -> BoxFuture<'static, ()> {
    // Boxed, so that it is compiled here and not in the crate that awaits it.
    Box::pin(async move {
        let watching = watched.iter().filter_map(|one| {
            let running = deployment.slots().get(&one.component)?.running();
            let files = tokio::task::block_in_place(|| one.files());
            let known = Known { files, digest: running.current.version.component.digest().to_owned() };
            let deployment = &deployment;
            let offer = move |digest: String| async move { one.offer(deployment, &digest).await };
            Some(watch_one(one, known, &stop, offer))
        });
        futures::future::join_all(watching).await;
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    const MANIFEST: &str = r#"
spin_manifest_version = 2
[application]
name = "test"
[component.built]
source = "built.wasm"
[component.built.build]
command = "true"
workdir = "code"
watch = ["src/**/*.rs", "Cargo.toml"]
[component.plain]
source = "plain.wasm"
[[trigger.http]]
route = "/one"
component = "built"
[[trigger.http]]
route = "/two"
component = "plain"
"#;

    #[test]
    fn a_change_of_what_is_watched_is_seen_and_no_other() {
        let folder = std::env::temp_dir().join(format!("fnhost-watch-{}", uuid::Uuid::new_v4()));
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("code/src/deep/a.rs", "1");
        write("code/Cargo.toml", "1");
        write("plain.wasm", "1");
        let manifest = Manifest::parse(&folder.join("spin.toml"), MANIFEST).unwrap();
        let watched = Watched::all(&manifest);
        let look = || watched.iter().map(Watched::files).collect::<Vec<_>>();
        let before = look();
        assert_eq!(before.iter().map(BTreeMap::len).collect::<Vec<_>>(), [2, 1]);
        for (name, changes) in [
            ("code/README.md", [false, false]),
            ("built.wasm", [false, false]),
            ("code/src/b.rs", [true, false]),
            ("code/src/deep/a.rs", [true, false]),
            ("plain.wasm", [false, true]),
        ] {
            let before = look();
            write(name, "another text");
            let after = look();
            assert_eq!([before[0] != after[0], before[1] != after[1]], changes, "{name}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// Bound of what is awaited here.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test(flavor = "multi_thread")]
    async fn a_change_that_ends_the_watch_by_a_panic_is_taken_up_again() {
        let folder = std::env::temp_dir().join(format!("fnhost-watch-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("plain.wasm"), "1").unwrap();
        let manifest = Manifest::parse(&folder.join("spin.toml"), MANIFEST).unwrap();
        let watched = Watched::all(&manifest).into_iter().find(|one| one.component == "plain").unwrap();
        let known = Known { files: watched.files(), digest: "former".to_owned() };
        std::fs::write(folder.join("plain.wasm"), "another text").unwrap();
        let (stop, (offered, mut offers)) = (CancellationToken::new(), tokio::sync::mpsc::channel(9));
        let ending = stop.clone();
        let watching = tokio::spawn(async move {
            let calls = AtomicU32::new(0);
            let offer = |digest: String| {
                let (offered, call) = (offered.clone(), calls.fetch_add(1, Ordering::AcqRel));
                async move {
                    offered.send(digest).await.unwrap();
                    assert!(call > 0, "a fault of the host, for this test");
                    Some("new".to_owned())
                }
            };
            watch_one(&watched, known, &ending, offer).await;
        });
        let mut next = async || tokio::time::timeout(PATIENCE, offers.recv()).await.expect("an offer");
        assert_eq!(next().await.as_deref(), Some("former"));
        assert_eq!(next().await.as_deref(), Some("former"), "the same change, once more");
        stop.cancel();
        tokio::time::timeout(PATIENCE, watching).await.expect("it ends").expect("no panic");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
