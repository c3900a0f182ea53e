//! The account that runs the private servers where fnhost is root: Postgres refuses to run as root, and Kafka need not.

use std::fs::{self, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use super::Error;
use super::directory::{DataDir, create_folder};

/// Accounts tried in this order when fnhost runs as root.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];
/// Where things go that the account could not reach where they belong: folders of servers, Kafka's jars.
pub(super) const ELSEWHERE: &str = "/var/lib/fnhost";
/// Bits of a class of permissions.
const READ: u32 = 0o4;
const ENTER: u32 = 0o1;

/// An account of the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// The account to change to, or none where fnhost does not run as root.
    pub(super) fn unprivileged() -> Result<Option<Self>, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let path = Path::new("/etc/passwd");
        let passwd = fs::read_to_string(path).map_err(Error::at("read", path))?;
        match CANDIDATES.iter().find_map(|name| find(&passwd, name)) {
            Some(account) => Ok(Some(account)),
            None => Err(Error::Unsuitable {
                what: format!(
                    "the private servers do not run as root and there is no account to run them as (looked for {}): create one \
                     with `useradd --system postgres`, or run fnhost as an ordinary user",
                    CANDIDATES.join(", ")
                ),
            }),
        }
    }

    /// The owner of an existing file or folder, unless that is root.
    pub(super) fn owner(metadata: &Metadata) -> Option<Self> {
        (metadata.uid() != 0).then(|| Self { uid: metadata.uid(), gid: metadata.gid() })
    }

    /// Gives a file or folder to this account, and not what it is a link to.
    pub(super) fn own(self, path: &Path) -> Result<(), Error> {
        lchown(path, Some(self.uid), Some(self.gid)).map_err(Error::at("change the owner of", path))
    }

    /// Lets this account pass a folder that stays root's, so that it can exchange nothing in there that root then writes.
    pub(super) fn let_pass(self, folder: &Path) -> Result<(), Error> {
        lchown(folder, None, Some(self.gid)).map_err(Error::at("change the group of", folder))?;
        fs::set_permissions(folder, Permissions::from_mode(0o710))
            .map_err(Error::at("set the mode of", folder))
    }

    /// Gives a folder to this account with all that is in it, unless it has it already. The folder above it has to be closed to the
    /// account: nothing in it can then be exchanged meanwhile for a link to a file of somebody else.
    pub(super) fn own_all(self, folder: &Path) -> Result<(), Error> {
        let found = fs::symlink_metadata(folder).map_err(Error::at("open", folder))?;
        if Self::owner(&found) == Some(self) {
            return Ok(());
        }
        for entry in fs::read_dir(folder).map_err(Error::at("read", folder))? {
            let entry = entry.map_err(Error::at("read", folder))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.own_all(&entry.path())?;
            } else {
                self.own(&entry.path())?;
            }
        }
        self.own(folder)
    }

    /// The first folder on the way to `path`, itself included, that this account may not enter.
    pub(super) fn stopped_at(self, path: &Path) -> Option<PathBuf> {
        path.ancestors()
            .filter(|folder| folder.exists())
            .find(|folder| !self.may(ENTER, folder))
            .map(Path::to_owned)
    }

    /// Whether it may read a file or list a folder, once it is there.
    pub(super) fn may_read(self, path: &Path) -> bool {
        self.may(READ, path)
    }

    fn may(self, right: u32, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|found| self.has(right, found.uid(), found.gid(), found.mode()))
    }

    /// The class of permission bits that counts is the first that applies, as in the kernel.
    fn has(self, right: u32, uid: u32, gid: u32, mode: u32) -> bool {
        let class = match () {
            () if uid == self.uid => 6,
            () if gid == self.gid => 3,
            () => 0,
        };
        (mode >> class) & right != 0
    }
}

/// The folder `name` of a server, made where missing: in the data directory where its account can get there, else elsewhere with a
/// link to it. `server` is its name in messages.
pub(super) fn home(
    directory: &DataDir,
    name: &str,
    server: &str,
    account: Option<Account>,
) -> Result<PathBuf, Error> {
    let link = directory.path().join(name);
    let closed = account.and_then(|account| account.stopped_at(directory.path()));
    let found = fs::symlink_metadata(&link).ok();
    // A folder that an earlier fnhost kept as root moves, with what is in it.
    let is_roots = |found: &Metadata| found.is_dir() && Account::owner(found).is_none();
    let moves = closed.is_some() && found.as_ref().is_some_and(is_roots);
    if found.is_none() || moves {
        match closed {
            None => create_folder(&link, 0o700)?,
            Some(closed) => {
                let home = Path::new(ELSEWHERE).join(uuid::Uuid::new_v4().to_string());
                create_folder(Path::new(ELSEWHERE), 0o755)?;
                if moves {
                    let action = format!(
                        "move {} to {} (do it by hand, and link to it)",
                        link.display(),
                        home.display()
                    );
                    fs::rename(&link, &home).map_err(|source| Error::Io { action, source })?;
                } else {
                    create_folder(&home, 0o700)?;
                }
                std::os::unix::fs::symlink(&home, &link).map_err(Error::at("create link", &link))?;
                tracing::warn!(
                    folder = %home.display(),
                    "{server} does not run as root, and its account cannot enter {}: its folder is kept elsewhere, \
                     linked from {}; delete both together",
                    closed.display(),
                    link.display(),
                );
            }
        }
    }
    let home = link.canonicalize().map_err(|source| Error::Io {
        action: format!(
            "open the folder of {server}, {} (remove the link to start with an empty one)",
            link.display()
        ),
        source,
    })?;
    match account.and_then(|account| account.stopped_at(home.parent()?)) {
        None => Ok(home),
        Some(closed) => Err(Error::Unsuitable {
            what: format!(
                "the account that runs {server} cannot enter {}: run `chmod o+x` on it, or choose another --data-dir",
                closed.display()
            ),
        }),
    }
}

fn find(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields.as_slice() {
            [found, _, uid, gid, ..] if *found == name => {
                Some(Account { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
            }
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_an_account() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\nbroken\npostgres:x:101:104:,,,:/var/lib/postgresql:/bin/bash\n";
        assert_eq!(find(passwd, "postgres"), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(find(passwd, "nobody"), None);
    }

    #[test]
    fn enters_by_the_first_class_that_applies() {
        let account = Account { uid: 101, gid: 104 };
        for (uid, gid, mode, may) in [
            (0, 0, 0o755, true),
            (0, 0, 0o700, false),
            (101, 0, 0o700, true),
            (101, 0, 0o077, false),
            (0, 104, 0o710, true),
            (0, 104, 0o701, false),
        ] {
            assert_eq!(account.has(ENTER, uid, gid, mode), may, "owner {uid}, group {gid}, mode {mode:o}");
        }
        assert!(account.has(READ, 0, 0, 0o644) && !account.has(READ, 0, 0, 0o711));
    }

    #[test]
    fn a_root_owned_closed_folder_is_noticed() {
        let nobody = Account { uid: 65_534, gid: 65_534 };
        let folder = std::env::temp_dir().join(format!("fnhost-closed-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        assert_eq!(nobody.stopped_at(&folder.join("not/yet/there")), Some(folder.clone()));
        fs::set_permissions(&folder, Permissions::from_mode(0o711)).unwrap();
        assert_eq!(nobody.stopped_at(&folder.join("not/yet/there")), None);
        fs::remove_dir(&folder).unwrap();
    }
}
