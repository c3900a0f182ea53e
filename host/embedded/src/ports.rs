//! Loopback ports: the usual one where it is free, otherwise another, and the same one again at the next start.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::Path;

use super::Error;
use super::directory::write_file;

/// Where another port is looked for: below Linux's ephemeral range, whose ports outgoing connections take at random.
const OTHERS: Range<u16> = 20_000..32_000;
/// Ports tried before the search is given up.
const TRIES_MAX: u32 = 1_000;

/// The port kept in `file`, or else `usual`; another one where that is taken. Stored in `file`.
pub(super) fn choose(file: &Path, usual: u16) -> Result<u16, Error> {
    let kept = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
    let wanted = kept.unwrap_or(usual);
    let port = if is_free(wanted) { wanted } else { another()? };
    if port != wanted {
        tracing::info!(wanted, port, "the port is taken; using another one");
    }
    if kept != Some(port) {
        write_file(file, &format!("{port}\n"), 0o644)?;
    }
    Ok(port)
}

/// Stores another port in `file`, for a start that lost the race for the first one.
pub(super) fn replace(file: &Path) -> Result<(), Error> {
    write_file(file, &format!("{}\n", another()?), 0o644)
}

/// Whether nobody listens on the loopback port.
fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A free port, searched from a random place, so that two fnhosts starting at once rarely choose the same.
fn another() -> Result<u16, Error> {
    for _ in 0..TRIES_MAX {
        let random = uuid::Uuid::new_v4().as_u128() % u128::from(OTHERS.end - OTHERS.start);
        let port = OTHERS.start + u16::try_from(random).unwrap_or_default();
        if is_free(port) {
            return Ok(port);
        }
    }
    Err(Error::Unsuitable {
        what: format!("no free port found on 127.0.0.1 between {} and {}", OTHERS.start, OTHERS.end),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_replaced_and_the_replacement_kept() {
        let file = std::env::temp_dir().join(format!("fnhost-port-{}", uuid::Uuid::new_v4()));
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let usual = taken.local_addr().unwrap().port();
        let chosen = choose(&file, usual).unwrap();
        assert_ne!(chosen, usual);
        drop(taken);
        assert_eq!(choose(&file, usual).unwrap(), chosen, "a port that was chosen once stays");
        std::fs::remove_file(&file).unwrap();
    }
}
