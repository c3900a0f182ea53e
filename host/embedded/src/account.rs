//! The account that runs Postgres, which refuses to run as root.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Error;

/// Accounts tried in this order when fnhost runs as root.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

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
                    "Postgres does not run as root and there is no account to run it as (looked for {}): create one with \
                     `useradd --system postgres`, or run fnhost as an ordinary user",
                    CANDIDATES.join(", ")
                ),
            }),
        }
    }

    /// The owner of an existing file or folder, unless that is root.
    pub(super) fn owner(metadata: &Metadata) -> Option<Self> {
        (metadata.uid() != 0).then(|| Self { uid: metadata.uid(), gid: metadata.gid() })
    }

    /// The first folder on the way to `path` that this account may not enter.
    pub(super) fn stopped_at(self, path: &Path) -> Option<PathBuf> {
        let may_enter = |folder: &&Path| {
            fs::metadata(folder).is_ok_and(|found| self.may_enter(found.uid(), found.gid(), found.mode()))
        };
        path.ancestors()
            .filter(|folder| folder.exists())
            .find(|folder| !may_enter(folder))
            .map(Path::to_owned)
    }

    /// The class of permission bits that counts is the first that applies, as in the kernel.
    fn may_enter(self, uid: u32, gid: u32, mode: u32) -> bool {
        let bit = match () {
            () if uid == self.uid => 0o100,
            () if gid == self.gid => 0o010,
            () => 0o001,
        };
        mode & bit != 0
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
            assert_eq!(account.may_enter(uid, gid, mode), may, "owner {uid}, group {gid}, mode {mode:o}");
        }
    }
}
