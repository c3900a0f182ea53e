//! `allowed_outbound_hosts`, as Spin reads it: where a component may connect to.
//!
//! An entry is `scheme://host[:port]`. The scheme may be `*`; the host a name, `*`, `*.domain`, an address
//! or a network (`10.0.0.0/8`), or `self`; the port a number, `*`, or a range `8000..9000` without its end.

use std::net::IpAddr;
use std::ops::Range;

/// All entries of one component.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedHosts {
    component: String,
    entries: Vec<Entry>,
}

/// A connection that the component may not make. `Display` names the line to add to `spin.toml`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "component \"{component}\" may not connect to {address}; to allow it, add it in spin.toml: \
     [component.{component}] allowed_outbound_hosts = [{list}]"
)]
pub struct Refused {
    component: String,
    address: String,
    list: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    text: String,
    scheme: Option<String>,
    host: Host,
    /// `None` is any port.
    ports: Option<Range<u32>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Any,
    /// The suffix with its leading dot.
    Subdomain(String),
    /// The application's own address; only relative requests are meant, so it allows no host.
    Itself,
    Name(String),
    Network {
        address: IpAddr,
        prefix: u8,
    },
}

impl AllowedHosts {
    /// Reads the entries of a component; the error says what is wrong with which one.
    pub fn parse<S: AsRef<str>>(
        component: &str,
        entries: impl IntoIterator<Item = S>,
    ) -> Result<Self, String> {
        let entries =
            entries.into_iter().map(|text| Entry::parse(text.as_ref())).collect::<Result<_, _>>()?;
        Ok(Self { component: component.to_owned(), entries })
    }

    /// The entries, as they are written, that are for one of these schemes or for any.
    pub fn entries(&self, schemes: &[&str]) -> impl Iterator<Item = &str> {
        let fits = |entry: &&Entry| entry.scheme.as_deref().is_none_or(|own| schemes.contains(&own));
        self.entries.iter().filter(fits).map(|entry| entry.text.as_str())
    }

    /// Whether the component may connect to `host` (a name or an address, brackets optional) at `port`.
    pub fn allows(&self, scheme: &str, host: &str, port: u16) -> bool {
        self.entries.iter().any(|entry| entry.allows(scheme, host, port))
    }

    /// Like [`Self::allows`], with the first entry that allows it, or the reason to show where none does.
    pub fn check(&self, scheme: &str, host: &str, port: u16) -> Result<&str, Refused> {
        if let Some(entry) = self.entries.iter().find(|entry| entry.allows(scheme, host, port)) {
            return Ok(&entry.text);
        }
        let address = format!("{scheme}://{host}:{port}");
        let mut list: Vec<String> = self.entries.iter().map(|entry| format!("\"{}\"", entry.text)).collect();
        list.push(format!("\"{address}\""));
        Err(Refused { component: self.component.clone(), address, list: list.join(", ") })
    }
}

impl Entry {
    fn parse(text: &str) -> Result<Self, String> {
        let fault = |why: &str| Err(format!("allowed_outbound_hosts: \"{text}\" {why}"));
        if text == "insecure:allow-all" {
            return fault("is not accepted by Spin any more; write \"*://*:*\" to allow every connection");
        }
        let Some((scheme, rest)) = text.trim().split_once("://") else {
            return fault("must be scheme://host[:port], like \"https://example.com\"");
        };
        if scheme != "*" && (scheme.is_empty() || !scheme.chars().all(char::is_alphabetic)) {
            return fault("has a scheme that is neither letters nor \"*\"");
        }
        // The last colon outside of an IPv6 address's brackets begins the port.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (rest, ""),
        };
        let port = port.strip_suffix('/').unwrap_or(port);
        if port.contains('/') {
            return fault("must not have a path");
        }
        let ports = match ports(port, scheme) {
            Ok(ports) => ports,
            Err(why) => return fault(&why),
        };
        let host = match Host::parse(host) {
            Ok(host) => host,
            Err(why) => return fault(&why),
        };
        let scheme = (scheme != "*").then(|| scheme.to_owned());
        Ok(Self { text: text.to_owned(), scheme, host, ports })
    }

    fn allows(&self, scheme: &str, host: &str, port: u16) -> bool {
        self.scheme.as_deref().is_none_or(|own| own == scheme)
            && self.ports.as_ref().is_none_or(|ports| ports.contains(&u32::from(port)))
            && self.host.allows(host)
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        match text {
            "" => return Err("has no host".to_owned()),
            "*" => return Ok(Self::Any),
            "self" | "self.alt" => return Ok(Self::Itself),
            _ => {}
        }
        if let Some(network) = network(text) {
            return network;
        }
        let name = text.trim_end_matches('/');
        if name.contains('/') {
            return Err("must not have a path".to_owned());
        }
        if name.starts_with('{') {
            return Err("has a list of hosts; write one entry for each".to_owned());
        }
        match name.strip_prefix("*.") {
            Some(domain) if !domain.contains('*') => {
                Ok(Self::Subdomain(format!(".{}", domain.to_ascii_lowercase())))
            }
            _ if name.contains('*') => {
                Err("may have \"*\" only as the whole host or its first label".to_owned())
            }
            _ => Ok(Self::Name(name.to_ascii_lowercase())),
        }
    }

    fn allows(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Itself => false,
            Self::Subdomain(suffix) => host.to_ascii_lowercase().ends_with(suffix),
            Self::Name(name) => name.eq_ignore_ascii_case(host),
            Self::Network { address, prefix } => {
                let Ok(host) = host.trim_matches(['[', ']']).parse::<IpAddr>() else {
                    return false;
                };
                match (address, host) {
                    (IpAddr::V4(net), IpAddr::V4(host)) => {
                        same_prefix(net.to_bits().into(), host.to_bits().into(), 32, *prefix)
                    }
                    (IpAddr::V6(net), IpAddr::V6(host)) => {
                        same_prefix(net.to_bits(), host.to_bits(), 128, *prefix)
                    }
                    _ => false,
                }
            }
        }
    }
}

/// An address or a network in CIDR notation; `None` where the text is a name.
fn network(text: &str) -> Option<Result<Host, String>> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, "")) => (address, None),
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.trim_matches(['[', ']']).parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix.map(str::parse::<u8>) {
        None => longest,
        Some(Ok(prefix)) if prefix <= longest => prefix,
        Some(_) => return Some(Err(format!("has a network prefix that is not 0 to {longest}"))),
    };
    Some(Ok(Host::Network { address, prefix }))
}

fn same_prefix(left: u128, right: u128, width: u32, prefix: u8) -> bool {
    (left ^ right).checked_shr(width - u32::from(prefix)).unwrap_or(0) == 0
}

/// The ports of an entry; `None` is any. A range excludes its end, as Spin's does.
fn ports(text: &str, scheme: &str) -> Result<Option<Range<u32>>, String> {
    let number = |text: &str| {
        text.parse::<u16>()
            .map(u32::from)
            .map_err(|_| format!("has a port \"{text}\" that is not 0 to 65535"))
    };
    match text {
        "*" => Ok(None),
        "" => match default_port(scheme) {
            Some(port) => Ok(Some(u32::from(port)..u32::from(port) + 1)),
            None => Err(format!("needs a port: the scheme \"{scheme}\" has no usual one")),
        },
        _ => match text.split_once("..") {
            Some((first, end)) => Ok(Some(number(first)?..number(end)?)),
            None => number(text).map(|port| Some(port..port + 1)),
        },
    }
}

/// The port of a scheme where an address names none.
pub fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        "postgres" => Some(5432),
        "mysql" => Some(3306),
        "redis" => Some(6379),
        "mqtt" => Some(1883),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_connect_where() {
        // entry, scheme, host, port, allowed
        let cases = [
            ("https://example.com", "https", "example.com", 443, true),
            ("https://example.com", "https", "EXAMPLE.com", 443, true),
            ("https://example.com/", "https", "example.com", 443, true),
            ("https://example.com", "https", "example.com", 8443, false),
            ("https://example.com", "http", "example.com", 443, false),
            ("https://example.com", "https", "www.example.com", 443, false),
            ("https://example.com", "https", "example.com.evil.org", 443, false),
            ("https://*.example.com", "https", "www.example.com", 443, true),
            ("https://*.example.com", "https", "example.com", 443, false),
            ("https://*.example.com", "https", "badexample.com", 443, false),
            ("*://example.com:*", "mqtt", "example.com", 1, true),
            ("*://*:*", "http", "anything", 9, true),
            ("http://*", "http", "anything", 80, true),
            ("http://*", "http", "anything", 81, false),
            ("http://localhost:8000..8002", "http", "localhost", 7999, false),
            ("http://localhost:8000..8002", "http", "localhost", 8000, true),
            ("http://localhost:8000..8002", "http", "localhost", 8001, true),
            ("http://localhost:8000..8002", "http", "localhost", 8002, false),
            ("postgres://127.0.0.1:5432", "postgres", "127.0.0.1", 5432, true),
            ("postgres://127.0.0.1:5432", "postgres", "localhost", 5432, false),
            ("postgres://10.0.0.0/8", "postgres", "10.200.1.1", 5432, true),
            ("postgres://10.0.0.0/8:6000", "postgres", "10.200.1.1", 6000, true),
            ("postgres://10.0.0.0/8", "postgres", "11.0.0.1", 5432, false),
            ("http://0.0.0.0/0", "http", "8.8.8.8", 80, true),
            ("http://[::1]:80", "http", "[::1]", 80, true),
            ("http://[::1]", "http", "::1", 80, true),
            ("http://[fd00::]/8:80", "http", "fd12::9", 80, true),
            ("http://0.0.0.0/0", "http", "::1", 80, false),
            ("http://self", "http", "self", 80, false),
        ];
        for (entry, scheme, host, port, allowed) in cases {
            let hosts = AllowedHosts::parse("x", [entry]).unwrap();
            assert_eq!(hosts.allows(scheme, host, port), allowed, "{entry}: {scheme}://{host}:{port}");
        }
    }

    #[test]
    fn entries_that_are_refused() {
        for (entry, part) in [
            ("example.com", "must be scheme://host"),
            ("*", "must be scheme://host"),
            ("insecure:allow-all", "*://*:*"),
            ("ht-tp://example.com", "scheme"),
            ("https://example.com/path", "path"),
            ("https://example.com:443/path", "path"),
            ("https://a.*.com", "first label"),
            ("https://*.*.com", "first label"),
            ("foo://example.com", "needs a port"),
            ("https://example.com:http", "port \"http\""),
            ("https://example.com:70000", "port \"70000\""),
            ("http://10.0.0.0/33", "prefix"),
            ("http://", "no host"),
            ("http://{a,b}", "one entry for each"),
        ] {
            let error = AllowedHosts::parse("x", [entry]).unwrap_err();
            assert!(error.contains(part) && error.contains(entry), "{error}");
        }
    }

    #[test]
    fn a_refusal_names_the_line_to_add() {
        let hosts = AllowedHosts::parse("order", ["postgres://db:5432"]).unwrap();
        let refused = hosts.check("https", "pay.example.com", 443).unwrap_err().to_string();
        assert_eq!(
            refused,
            "component \"order\" may not connect to https://pay.example.com:443; to allow it, add it in \
             spin.toml: [component.order] allowed_outbound_hosts = \
             [\"postgres://db:5432\", \"https://pay.example.com:443\"]"
        );
        assert_eq!(hosts.check("postgres", "db", 5432), Ok("postgres://db:5432"));
    }
}
