//! The data directory: its lock, its folders, and the secrets generated once.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{Error, PrivateKafka};

/// An opened data directory. Whoever has this value is alone on it.
#[derive(Debug)]
pub(super) struct DataDir {
    path: PathBuf,
    /// Held by an open file, so the kernel frees it however the process ends: a lock file left over means nothing.
    lock: File,
}

impl Drop for DataDir {
    /// Unlocks by name: a process that another thread has forked, and that has not come to its program yet, has a copy of the open file,
    /// and would hold the lock beyond the closing of ours.
    fn drop(&mut self) {
        // Where that fails, closing unlocks as well.
        let _ = self.lock.unlock();
    }
}

impl DataDir {
    /// Creates the directory where missing and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        // Readable by others on purpose: the account that runs the servers has to reach their folders below.
        create_folder(path, 0o755)?;
        let path = path.canonicalize().map_err(Error::at("open", path))?;
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(Error::at("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // The pid only makes the message better.
                let _ = lock.read_to_string(&mut pid);
                let holder =
                    if pid.trim().is_empty() { "pid unknown".into() } else { format!("pid {}", pid.trim()) };
                return Err(Error::InUse { directory: path, holder });
            }
            Err(TryLockError::Error(source)) => return Err(Error::at("lock", &lock_path)(source)),
        }
        lock.set_len(0).map_err(Error::at("write", &lock_path))?;
        writeln!(lock, "{}", std::process::id()).map_err(Error::at("write", &lock_path))?;
        let directory = Self { path, lock };
        for folder in [directory.run(), directory.logs()] {
            closed_folder(&folder)?;
        }
        Ok(directory)
    }

    /// The directory itself, absolute and without links.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn run(&self) -> PathBuf {
        self.path.join("run")
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }
}

/// The secret `name` of a data directory: 64 hex digits (244 random bits), generated at the first call and kept in
/// `<data_dir>/secrets/<name>`, readable by its owner alone.
///
/// # Errors
/// The file can neither be read nor created.
pub fn secret(data_dir: &Path, name: &str) -> Result<String, Error> {
    let folder = data_dir.join("secrets");
    // Only the secrets are closed to others, not the directory, where this makes it.
    create_folder(data_dir, 0o755)?;
    create_folder(&folder, 0o700)?;
    let path = folder.join(name);
    match fs::read_to_string(&path) {
        Ok(secret) => return Ok(secret.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(Error::at("read", &path)(source)),
    }
    let secret = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    write_file(&path, &secret, 0o600)?;
    Ok(secret)
}

/// The file of that secret, absolute; generated where it is not there yet.
///
/// # Errors
/// As [`secret`].
pub fn secret_file(data_dir: &Path, name: &str) -> Result<PathBuf, Error> {
    secret(data_dir, name)?;
    let path = data_dir.join("secrets").join(name);
    path.canonicalize().map_err(Error::at("open", &path))
}

/// Addresses of the private servers of a data directory on which an fnhost runs.
#[derive(Debug, Clone)]
pub struct Attached {
    /// URL of the database as its owner, password included; none where that fnhost uses another database.
    pub database_url: Option<String>,
    /// Kafka, and how to log in there; none where that fnhost uses another Kafka, or none.
    pub kafka: Option<PrivateKafka>,
    directory: PathBuf,
}

impl Attached {
    /// Where the service of this name is, `host:port`, where it has ever run there.
    pub fn service(&self, name: &str) -> Option<String> {
        let file = super::service::port_file(&self.directory.join("run"), name);
        Some(format!("127.0.0.1:{}", fs::read_to_string(file).ok()?.trim()))
    }
}

/// Finds the private servers of the fnhost that runs on `data_dir`, for commands beside it.
///
/// # Errors
/// No fnhost runs there.
pub fn attach(data_dir: &Path) -> Result<Attached, Error> {
    if !is_locked(data_dir) {
        return Err(Error::NotRunning { directory: data_dir.to_owned() });
    }
    let line = |path: PathBuf| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let port = |name: &str| line(data_dir.join("run").join(name));
    let password = line(data_dir.join("secrets").join("postgres"));
    Ok(Attached {
        database_url: port("postgres.port")
            .zip(password)
            .map(|(port, password)| super::postgres::database_url(&password, &port)),
        kafka: port("kafka.port").map(|port| PrivateKafka::new(format!("127.0.0.1:{port}"), data_dir)),
        directory: data_dir.to_owned(),
    })
}

/// Whether an fnhost runs on the directory.
pub(super) fn is_locked(data_dir: &Path) -> bool {
    let Ok(lock) = File::open(data_dir.join("lock")) else { return false };
    let locked = matches!(lock.try_lock(), Err(TryLockError::WouldBlock));
    if !locked {
        let _ = lock.unlock();
    }
    locked
}

/// Creates a folder and its parents; one that exists keeps its mode.
pub(super) fn create_folder(path: &Path, mode: u32) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(Error::at("create folder", path))?;
    // The mode asked for is cut by the umask.
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Error::at("set the mode of", path))
}

/// Creates a folder and its parents that no other account enters; one that exists is closed too.
pub(super) fn closed_folder(path: &Path) -> Result<(), Error> {
    const OWNER_ALONE: u32 = 0o700;
    create_folder(path, OWNER_ALONE)?;
    fs::set_permissions(path, Permissions::from_mode(OWNER_ALONE)).map_err(Error::at("set the mode of", path))
}

/// Writes a file as a whole or not at all: a crash never leaves half of it under its name.
pub(super) fn write_file(path: &Path, content: &str, mode: u32) -> Result<(), Error> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let write = || -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(mode);
        // In a folder of the account that runs a server, a link would have root write elsewhere.
        let mut file = options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32).open(&part)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().map_err(Error::at("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner_and_a_left_lock_file_is_no_owner() {
        let path = std::env::temp_dir().join(format!("fnhost-directory-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("lock"), "99999999\n").unwrap();
        let first = DataDir::open(&path).unwrap();
        let Err(Error::InUse { holder, .. }) = DataDir::open(&path) else {
            panic!("the second open must be refused")
        };
        assert_eq!(holder, format!("pid {}", std::process::id()));
        // What a process has that was forked and runs no program of its own yet.
        let copy = first.lock.try_clone().unwrap();
        drop(first);
        DataDir::open(&path).unwrap();
        drop(copy);
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn folders_are_closed_to_others_also_those_of_before() {
        let path = std::env::temp_dir().join(format!("fnhost-closed-{}", uuid::Uuid::new_v4()));
        let mode = |name: &str| fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
        create_folder(&path.join("logs"), 0o755).unwrap();
        drop(DataDir::open(&path).unwrap());
        closed_folder(&path.join("services/gateway")).unwrap();
        for name in ["logs", "run", "services", "services/gateway"] {
            assert_eq!(mode(name), 0o700, "{name}");
        }
        // The account that runs the servers passes it on the way to their folders.
        assert_eq!(mode(""), 0o755);
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_secret_is_made_once_and_closed_to_others() {
        let path = std::env::temp_dir().join(format!("fnhost-secret-{}", uuid::Uuid::new_v4()));
        let first = secret(&path, "roles").unwrap();
        assert_eq!(first.len(), 64);
        assert_eq!(first, secret(&path, "roles").unwrap());
        assert_ne!(first, secret(&path, "postgres").unwrap());
        let mode = fs::metadata(path.join("secrets/roles")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(&path).unwrap();
    }
}
