//! Where the host of a data directory is asked, so that commands on the same machine find its token by the address alone.
//!
//! ```text
//! <data-dir>/run/admin                    the admin address of the host that runs there
//! <data-dir>/secrets/admin                its token, mode 0600
//! <state>/fnhost/admin/<port>             the data directory of the host that was last started with that port
//! ```
//!
//! The second kind holds no secret. `<state>` is `$XDG_STATE_HOME`, or `~/.local/state`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::directory::{create_folder, is_locked, secret, write_file};
use super::error::Error;

/// Name of the secret that is the token.
const TOKEN: &str = "admin";

/// The token of a data directory, generated at the first call.
///
/// # Errors
/// As [`secret`].
pub fn admin_token(data_dir: &Path) -> Result<String, Error> {
    secret(data_dir, TOKEN)
}

/// Says where the host is asked that runs on a data directory. Call it with the directory locked.
///
/// # Errors
/// The directory cannot be written. Without a folder for the account's state, commands find the host by its data directory alone.
pub fn announce_admin(data_dir: &Path, address: SocketAddr) -> Result<(), Error> {
    let data_dir = data_dir.canonicalize().map_err(Error::at("open", data_dir))?;
    write_file(&admin_file(&data_dir), &address.to_string(), 0o644)?;
    let pointed = state_folder().and_then(|folder| {
        create_folder(&folder, 0o700).ok()?;
        write_file(&folder.join(address.port().to_string()), data_dir.to_str()?, 0o600).ok()
    });
    if pointed.is_none() {
        tracing::debug!("there is no folder for the account's state: name the data directory to commands");
    }
    Ok(())
}

/// The token of the host that listens on `address`: that of `data_dir`, or of the directory that was announced for the port. It is
/// given out only while a host runs there that said so, so that it is sent to nobody who has merely taken the port.
#[must_use]
pub fn find_admin_token(data_dir: &Path, address: SocketAddr) -> Option<String> {
    let announced = state_folder()
        .and_then(|folder| fs::read_to_string(folder.join(address.port().to_string())).ok())
        .map(|path| PathBuf::from(path.trim()));
    [Some(data_dir.to_owned()), announced]
        .into_iter()
        .flatten()
        .filter(|data_dir| listens(data_dir, address))
        .find_map(|data_dir| fs::read_to_string(data_dir.join("secrets").join(TOKEN)).ok())
        .map(|token| token.trim().to_owned())
}

/// Whether a host runs on the directory, and is asked at that address of this machine.
fn listens(data_dir: &Path, address: SocketAddr) -> bool {
    let here = |address: SocketAddr| address.ip().is_loopback() || address.ip().is_unspecified();
    let Some(own) = fs::read_to_string(admin_file(data_dir)).ok().and_then(|text| text.trim().parse().ok())
    else {
        return false;
    };
    let own: SocketAddr = own;
    own.port() == address.port()
        && (own.ip() == address.ip() || here(own) && here(address))
        && is_locked(data_dir)
}

fn admin_file(data_dir: &Path) -> PathBuf {
    data_dir.join("run").join("admin")
}

fn state_folder() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    Some(state?.join("fnhost").join("admin"))
}

#[cfg(test)]
mod tests {
    use super::super::directory::DataDir;
    use super::*;

    #[test]
    fn a_token_is_given_out_only_for_a_host_that_runs_there() {
        let path = std::env::temp_dir().join(format!("fnhost-announced-{}", uuid::Uuid::new_v4()));
        let directory = DataDir::open(&path).unwrap();
        let token = admin_token(&path).unwrap();
        let at = |text: &str| find_admin_token(&path, text.parse().unwrap());
        // Of a port that no host of this machine has announced.
        assert_eq!(at("127.0.0.1:1"), None);
        fs::write(path.join("run/admin"), "127.0.0.1:1").unwrap();
        for address in ["127.0.0.1:1", "[::1]:1", "0.0.0.0:1"] {
            assert_eq!(at(address).as_ref(), Some(&token), "{address}");
        }
        for address in ["127.0.0.1:2", "192.0.2.1:1"] {
            assert_eq!(at(address), None, "{address}");
        }
        drop(directory);
        assert_eq!(at("127.0.0.1:1"), None, "nobody runs there");
        fs::remove_dir_all(&path).unwrap();
    }
}
