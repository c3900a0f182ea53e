//! Who has to wait before the next attempt to log in, and for how long. Pure.
//!
//! An attempt is counted before the password is looked at, so that many at a time are counted too, and given back where
//! it was right. It counts for three subjects:
//!
//! - the account from this network: somebody who tries passwords waits longer and longer, and locks out nobody else;
//! - the account from anywhere: slows down whoever tries from many networks. It does not count for, and does not hold
//!   back, a network that the account has logged in from, so that its owner is not locked out;
//! - the network: slows down whoever tries one password at many accounts.
//!
//! Accounts that do not exist are counted as those that do.

use base64ct::{Base64UrlUnpadded, Encoding};
use fnhost_sdk::http::Request;
use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// How long a failure is remembered after the last one, in seconds.
pub const MEMORY_SECONDS: i64 = 24 * 60 * 60;
/// Rows of others that are cleared with each attempt, where they are forgotten: more than an attempt makes.
pub const CLEARED_ROWS_MAX: i64 = 16;

/// The header that Spin and fnhost set to the client's address and port, in place of whatever the client sent.
const PEER_HEADER: &str = "spin-client-addr";
/// The header that each proxy appends the address to that it was called from.
const FORWARDED_HEADER: &str = "x-forwarded-for";
/// Bits of an IPv6 address that name a network: what one customer of a provider is given at least.
const IPV6_NETWORK_BITS: u32 = 64;

/// How many failures of a subject are free, and how long the longest wait is. The first is a second, and each further
/// failure doubles it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Failures before there is a wait.
    pub free: i32,
    /// Longest wait, seconds.
    pub wait_max: i32,
}

/// Of an account from one network.
pub const PAIR: Limit = Limit { free: 5, wait_max: 15 * 60 };
/// Of an account from all networks that it has not logged in from.
pub const ACCOUNT: Limit = Limit { free: 20, wait_max: 60 };
/// Of a network. Many people can share one.
pub const NETWORK: Limit = Limit { free: 100, wait_max: 60 };

/// Of mails to an address that anybody can ask for. Nothing gives these back: a wait means that a mail has just gone.
pub const MAIL: Limit = Limit { free: 3, wait_max: 60 * 60 };

/// What an attempt counts for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its name in the database.
    pub name: String,
    /// Free failures and longest wait of the subject.
    pub limit: Limit,
    /// Whether a network that the account has logged in from is spared.
    pub spares_known: bool,
}

/// What a login at this normalised address counts for: the pair, the account, the network.
#[must_use]
pub fn of_login(email: &str, network: &str) -> [Subject; 3] {
    let subject = |parts: &[&str], limit, spares_known| Subject { name: digest(parts), limit, spares_known };
    [
        subject(&["pair", email, network], PAIR, false),
        subject(&["account", email], ACCOUNT, true),
        of_registration(network),
    ]
}

/// What a registration counts for, and whatever else tells nobody whether there is an account: one that makes no account is
/// not given back to its network.
#[must_use]
pub fn of_registration(network: &str) -> Subject {
    Subject { name: digest(&["network", network]), limit: NETWORK, spares_known: false }
}

/// What a mail to this normalised address counts for, whether it has an account or not.
#[must_use]
pub fn of_mail(email: &str) -> Subject {
    Subject { name: digest(&["mail", email]), limit: MAIL, spares_known: false }
}

/// The name under which a network is kept with a login.
#[must_use]
pub fn name_of_network(network: &str) -> String {
    digest(&["login", network])
}

/// The network of whoever makes the request, as text.
///
/// `proxies` is how many proxies stand in front, each of which appends to `x-forwarded-for`: the entry that the
/// outermost one wrote counts, and what a client wrote itself stands to the left of it. With none the header is
/// ignored. A request that did not pass all of them counts for the one that connected.
#[must_use]
pub fn network(request: &Request, proxies: usize) -> String {
    let forwarded = proxies.checked_sub(1).and_then(|skipped| {
        let values = request.headers.iter().filter(|(name, _)| name == FORWARDED_HEADER);
        let values: Vec<&str> = values.filter_map(|(_, value)| std::str::from_utf8(value).ok()).collect();
        values.iter().flat_map(|value| value.split(',')).rev().nth(skipped).and_then(address)
    });
    let peer = || request.header(PEER_HEADER).ok().flatten().and_then(address);
    match forwarded.or_else(peer) {
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => {
            let network = u128::from(address) & (u128::MAX << (u128::BITS - IPV6_NETWORK_BITS));
            Ipv6Addr::from(network).to_string()
        }
        None => String::new(),
    }
}

/// An address with or without a port; an IPv4 address in IPv6 form is the former.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text.parse().or_else(|_| text.parse().map(|socket: SocketAddr| socket.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // With its length, so that no two lists of parts look the same.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    Base64UrlUnpadded::encode_string(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fnhost_sdk::http::Body;

    fn request(headers: &[(&str, &str)]) -> Request {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        let (method, path) = ("POST".to_owned(), "/auth/login".to_owned());
        Request { method, path, query: String::new(), headers: headers.collect(), body: Body::TooLarge }
    }

    #[test]
    fn the_network_is_whoever_connected_or_what_a_proxy_of_ours_wrote() {
        let peer = ("spin-client-addr", "192.0.2.1:4711");
        let forged = ("x-forwarded-for", "198.51.100.9");
        let chain = ("x-forwarded-for", "198.51.100.9, 203.0.113.5");
        let second = ("x-forwarded-for", "10.0.0.7");
        for (headers, proxies, network_expected) in [
            (vec![peer], 0, "192.0.2.1"),
            (vec![forged, peer], 0, "192.0.2.1"),
            (vec![chain, peer], 1, "203.0.113.5"),
            (vec![chain, second, peer], 1, "10.0.0.7"),
            (vec![chain, second, peer], 2, "203.0.113.5"),
            (vec![chain, peer], 3, "192.0.2.1"),
            (vec![peer], 1, "192.0.2.1"),
            (vec![("x-forwarded-for", "unknown"), peer], 1, "192.0.2.1"),
            (vec![("x-forwarded-for", "203.0.113.5:80"), peer], 1, "203.0.113.5"),
            (vec![("spin-client-addr", "[2001:db8:1:2:3:4:5:6]:80")], 0, "2001:db8:1:2::"),
            (vec![("spin-client-addr", "[::ffff:192.0.2.1]:80")], 0, "192.0.2.1"),
            (vec![("spin-client-addr", "nonsense")], 0, ""),
            (vec![], 0, ""),
        ] {
            assert_eq!(network(&request(&headers), proxies), network_expected, "{headers:?}, {proxies}");
        }
    }

    #[test]
    fn subjects_are_told_apart_and_tell_nothing() {
        let [pair, account, network] = of_login("a@b.c", "192.0.2.1");
        assert_eq!(network, of_registration("192.0.2.1"));
        let names = [&pair.name, &account.name, &network.name, &name_of_network("192.0.2.1")];
        for (index, name) in names.iter().enumerate() {
            assert_eq!(name.len(), 43, "SHA-256 in base64url");
            assert!(!names[..index].contains(name));
        }
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_eq!(of_login("a@b.c", "192.0.2.2")[1], account);
    }
}
