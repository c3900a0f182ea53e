//! Files that are there whole or not at all, and those that only their owner reads.

use anyhow::Context as _;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The mode of a file with a secret in it.
const PRIVATE_FILE: u32 = 0o600;
/// The mode of a folder of such files.
const PRIVATE_FOLDER: u32 = 0o700;

/// Writes a file that only its owner reads, under another name first: whoever opens it finds the old text or the new one.
///
/// # Errors
/// The folder is missing, full or closed; the error names the file.
pub fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let part = part_of(path);
    let write = || {
        // One that is left from a run that was killed; not written into, since it could have another mode, or be a link.
        if part.symlink_metadata().is_ok() {
            fs::remove_file(&part)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(&part)?;
        file.write_all(text.as_bytes())?;
        // What it says cannot be made a second time.
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Makes a folder that only its owner enters. One that is there keeps its mode.
///
/// # Errors
/// It cannot be made; the error names it.
pub fn private_folder(path: &Path) -> anyhow::Result<()> {
    folder(path, PRIVATE_FOLDER)
}

/// Makes a folder that everybody may enter. One that is there keeps its mode.
///
/// # Errors
/// It cannot be made; the error names it.
pub fn open_folder(path: &Path) -> anyhow::Result<()> {
    folder(path, 0o755)
}

fn folder(path: &Path, mode: u32) -> anyhow::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let make = || {
        DirBuilder::new().recursive(true).mode(mode).create(path)?;
        // The mode asked for is cut by the umask.
        fs::set_permissions(path, Permissions::from_mode(mode))
    };
    make().with_context(|| format!("cannot make the folder {}", path.display()))
}

/// Reads a text file.
///
/// # Errors
/// It is not there, or no text; the error names it.
pub fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Copies what was built to where it is used. One that is the same keeps its time, so that nobody who watches it is woken, and
/// nobody reads a half-written one.
///
/// # Errors
/// The file is not there, or the copy cannot be written.
pub fn install(built: &Path, to: &Path) -> anyhow::Result<()> {
    let copy = || {
        let new = fs::read(built)?;
        if fs::read(to).is_ok_and(|old| old == new) {
            return Ok(());
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        let part = part_of(to);
        fs::copy(built, &part)?;
        fs::rename(&part, to)
    };
    copy().with_context(|| format!("cannot copy {} to {}", built.display(), to.display()))
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().expect("it is there").permissions().mode() & 0o7777
    }

    #[test]
    fn a_secret_is_its_owners_alone() {
        let scratch = Scratch::new();
        let folder = scratch.path().join("a/keys");
        private_folder(&folder).expect("a folder");
        let file = folder.join("secret");
        // What a killed run left: open to all, and a link to a file of somebody else.
        let other = scratch.path().join("other");
        fs::write(&other, "untouched").expect("a file");
        std::os::unix::fs::symlink(&other, folder.join("secret.part")).expect("a link");
        write_private(&file, "first").expect("it is written");
        write_private(&file, "second").expect("it is replaced");
        assert_eq!((mode(&folder), mode(&file)), (0o700, 0o600));
        assert_eq!(read(&file).expect("it is there"), "second");
        assert_eq!(read(&other).expect("it is there"), "untouched");
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 1, "no other name is left");
    }

    #[test]
    fn a_folder_that_is_there_keeps_its_mode() {
        let scratch = Scratch::new();
        let folder = scratch.path().join("data");
        open_folder(&folder).expect("a folder");
        private_folder(&folder).expect("it is there");
        assert_eq!(mode(&folder), 0o755);
    }

    #[test]
    fn the_same_file_keeps_its_time() {
        let scratch = Scratch::new();
        let (built, to) = (scratch.path().join("built"), scratch.path().join("functions/copy"));
        fs::write(&built, "one").expect("a file");
        fs::set_permissions(&built, Permissions::from_mode(0o755)).expect("a mode");
        install(&built, &to).expect("it is copied");
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        let set_time = || fs::File::options().write(true).open(&to)?.set_modified(long_ago);
        set_time().expect("a time");
        install(&built, &to).expect("nothing is to be done");
        assert_eq!(to.metadata().and_then(|about| about.modified()).expect("a time"), long_ago);
        fs::write(&built, "two").expect("a file");
        install(&built, &to).expect("it is copied");
        assert_eq!((read(&to).expect("it is there").as_str(), mode(&to)), ("two", 0o755));
    }
}
