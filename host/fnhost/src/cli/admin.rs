//! Where a running fnhost is asked and told what to do.

use anyhow::Context as _;
use clap::Args;
use fnhost_admin::AllowedHosts;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// The admin address, and who may ask it.
#[derive(Args, Debug)]
pub struct AdminArgs {
    /// Admin address of fnhost: health, metrics, swaps. Whoever reaches it decides which code runs: keep it on loopback
    #[arg(long = "admin", value_name = "HOST:PORT", default_value = "127.0.0.1:3001", env = "FNHOST_ADMIN")]
    pub address: SocketAddr,
    /// Name or address by which the admin address may be asked besides the loopback ones; needed where it is not on loopback.
    /// May be repeated; in the environment separated by commas
    #[arg(long = "admin-host", value_name = "HOST", env = "FNHOST_ADMIN_HOSTS", value_delimiter = ',')]
    hosts: Vec<String>,
}

impl AdminArgs {
    /// Takes the address.
    ///
    /// # Errors
    /// It is in use, or others reach it and nobody said that they may.
    pub async fn bind(&self) -> anyhow::Result<TcpListener> {
        let Self { address, hosts } = self;
        anyhow::ensure!(
            address.ip().is_loopback() || !hosts.is_empty(),
            "other machines reach the admin address {address}, and whoever reaches it decides which code runs; keep it on \
             loopback with --admin 127.0.0.1:{}, or name the hosts that it is asked by with --admin-host (FNHOST_ADMIN_HOSTS)",
            address.port(),
        );
        bind(*address, "--admin").await
    }

    /// Hosts by which it may be asked.
    pub fn hosts(&self) -> AllowedHosts {
        AllowedHosts::new(&self.hosts)
    }
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
    async fn beyond_loopback_it_says_by_which_hosts_it_is_asked() {
        let bound = async |arguments: &[&str]| {
            let arguments = std::iter::once("fnhost").chain(arguments.iter().copied());
            Asked::try_parse_from(arguments).expect("arguments").admin.bind().await
        };
        assert!(bound(&["--admin", "127.0.0.1:0"]).await.is_ok());
        let refused = bound(&["--admin", "0.0.0.0:0"]).await.expect_err("reached by everybody").to_string();
        assert!(refused.contains("--admin-host"), "{refused}");
        assert!(bound(&["--admin", "0.0.0.0:0", "--admin-host", "fnhost,other"]).await.is_ok());
    }
}
