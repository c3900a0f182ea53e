//! The admin address of `fnhost up`: where it is, and who may ask it.

use anyhow::Context as _;
use clap::Args;
use fnhost_admin::{AllowedHosts, Certificate, Door, Networks, TOKEN_CHARS_MIN, Tokens};
use fnhost_deployment::fetch::Sources;
use fnhost_deployment::signed::Signers;
use ipnet::IpNet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::net::TcpListener;

/// The deployment's own token. No argument, so that no list of processes shows it.
pub const TOKEN_VARIABLE: &str = "FNHOST_ADMIN_TOKEN";

/// The admin address, and who may ask it.
#[derive(Args, Debug)]
pub struct AdminArgs {
    /// Admin address of fnhost: health, metrics, swaps. Its token is FNHOST_ADMIN_TOKEN, or secrets/admin in the data directory
    #[arg(long = "admin", value_name = "HOST:PORT", default_value = "127.0.0.1:3001", env = "FNHOST_ADMIN")]
    pub address: SocketAddr,
    /// Name or address by which the admin address may be asked besides the loopback ones; needed where it is not on loopback.
    /// May be repeated; in the environment separated by commas
    #[arg(long = "admin-host", value_name = "HOST", env = "FNHOST_ADMIN_HOSTS", value_delimiter = ',')]
    hosts: Vec<String>,
    /// Network from which tokens may come in plain text, since nobody else reads what it carries; needed where the admin address is
    /// not on loopback. May be repeated; in the environment separated by commas
    #[arg(long = "admin-network", value_name = "CIDR", env = "FNHOST_ADMIN_NETWORKS", value_delimiter = ',')]
    networks: Vec<IpNet>,
    /// Certificate for the admin address with those that lead to its authority, PEM: it then speaks HTTPS alone, and takes tokens from
    /// every network
    #[arg(long = "admin-tls-cert", value_name = "FILE", env = "FNHOST_ADMIN_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Key of that certificate, PEM
    #[arg(long = "admin-tls-key", value_name = "FILE", env = "FNHOST_ADMIN_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// File of further tokens, a line for each: name, role (read, operate or deploy), SHA-256 of the token
    #[arg(long = "admin-tokens", value_name = "FILE", env = "FNHOST_ADMIN_TOKENS")]
    tokens: Option<PathBuf>,
    /// Network besides the public ones from which code may be fetched by URL. May be repeated; in the environment separated by commas
    #[arg(long = "fetch-network", value_name = "CIDR", env = "FNHOST_FETCH_NETWORKS", value_delimiter = ',')]
    fetch: Vec<IpNet>,
    /// Public key of minisign, one of which must have signed all code that runs; without it any runs. May be repeated; in the
    /// environment separated by commas
    #[arg(long = "code-key", value_name = "KEY", env = "FNHOST_CODE_KEYS", value_delimiter = ',')]
    code_keys: Vec<String>,
}

impl AdminArgs {
    /// Takes the address.
    ///
    /// # Errors
    /// It is in use, or others reach it and nobody said that they may.
    pub async fn bind(&self) -> anyhow::Result<TcpListener> {
        let Self { address, hosts, networks, tls_cert, .. } = self;
        let port = address.port();
        anyhow::ensure!(
            address.ip().is_loopback() || !hosts.is_empty(),
            "other machines reach the admin address {address}, and whoever has its token decides which code runs; keep it on \
             loopback with --admin 127.0.0.1:{port}, or name the hosts that it is asked by with --admin-host (FNHOST_ADMIN_HOSTS)",
        );
        anyhow::ensure!(
            address.ip().is_loopback() || !networks.is_empty() || tls_cert.is_some(),
            "tokens go to the admin address {address} in plain text; keep it on loopback with --admin 127.0.0.1:{port}, give it a \
             certificate with --admin-tls-cert and --admin-tls-key, or name the networks that nobody else reads with \
             --admin-network (FNHOST_ADMIN_NETWORKS)",
        );
        bind(*address, "--admin").await
    }

    /// What it shows to clients, where it speaks HTTPS.
    ///
    /// # Errors
    /// A file cannot be read, or holds something else.
    pub fn certificate(&self) -> anyhow::Result<Option<Certificate>> {
        let files = self.tls_cert.as_ref().zip(self.tls_key.as_ref());
        files
            .map(|(chain, key)| Certificate::read(chain, key))
            .transpose()
            .map_err(|reason| anyhow::anyhow!("--admin-tls-cert, --admin-tls-key: {reason}"))
    }

    /// How its URL begins.
    pub fn scheme(&self) -> &'static str {
        if self.tls_cert.is_some() { "https" } else { "http" }
    }

    /// Finds out what is wrong with the tokens and keys that are given, before anything starts.
    ///
    /// # Errors
    /// The file cannot be read, or one of them is none.
    pub fn check(&self) -> anyhow::Result<()> {
        // What is generated is good.
        let own = given_token().unwrap_or_else(|| "0".repeat(TOKEN_CHARS_MIN));
        self.tokens_with(&own)?;
        self.certificate()?;
        self.signers().map(drop)
    }

    /// Who may ask it. The deployment's own token is the one given in the environment, or that of the data directory, where it is
    /// made if there is none yet.
    ///
    /// # Errors
    /// A file cannot be read or written, or holds something else.
    pub fn door(&self, data_dir: &Path) -> anyhow::Result<Door> {
        let own = match given_token() {
            Some(token) => token,
            None => fnhost_embedded::admin_token(data_dir)?,
        };
        let (hosts, networks) = (AllowedHosts::new(&self.hosts), Networks::new(&self.networks));
        Ok(Door { hosts, tokens: self.tokens_with(&own)?, networks })
    }

    fn tokens_with(&self, own: &str) -> anyhow::Result<Tokens> {
        let (declared, place) = match &self.tokens {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                (text.with_context(|| format!("cannot read {}", path.display()))?, path.display().to_string())
            }
            None => (String::new(), TOKEN_VARIABLE.to_owned()),
        };
        Tokens::new(own, &declared).map_err(|reason| anyhow::anyhow!("{place}: {reason}"))
    }

    /// Who must have signed what runs.
    ///
    /// # Errors
    /// One of the keys is none.
    pub fn signers(&self) -> anyhow::Result<Signers> {
        Signers::new(&self.code_keys)
            .map_err(|reason| anyhow::anyhow!("--code-key (FNHOST_CODE_KEYS): {reason}"))
    }

    /// Networks from which code may be fetched.
    pub fn sources(&self) -> Sources {
        Sources::new(&self.fetch)
    }
}

/// The token that the environment gives.
pub fn given_token() -> Option<String> {
    std::env::var(TOKEN_VARIABLE).ok().map(|token| token.trim().to_owned()).filter(|token| !token.is_empty())
}

/// Takes an address, which is chosen with `flag`.
///
/// # Errors
/// It is in use.
pub async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another address with {flag}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Asked {
        #[command(flatten)]
        admin: AdminArgs,
    }

    #[tokio::test]
    async fn beyond_loopback_it_says_by_which_hosts_and_from_which_networks_it_is_asked() {
        let bound = async |arguments: &[&str]| {
            let arguments = std::iter::once("fnhost").chain(arguments.iter().copied());
            Asked::try_parse_from(arguments).expect("arguments").admin.bind().await
        };
        assert!(bound(&["--admin", "127.0.0.1:0"]).await.is_ok());
        let named = ["--admin", "0.0.0.0:0", "--admin-host", "fnhost,other"];
        for (arguments, cure) in [(&named[..2], "--admin-host"), (&named[..], "--admin-network")] {
            let refused = bound(arguments).await.expect_err("reached by everybody").to_string();
            assert!(refused.contains(cure), "{refused}");
        }
        assert!(bound(&[&named[..], &["--admin-network", "10.0.0.0/8"]].concat()).await.is_ok());
        let certificate = ["--admin-tls-cert", "a.pem", "--admin-tls-key", "a.key"];
        assert!(bound(&[&named[..], &certificate].concat()).await.is_ok());
        let alone = Asked::try_parse_from(["fnhost", "--admin-tls-cert", "a.pem"]);
        assert!(alone.is_err_and(|error| error.to_string().contains("--admin-tls-key")), "it needs a key");
    }
}
