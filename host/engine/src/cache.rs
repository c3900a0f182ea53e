//! Precompiled images on disk, so that only the first start compiles.
//!
//! An image is found by the SHA-256 of its component and by what Wasmtime says its compiled form depends on
//! (version, settings, processor). Beside it lies its own SHA-256: an image that a crash cut short, or that
//! the disk damaged, is compiled again instead of run. The images that were used last are kept, up to
//! [`MAX_IMAGES`].

use std::ffi::OsStr;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;

use super::error::LoadError;

/// Permissions of the directory: who can write an image can run code as us.
const DIRECTORY_MODE: u32 = 0o700;
/// Permission bits that would let others in.
const OTHERS_MASK: u32 = 0o077;
/// Images that are kept, of 3 MB each for a component of the order system: what runs, and versions to go back to.
const MAX_IMAGES: usize = 64;
/// File name extension of an image.
const IMAGE: &str = "cwasm";
/// File name extension of an image's checksum.
const CHECKSUM: &str = "sha256";
/// File name extension of what is being written.
const UNFINISHED: &str = "tmp";
/// Age of an unfinished file that nobody will finish.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A directory of images for one engine.
pub(super) struct Cache {
    directory: PathBuf,
    compatibility: u64,
}

impl Cache {
    /// Creates the directory where missing, and refuses one that others could write to.
    pub fn open(directory: PathBuf, engine: &wasmtime::Engine) -> Result<Self, LoadError> {
        let fault = |reason: String| LoadError::Cache { directory: directory.clone(), reason };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(&directory)
            .map_err(|error| fault(error.to_string()))?;
        let metadata = fs::metadata(&directory).map_err(|error| fault(error.to_string()))?;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(fault("it belongs to another user; choose another directory".to_owned()));
        }
        if metadata.mode() & OTHERS_MASK != 0 {
            return Err(fault(format!(
                "other users have access to it; run: chmod 700 {}",
                directory.display()
            )));
        }
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { directory, compatibility: hasher.finish() })
    }

    /// Where the images are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The image of a component whose bytes have this digest; `None` where it must be compiled.
    pub fn load(&self, engine: &wasmtime::Engine, digest: &str) -> Option<Component> {
        let image = self.image(digest);
        let expected = fs::read_to_string(checksum_of(&image)).ok()?;
        let bytes = fs::read(&image).ok()?;
        if expected != hex(&Sha256::digest(&bytes)) {
            tracing::warn!(image = %image.display(), "a precompiled image is damaged; compiling again");
            return None;
        }
        drop(bytes);
        match deserialize(engine, &image) {
            Ok(component) => {
                // Used last, and so kept longest; where that fails, it is only compiled again some day.
                let _ = fs::File::open(&image).and_then(|file| file.set_modified(SystemTime::now()));
                Some(component)
            }
            Err(error) => {
                tracing::warn!(image = %image.display(), "cannot load a precompiled image; compiling again: {error:#}");
                None
            }
        }
    }

    /// Keeps the image of a component, and those that were used last beside it. A failure costs a compilation at the next
    /// start, nothing else.
    pub fn store(&self, digest: &str, component: &Component) -> io::Result<()> {
        let image = self.image(digest);
        let bytes = component.serialize().map_err(io::Error::other)?;
        // The checksum first goes away and comes last: without it the image is not there.
        remove_if_there(&checksum_of(&image))?;
        write_atomically(&image, &bytes)?;
        write_atomically(&checksum_of(&image), hex(&Sha256::digest(&bytes)).as_bytes())?;
        self.clear_out()
    }

    /// Removes the images beyond [`MAX_IMAGES`], also those of other versions of fnhost, and what a crash left unfinished.
    /// A process that has an image mapped goes on with it.
    fn clear_out(&self) -> io::Result<()> {
        let mut images = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            // Another process may clear out at the same time.
            let Ok(modified) = fs::metadata(&path).and_then(|metadata| metadata.modified()) else { continue };
            match path.extension().and_then(OsStr::to_str) {
                Some(IMAGE) => images.push((modified, path)),
                Some(UNFINISHED) if modified.elapsed().is_ok_and(|age| age > ABANDONED) => {
                    remove_if_there(&path)?
                }
                _ => {}
            }
        }
        images.sort_unstable_by(|a, b| b.cmp(a));
        for (_, image) in images.get(MAX_IMAGES..).unwrap_or_default() {
            remove_if_there(&checksum_of(image))?;
            remove_if_there(image)?;
        }
        Ok(())
    }

    fn image(&self, digest: &str) -> PathBuf {
        self.directory.join(format!("{digest}-{:016x}.{IMAGE}", self.compatibility))
    }
}

fn checksum_of(image: &Path) -> PathBuf {
    image.with_extension(CHECKSUM)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes a file under another name and renames it, so that a reader sees all of it or none.
fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{serial}.{UNFINISHED}", std::process::id()));
    let written = fs::File::create(&temporary).and_then(|mut file| file.write_all(bytes));
    let renamed = written.and_then(|()| fs::rename(&temporary, path));
    if renamed.is_err() {
        // What could not be written whole is of no use; that it may stay is no reason for another error.
        let _ = fs::remove_file(&temporary);
    }
    renamed
}

/// Maps an image into memory.
#[allow(unsafe_code)]
fn deserialize(engine: &wasmtime::Engine, image: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the file must be what `Component::serialize` wrote and must not change while it is mapped.
    // It lies in a directory that only this user can write to, its checksum was just compared with the one
    // written after it, and this module replaces images by renaming over them, never in place.
    unsafe { Component::deserialize_file(engine, image) }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
