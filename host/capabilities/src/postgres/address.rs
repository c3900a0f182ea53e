//! The addresses that a component opens: `postgres://user:password@host:port/database?sslmode=...`.

use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

const DEFAULT_PORT: u16 = 5432;
/// Connection parameters that Spin understands and that change nothing about what is connected to.
const WITHOUT_EFFECT: [&str; 5] =
    ["application_name", "connect_timeout", "keepalives", "keepalives_idle", "target_session_attrs"];

/// A parsed address. Parameters that would make the host read its own files, such as `sslkey`, are refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// Host name or IP address, in lower case.
    pub host: String,
    /// TCP port.
    pub port: u16,
    user: String,
    password: Option<Password>,
    database: String,
    tls: Tls,
}

/// Whether the connection is encrypted, and then always with the server's certificate verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Tls {
    Off,
    /// Where the server offers it; not verified, since without it there would be no protection at all.
    Offered,
    Required,
}

/// A password that does not appear in logs.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Password(String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Address {
    /// Parses an address that a component gave.
    ///
    /// # Errors
    /// A text for the component that says what is wrong and does not repeat the password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("the address is not a URL: {error}"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(format!("the address must begin with postgres://, not {}://", url.scheme()));
        }
        let decoded = |part: &str| {
            percent_decode_str(part)
                .decode_utf8()
                .map(|part| part.into_owned())
                .map_err(|_| "the address is not UTF-8".to_owned())
        };
        let host = decoded(url.host_str().unwrap_or_default())?.to_lowercase();
        if host.is_empty() || host.starts_with('/') {
            return Err("the address must name a host; Unix sockets cannot be opened".to_owned());
        }
        let user = decoded(url.username())?;
        if user.is_empty() {
            return Err("the address must name a user".to_owned());
        }
        let database = decoded(url.path().trim_start_matches('/'))?;
        Ok(Self {
            host,
            port: url.port().unwrap_or(DEFAULT_PORT),
            password: url.password().map(decoded).transpose()?.map(Password),
            database: if database.is_empty() { user.clone() } else { database },
            user,
            tls: tls(&url)?,
        })
    }

    /// True where a session with these options is what this address asks for: same server, database and user.
    pub(super) fn is_login_of(&self, options: &PgConnectOptions) -> bool {
        self.host == options.get_host().to_lowercase()
            && self.port == options.get_port()
            && self.user == options.get_username()
            && self.database == options.get_database().unwrap_or(options.get_username())
    }

    /// True where this address asks for the server of these options, as somebody else.
    pub(super) fn is_another_user_of(&self, options: &PgConnectOptions) -> bool {
        let (host, own) = (self.host.as_str(), options.get_host().to_lowercase());
        let same_host = host == own || is_loopback(host) && is_loopback(&own);
        same_host && self.port == options.get_port() && self.user != options.get_username()
    }

    /// The options to log in with, trusting `ca_root` (PEM) alone where it is given.
    pub(super) fn options(&self, ca_root: Option<&str>) -> PgConnectOptions {
        let mode = match (self.tls, ca_root) {
            (Tls::Off, _) => PgSslMode::Disable,
            (Tls::Offered, None) => PgSslMode::Prefer,
            (Tls::Required, _) | (Tls::Offered, Some(_)) => PgSslMode::VerifyFull,
        };
        // Every part is set, the password too, so that nothing of the host's own environment goes to an address
        // that a component chose.
        let options = PgConnectOptions::new_without_pgpass()
            .host(&self.host)
            .port(self.port)
            .username(&self.user)
            .password(self.password.as_ref().map_or("", |password| &password.0))
            .database(&self.database)
            .ssl_mode(mode);
        match ca_root {
            Some(pem) => options.ssl_root_cert_from_pem(pem.as_bytes().to_vec()),
            None => options,
        }
    }
}

/// Whether a host is this machine, under whichever of its names.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn tls(url: &Url) -> Result<Tls, String> {
    let mut tls = Tls::Offered;
    for (key, value) in url.query_pairs() {
        tls = match (&*key, &*value) {
            ("sslmode", "disable") => Tls::Off,
            ("sslmode", "prefer") => Tls::Offered,
            ("sslmode", "require" | "verify-ca" | "verify-full") => Tls::Required,
            (key, _) if WITHOUT_EFFECT.contains(&key) => tls,
            ("sslmode", other) => return Err(format!("unknown sslmode {other:?}")),
            (other, _) => return Err(format!("the connection parameter {other:?} is not supported")),
        };
    }
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_an_address() {
        let address = Address::parse("postgresql://fn%5Forder:p%40ss@DB.example:6000/orders?sslmode=disable")
            .expect("an address");
        assert_eq!((address.host.as_str(), address.port), ("db.example", 6000));
        assert_eq!((address.user.as_str(), address.database.as_str()), ("fn_order", "orders"));
        assert_eq!((&address.password, address.tls), (&Some(Password("p@ss".to_owned())), Tls::Off));
        assert!(!format!("{address:?}").contains("p@ss"));

        let short = Address::parse("postgres://fn_order@127.0.0.1").expect("an address");
        assert_eq!((short.port, short.database.as_str()), (5432, "fn_order"));
    }

    #[test]
    fn what_reaches_into_the_host_is_refused() {
        for text in [
            "postgres://u@%2Fvar%2Frun%2Fpostgresql/db",
            "postgres:///db?host=/var/run/postgresql",
            "postgres://u@h/db?host=other",
            "postgres://u@h/db?sslkey=/etc/ssl/private/key.pem",
            "postgres://u@h/db?sslrootcert=/etc/passwd",
            "postgres://u@h/db?options=-c%20role%3Dother",
            "postgres://u@h/db?sslmode=maybe",
            "postgres://h/db",
            "mysql://u@h/db",
            "host=h user=u",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_login_is_the_same_server_database_and_user() {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(5433)
            .username("fn_order")
            .database("orders");
        for (text, same) in [
            ("postgres://fn_order:any@127.0.0.1:5433/orders", true),
            ("postgres://fn_order@127.0.0.1:5433/other", false),
            ("postgres://fn_order@127.0.0.1/orders", false),
            ("postgres://fn_auth@127.0.0.1:5433/orders", false),
            ("postgres://fn_order@127.0.0.2:5433/orders", false),
        ] {
            assert_eq!(Address::parse(text).expect("an address").is_login_of(&options), same, "{text}");
        }
        for (text, another) in [
            ("postgres://fn_auth@127.0.0.1:5433/orders", true),
            ("postgres://postgres@localhost:5433/other", true),
            ("postgres://fn_auth@[::1]:5433/orders", true),
            ("postgres://fn_auth@[::ffff:127.0.0.1]:5433/orders", true),
            ("postgres://fn_order@127.0.0.1:5433/other", false),
            ("postgres://fn_auth@127.0.0.1/orders", false),
            ("postgres://fn_auth@db.example:5433/orders", false),
        ] {
            let address = Address::parse(text).expect("an address");
            assert_eq!(address.is_another_user_of(&options), another, "{text}");
        }
    }
}
