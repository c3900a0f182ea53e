//! Kafka's jars for an account that may not enter the folder that they are in: that is usually in root's home.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use super::Error;
use super::account::Account;
use super::directory::create_folder;

/// The folder itself where the account can read all of it, else one in `shared` with the same files.
pub(super) fn reachable(jars: &Path, account: Option<Account>, shared: &Path) -> Result<PathBuf, Error> {
    let files = files(jars)?;
    match account {
        Some(account) if !is_open(account, jars, &files) => provide(jars, &files, account, shared),
        _ => Ok(jars.to_owned()),
    }
}

fn files(folder: &Path) -> Result<BTreeSet<OsString>, Error> {
    let entries = fs::read_dir(folder).map_err(Error::at("read", folder))?;
    let names = entries.map(|entry| Ok(entry?.file_name()));
    names.collect::<std::io::Result<_>>().map_err(Error::at("read", folder))
}

fn is_open(account: Account, jars: &Path, files: &BTreeSet<OsString>) -> bool {
    account.stopped_at(jars).is_none()
        && account.may_read(jars)
        && files.iter().all(|file| account.may_read(&jars.join(file)))
}

/// Makes a folder with these files that is named by what they are, and so never changes: one for all data directories of the machine.
/// They are further names of the same files where that suffices, and copies on another file system.
fn provide(
    jars: &Path,
    files: &BTreeSet<OsString>,
    account: Account,
    shared: &Path,
) -> Result<PathBuf, Error> {
    let mut contents = DefaultHasher::new();
    for file in files {
        let path = jars.join(file);
        let found = fs::metadata(&path).map_err(Error::at("open", &path))?;
        (file, found.len(), found.modified().ok()).hash(&mut contents);
    }
    let folder = shared.join(format!("kafka-{:016x}", contents.finish()));
    if folder.is_dir() {
        return Ok(folder);
    }
    // Another fnhost may make it at the same time: whichever is ready first counts.
    let new = shared.join(uuid::Uuid::new_v4().to_string());
    create_folder(shared, 0o755)?;
    create_folder(&new, 0o755)?;
    for file in files {
        let (from, to) = (jars.join(file), new.join(file));
        if !account.may_read(&from) || fs::hard_link(&from, &to).is_err() {
            copy(&from, &to).map_err(Error::at("write", &to))?;
        }
    }
    match fs::rename(&new, &folder) {
        Err(_) if folder.is_dir() => fs::remove_dir_all(&new).map_err(Error::at("remove", &new))?,
        renamed => renamed.map_err(Error::at("rename", &new))?,
    }
    Ok(folder)
}

/// With its time, since the archive of classes is good for jars of the same time only.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::copy(from, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o644))?;
    fs::File::options().write(true).open(to)?.set_modified(fs::metadata(from)?.modified()?)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn jars_of_a_closed_folder_are_provided_and_follow_it() {
        let folder = std::env::temp_dir().join(format!("fnhost-jars-{}", uuid::Uuid::new_v4()));
        let (jars, shared) = (folder.join("closed/jars"), folder.join("shared"));
        fs::create_dir_all(&jars).unwrap();
        let write = |name: &str, text: &str, mode: u32| {
            fs::write(jars.join(name), text).unwrap();
            fs::set_permissions(jars.join(name), Permissions::from_mode(mode)).unwrap();
        };
        write("a.jar", "a", 0o644);
        write("b.jar", "b", 0o644);
        // Another than this process runs as, and none that is in the class of its owner or group.
        let me = fs::metadata(&jars).unwrap();
        let other = Account { uid: me.uid() + 1, gid: me.gid() + 1 };
        let reach = || reachable(&jars, Some(other), &shared).unwrap();
        assert_eq!(reach(), jars, "everybody can read it");
        fs::set_permissions(folder.join("closed"), Permissions::from_mode(0o700)).unwrap();
        assert_eq!(reachable(&jars, None, &shared).unwrap(), jars, "it is fnhost's own account");
        let first = reach();
        assert!(first.starts_with(&shared) && other.stopped_at(&first).is_none(), "{}", first.display());
        let number = |path: PathBuf| fs::metadata(path).unwrap().ino();
        for name in ["a.jar", "b.jar"] {
            assert_eq!(number(first.join(name)), number(jars.join(name)), "{name} is the same file");
        }
        assert_eq!(reach(), first);

        // Another version, a file of which is closed itself.
        fs::remove_file(jars.join("a.jar")).unwrap();
        fs::remove_file(jars.join("b.jar")).unwrap();
        write("b.jar", "another", 0o600);
        let second = reach();
        assert_ne!(second, first);
        assert_eq!(files(&second).unwrap(), BTreeSet::from([OsString::from("b.jar")]));
        assert_eq!(fs::read_to_string(second.join("b.jar")).unwrap(), "another");
        assert!(other.may_read(&second.join("b.jar")), "a copy");
        let times = [&jars, &second].map(|folder| fs::metadata(folder.join("b.jar")).unwrap().mtime());
        assert_eq!(times[0], times[1]);
        assert_eq!(fs::read_dir(&shared).unwrap().count(), 2, "nothing else is left there");
        fs::remove_dir_all(&folder).unwrap();
    }
}
