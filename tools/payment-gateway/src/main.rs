//! `payment-gateway`: serves until it is told to stop.

use anyhow::Context as _;
use clap::Parser;
use payment_gateway::{Gateway, Options, Webhook, serve};
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// A payment gateway that takes no money, for trying and testing what pays.
#[derive(Parser, Debug)]
#[command(
    version,
    after_help = "Example:
  payment-gateway --listen 127.0.0.1:4010 --journal payments.jsonl"
)]
struct Args {
    /// Address for HTTP, /admin/ included: keep it on loopback, or within what may move money
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4010", env = "PAYMENT_GATEWAY_LISTEN")]
    listen: SocketAddr,
    /// File of what it has promised; made where it is missing
    #[arg(long, value_name = "FILE", env = "PAYMENT_GATEWAY_JOURNAL")]
    journal: Option<PathBuf>,
    /// Who is told of changes
    #[arg(long, value_name = "URL", env = "PAYMENT_GATEWAY_WEBHOOK_URL")]
    webhook_url: Option<String>,
    /// File of the secret that signs what is told
    #[arg(long, value_name = "FILE", env = "PAYMENT_GATEWAY_WEBHOOK_SECRET_FILE")]
    webhook_secret_file: Option<PathBuf>,
    /// The secret itself, from the environment alone
    #[arg(skip = std::env::var("PAYMENT_GATEWAY_WEBHOOK_SECRET").ok())]
    webhook_secret: Option<String>,
}

impl Args {
    fn webhook(&self) -> anyhow::Result<Option<Webhook>> {
        let Some(url) = self.webhook_url.clone() else { return Ok(None) };
        anyhow::ensure!(url.starts_with("http://"), "--webhook-url is {url}, and has to begin with http://");
        let secret = match (&self.webhook_secret_file, &self.webhook_secret) {
            (Some(file), _) => {
                std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?
            }
            (None, Some(secret)) => secret.clone(),
            (None, None) => anyhow::bail!(
                "--webhook-url needs the secret that signs: --webhook-secret-file FILE, or PAYMENT_GATEWAY_WEBHOOK_SECRET"
            ),
        };
        Ok(Some(Webhook { url, secret: secret.trim().to_owned() }))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let gateway = Gateway::open(Options { journal: args.journal.clone(), webhook: args.webhook()? })?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}; choose another address with --listen", args.listen))?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    println!("payment-gateway listens on http://{}", listener.local_addr()?);
    tokio::select! {
        served = serve(gateway, listener) => served,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}
