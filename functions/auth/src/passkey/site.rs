//! Where passkeys are for: the id that they are bound to, and the addresses of the pages that may ask for them.

/// The one host that browsers let a page in plain HTTP use passkeys on.
const LOCAL: &str = "localhost";
/// Ends an origin whose port is any; of [`LOCAL`] alone.
const ANY_PORT: &str = ":*";

/// A relying party, as the standard calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    rp_id: String,
    origins: Vec<Origin>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// As the browser writes it.
    Exact(String),
    /// Without its port.
    AnyPort(String),
}

impl Site {
    /// Of a domain, and a list of origins with commas between them.
    ///
    /// # Errors
    /// What is no domain or no origin of it, for the log.
    pub fn new(rp_id: &str, origins: &str) -> Result<Self, String> {
        let rp_id = rp_id.trim();
        let is_label = |label: &str| {
            let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            !label.is_empty() && label.bytes().all(fits)
        };
        let is_domain = rp_id.split('.').all(is_label) && rp_id.bytes().any(|byte| byte.is_ascii_lowercase());
        if !is_domain {
            return Err(format!("passkey_rp_id is {rp_id:?}, not a domain in lower case"));
        }
        let origins =
            origins.split(',').map(|origin| Origin::of(origin.trim(), rp_id)).collect::<Result<_, _>>();
        Ok(Self { rp_id: rp_id.to_owned(), origins: origins? })
    }

    /// The domain that passkeys are bound to.
    #[must_use]
    pub fn rp_id(&self) -> &str {
        &self.rp_id
    }

    /// Whether a page of this origin may ask for them.
    #[must_use]
    pub fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| match allowed {
            Origin::Exact(exact) => exact == origin,
            Origin::AnyPort(before) => origin.strip_prefix(before.as_str()).is_some_and(|port| {
                port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
            }),
        })
    }
}

impl Origin {
    fn of(origin: &str, rp_id: &str) -> Result<Self, String> {
        let none = || {
            format!(
                "passkey_origins has {origin:?}, which is no https://{rp_id}, of a subdomain of it, or http://{LOCAL}"
            )
        };
        let (scheme, rest) = origin.split_once("://").ok_or_else(none)?;
        let (host, port) = rest.find(':').map_or((rest, ""), |at| rest.split_at(at));
        let of_domain = host == rp_id
            || host.strip_suffix(rp_id).is_some_and(|before| before.len() > 1 && before.ends_with('.'));
        let of_scheme = scheme == "https" || (scheme == "http" && host == LOCAL);
        if !of_domain || !of_scheme {
            return Err(none());
        }
        if port == ANY_PORT && host == LOCAL {
            return Ok(Self::AnyPort(format!("{scheme}://{host}")));
        }
        if !port.is_empty() && port[1..].parse::<u16>().is_err() {
            return Err(none());
        }
        Ok(Self::Exact(origin.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_allowed_as_it_is_written_and_no_other() {
        let shop = Site::new("shop.example", "https://shop.example, https://www.shop.example:8443").unwrap();
        for good in ["https://shop.example", "https://www.shop.example:8443"] {
            assert!(shop.allows(good), "{good}");
        }
        for other in [
            "",
            "http://shop.example",
            "https://shop.example:8443",
            "https://shop.example.evil.example",
            "https://evil.example",
            "https://notshop.example",
            "https://www.shop.example",
            "https://shop.example/",
            "HTTPS://shop.example",
            "null",
        ] {
            assert!(!shop.allows(other), "{other}");
        }
        let local = Site::new("localhost", "http://localhost:*").unwrap();
        assert!(local.allows("http://localhost:3000") && local.allows("http://localhost"));
        for other in [
            "http://localhost:",
            "http://localhost:99999",
            "http://localhost:80@evil.example",
            "http://localhost.evil.example:80",
            "https://localhost:3000",
            "http://127.0.0.1:3000",
        ] {
            assert!(!local.allows(other), "{other}");
        }
    }

    #[test]
    fn what_browsers_would_refuse_is_refused_when_it_is_read() {
        for (rp_id, origins) in [
            ("", "https://shop.example"),
            ("127.0.0.1", "https://127.0.0.1"),
            ("Shop.example", "https://shop.example"),
            ("shop..example", "https://shop.example"),
            ("shop.example", ""),
            ("shop.example", "shop.example"),
            ("shop.example", "http://shop.example"),
            ("shop.example", "https://other.example"),
            ("shop.example", "https://notshop.example"),
            ("shop.example", "https://.shop.example"),
            ("shop.example", "https://shop.example:*"),
            ("shop.example", "https://shop.example:port"),
            ("shop.example", "https://shop.example/"),
            ("shop.example", "https://shop.example,"),
            ("localhost", "http://127.0.0.1:3000"),
        ] {
            assert!(Site::new(rp_id, origins).is_err(), "{rp_id} {origins}");
        }
    }
}
