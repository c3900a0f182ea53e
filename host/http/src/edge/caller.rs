//! Who makes a request: its id, and the address that it comes from.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, Request, Version, header};
use ipnet::IpNet;

use super::super::headers::REQUEST_ID;
use fnhost_trace::{Context, TRACEPARENT, TraceId};

/// Characters of an id that a client gives at most.
pub const MAX_REQUEST_ID_CHARS: usize = 128;
/// Bits of an IPv6 address that name a network: what one customer of a provider is given at least.
const IPV6_NETWORK_BITS: u32 = 64;
/// The header that each proxy appends the address to that it was called from.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// Other headers by which a request says whose it is. No proxy is declared that writes them, so no function gets to see them.
const OTHER_ADDRESSES: [&str; 2] = ["forwarded", "x-real-ip"];

/// The id of a request, which its headers have from now on: the client's where it is sane, else that of the trace.
pub(super) fn identify(headers: &mut HeaderMap) -> HeaderValue {
    let sane = |id: &HeaderValue| {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@~".contains(byte);
        (1..=MAX_REQUEST_ID_CHARS).contains(&id.len()) && id.as_bytes().iter().all(plain)
    };
    let mut given = headers.get_all(REQUEST_ID).iter();
    if let (Some(id), None) = (given.next(), given.next())
        && sane(id)
    {
        return id.clone();
    }
    let trace = headers.get(TRACEPARENT).and_then(|value| Context::parse(value.as_bytes()));
    let trace = trace.map_or_else(TraceId::new, Context::trace_id);
    // Hexadecimal digits.
    let id = HeaderValue::try_from(trace.to_string()).unwrap_or(HeaderValue::from_static("-"));
    headers.insert(REQUEST_ID, id.clone());
    id
}

/// Whether a request says once which host it is for. HTTP/1.1 demands it, and whoever reads two may take the other one.
pub(super) fn names_its_host<B>(request: &Request<B>) -> bool {
    match request.headers().get_all(header::HOST).iter().count() {
        0 => request.version() < Version::HTTP_11,
        hosts => hosts == 1,
    }
}

/// What is counted as one client: an address of IPv4, a network of IPv6.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() >> (128 - IPV6_NETWORK_BITS) << (128 - IPV6_NETWORK_BITS);
            IpAddr::V6(network.into())
        }
        address => address,
    }
}

/// Proxies in front of this host.
pub(super) struct Proxies {
    /// How many append to `x-forwarded-for`.
    pub count: usize,
    /// Where the nearest of them connects from.
    pub networks: Vec<IpNet>,
}

impl Proxies {
    /// Whether a proxy connects from this address.
    pub fn include(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.count > 0 && self.networks.iter().any(|network| network.contains(&peer))
    }

    /// The address of the client behind the proxies: what the outermost one wrote, which what a client wrote itself stands to
    /// the left of. Without proxies, from elsewhere, or where the header is shorter, it is who connects.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        self.believed(peer, headers).map_or_else(|| peer.to_canonical(), |(client, _)| client)
    }

    /// Leaves of what a request says about its client's address what the proxies wrote, so that a function which takes as many
    /// entries for true as there are proxies finds the client that the edge found. What a client wrote is gone, all of it where
    /// it did not come through the proxies.
    pub fn keep_what_they_wrote(&self, peer: IpAddr, headers: &mut HeaderMap) {
        let believed =
            self.believed(peer, headers).and_then(|(_, entries)| HeaderValue::try_from(entries).ok());
        for name in [FORWARDED_FOR].iter().chain(&OTHER_ADDRESSES) {
            headers.remove(*name);
        }
        if let Some(believed) = believed {
            headers.insert(FORWARDED_FOR, believed);
        }
    }

    /// The client that the outermost proxy wrote, and the entries of all proxies.
    fn believed(&self, peer: IpAddr, headers: &HeaderMap) -> Option<(IpAddr, String)> {
        if !self.include(peer) {
            return None;
        }
        let written = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let entries: Vec<&str> = written.flat_map(|value| value.split(',')).map(str::trim).collect();
        let theirs = &entries[entries.len().checked_sub(self.count)?..];
        Some((address(theirs.first()?)?, theirs.join(", ")))
    }
}

/// An address as proxies write it: with or without a port.
fn address(entry: &str) -> Option<IpAddr> {
    let bare = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || entry.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    entry.parse().ok().or_else(with_port).or_else(bare).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        let name = HeaderName::from_static(name);
        values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn a_sane_id_is_kept_and_any_other_becomes_the_traces() {
        let trace = Context::begin(false);
        let traces_id = trace.trace_id().to_string();
        let long = "a".repeat(MAX_REQUEST_ID_CHARS + 1);
        let cases: [(&[&str], Option<&str>); 8] = [
            (&["018f-A_b.c:d/e+f=@~"], Some("018f-A_b.c:d/e+f=@~")),
            (&[&long[1..]], Some(&long[1..])),
            (&[], None),
            (&[""], None),
            (&[&long], None),
            (&["a b"], None),
            (&["a\" onload=x"], None),
            (&["one", "two"], None),
        ];
        for (given, kept) in cases {
            let mut headers = headers(REQUEST_ID, given);
            headers.insert(TRACEPARENT, HeaderValue::try_from(trace.to_string()).unwrap());
            let id = identify(&mut headers);
            assert_eq!(id, kept.unwrap_or(&traces_id), "{given:?}");
            assert_eq!(
                headers.get_all(REQUEST_ID).iter().collect::<Vec<_>>(),
                [&id],
                "the function sees the same"
            );
        }
    }

    #[test]
    fn the_header_counts_for_as_many_proxies_as_are_declared_and_from_their_networks_alone() {
        let networks = vec!["127.0.0.0/8".parse().unwrap(), "fc00::/7".parse().unwrap()];
        // proxies, who connects, headers, who it is
        let cases: [(usize, &str, &[&str], &str); 12] = [
            (0, "127.0.0.1", &["192.0.2.1"], "127.0.0.1"),
            (1, "127.0.0.1", &["192.0.2.1"], "192.0.2.1"),
            (1, "::ffff:127.0.0.1", &["192.0.2.1"], "192.0.2.1"),
            (1, "203.0.113.9", &["192.0.2.1"], "203.0.113.9"),
            (1, "127.0.0.1", &["198.51.100.7, 192.0.2.1"], "192.0.2.1"),
            (1, "127.0.0.1", &["198.51.100.7", "192.0.2.1"], "192.0.2.1"),
            (2, "127.0.0.1", &["forged, 192.0.2.1,10.0.0.1"], "192.0.2.1"),
            (2, "127.0.0.1", &["192.0.2.1"], "127.0.0.1"),
            (1, "127.0.0.1", &[], "127.0.0.1"),
            (1, "127.0.0.1", &["unknown"], "127.0.0.1"),
            (1, "fd00::1", &["[2001:db8::1]:443"], "2001:db8::1"),
            (1, "fd00::1", &["192.0.2.1:50000"], "192.0.2.1"),
        ];
        for (count, peer, written, client) in cases {
            let proxies = Proxies { count, networks: networks.clone() };
            let (peer, client) = (peer.parse().unwrap(), client.parse::<IpAddr>().unwrap());
            let mut headers = headers(FORWARDED_FOR, written);
            assert_eq!(proxies.client(peer, &headers), client, "{count} {peer} {written:?}");
            // What is left of the headers says the same, to whoever counts from the right.
            headers.insert("forwarded", HeaderValue::from_static("for=192.0.2.99"));
            headers.insert("x-real-ip", HeaderValue::from_static("192.0.2.99"));
            proxies.keep_what_they_wrote(peer, &mut headers);
            let left: Vec<&str> = headers.values().map(|value| value.to_str().unwrap()).collect();
            let entries: Vec<&str> = left.iter().flat_map(|value| value.split(", ")).collect();
            let found = entries.first().and_then(|entry| address(entry)).unwrap_or(peer.to_canonical());
            assert_eq!(found, client, "{count} {peer} {written:?}: {left:?}");
            assert!(entries.is_empty() || entries.len() == count && headers.len() == 1, "{left:?}");
        }
    }
}
