//! `fnhost keys`: the keys that sign and check the application's tokens, changed while hosts run.

use super::audit::recorded;
use super::setup::{Beside, Setup};
use super::{Application, Format};
use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clap::{Args, Subcommand};
use fnhost_db::OwnerPool;
use fnhost_db::token_keys::{
    self, GOOD_FOR_S, KEYS_MAX, RELOAD_INTERVAL_S, SETTLED_AFTER_S, TokenKey, in_use,
};
use fnhost_manifest::edge::KeyVariables;
use fnhost_manifest::keys::Keys;
use fnhost_manifest::rotating::Rotating;
use fnhost_manifest::{Manifest, Secret};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Bytes of a raw Ed25519 key.
const RAW_KEY_BYTES: usize = 32;
/// What stands before the raw key in its DER form: a `PrivateKeyInfo` of version 0 (RFC 8410), which every reader takes.
const DER_HEAD: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";

/// Shows and changes the keys that sign and check the application's tokens, on all hosts and without a restart.
///
/// A new key is published at once and signs when every host knows it, half a minute later. Tokens of the key before stay good until they
/// expire. For applications whose manifest names a signing_key.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fnhost keys list
  fnhost keys rotate
  fnhost keys rotate --now     # a key has leaked: all tokens that it signed end")]
pub struct KeysArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List the keys; private parts are never shown
    List {
        #[command(flatten)]
        app: Application,
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        output: Format,
    },
    /// Make a new key
    Rotate {
        #[command(flatten)]
        app: Application,
        /// Sign with it at once, and accept no token of the others any more: everybody has to log in or refresh
        #[arg(long)]
        now: bool,
    },
}

/// Runs the action.
pub async fn run(args: KeysArgs) -> anyhow::Result<()> {
    match args.action {
        Action::List { app, output } => {
            let beside = Beside::attach(&app).await?;
            variables(&beside.manifest)?;
            let keys = token_keys::load(&beside.owner, &beside.manifest.application.name).await?;
            print(&keys, output)
        }
        Action::Rotate { app, now } => {
            let beside = Beside::attach(&app).await?;
            variables(&beside.manifest)?;
            let (owner, deployment) = (&beside.owner, &beside.manifest.application.name);
            let (private, public) = generate()?;
            let details = json!({ "kid": public["kid"], "now": now });
            let made = recorded(owner, deployment, "keys rotate", details, async {
                let made = token_keys::add(owner, deployment, &private, &public, now).await?;
                made.with_context(|| {
                    format!("{KEYS_MAX} keys are good at the moment: wait until the oldest has expired, or pass --now")
                })
            });
            made.await?;
            let kid = public["kid"].as_str().unwrap_or_default();
            match now {
                true => println!(
                    "key {kid} signs within {RELOAD_INTERVAL_S} s on every host; tokens of all others end"
                ),
                false => println!(
                    "key {kid} is good within {RELOAD_INTERVAL_S} s, and signs in {SETTLED_AFTER_S} s"
                ),
            }
            Ok(())
        }
    }
}

/// The variables that are changed.
fn variables(manifest: &Manifest) -> anyhow::Result<&KeyVariables> {
    let token = manifest.application.edge.token.as_ref();
    token.and_then(|token| token.rotated.as_ref()).context(
        "the manifest does not say which variable signs tokens: add signing_key to token in [application.tool.fnhost.edge]",
    )
}

fn print(keys: &[TokenKey], output: Format) -> anyhow::Result<()> {
    let used = in_use(keys);
    let shown = keys.iter().map(|key| {
        let (good, signs) = (used.good.contains(&key), used.signs == Some(key));
        json!({ "kid": key.public_key["kid"], "made_at": key.made_at, "good": good, "signs": signs })
    });
    let shown: Vec<Value> = shown.collect();
    if output == Format::Json {
        println!("{}", serde_json::to_string_pretty(&json!({ "given": used.given, "keys": shown }))?);
        return Ok(());
    }
    for (key, shown) in keys.iter().zip(&shown) {
        let said = match (shown["signs"] == true, shown["good"] == true) {
            (true, _) => "signs",
            (false, true) => "good",
            (false, false) => "good no more",
        };
        println!("{}  made {}  {said}", shown["kid"].as_str().unwrap_or_default(), key.made_at);
    }
    match (used.given, used.signs.is_none()) {
        (true, true) => println!("the key that the application was started with signs"),
        (true, false) => {
            println!("the key that the application was started with is good for at most {GOOD_FOR_S} s more");
        }
        (false, _) => println!("the key that the application was started with is good no more"),
    }
    Ok(())
}

/// A new key pair: PKCS#8 PEM, and the public part as a JSON Web Key whose id is the thumbprint of RFC 7638.
fn generate() -> anyhow::Result<(String, Value)> {
    let mut raw = [0; RAW_KEY_BYTES];
    SystemRandom::new().fill(&mut raw).ok().context("the operating system gives no random bytes")?;
    let der = [&DER_HEAD[..], &raw].concat();
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok().context("a new key cannot be used")?;
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der));
    let x = URL_SAFE_NO_PAD.encode(pair.public_key());
    // Exactly these members, in this order and without spaces: that is what the RFC hashes.
    let hashed = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    let kid = URL_SAFE_NO_PAD.encode(digest(&SHA256, hashed.as_bytes()));
    Ok((pem, json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "alg": "EdDSA", "use": "sig" })))
}

/// Brings the keys of the database to the edge and the components of this host.
#[derive(Clone)]
pub(super) struct Follower {
    owner: OwnerPool,
    deployment: String,
    variables: KeyVariables,
    /// The public keys that the application was started with.
    given: String,
    edge: Option<Keys>,
    components: Rotating,
}

impl Follower {
    /// One for an application that says where its keys are; what is stored is in use when this has answered.
    ///
    /// # Errors
    /// The database did not answer, or holds keys that cannot be read.
    pub async fn start(setup: &Setup) -> anyhow::Result<Option<Self>> {
        let Ok(variables) = variables(&setup.manifest) else { return Ok(None) };
        let given = setup.values.application.get(&variables.public).map_or("", Secret::expose);
        let follower = Self {
            owner: setup.owner.clone(),
            deployment: setup.deployment().to_owned(),
            variables: variables.clone(),
            given: given.to_owned(),
            edge: setup.values.edge.keys.clone(),
            components: setup.values.rotating.clone(),
        };
        follower.read().await?;
        Ok(Some(follower))
    }

    /// Reads them anew until `stop`.
    pub async fn follow(self, stop: CancellationToken) {
        fnhost_metrics::supervise("keys", "", || self.clone().follow_on(stop.clone())).await;
    }

    async fn follow_on(self, stop: CancellationToken) {
        let interval = Duration::from_secs(RELOAD_INTERVAL_S);
        while tokio::time::timeout(interval, stop.cancelled()).await.is_err() {
            if let Err(error) = self.read().await {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "cannot read the keys of tokens; those known stay in use"
                );
            }
        }
    }

    async fn read(&self) -> anyhow::Result<()> {
        let stored = token_keys::load(&self.owner, &self.deployment).await?;
        let (public, private) = self.values(&stored)?;
        let keys =
            Keys::parse(&public).map_err(|fault| anyhow::anyhow!("{}: {fault}", self.variables.public))?;
        // First what is good, then what signs.
        if let Some(edge) = &self.edge {
            edge.replace(&keys);
        }
        let values = [(&self.variables.public, Some(public)), (&self.variables.private, private)];
        let changed =
            values.into_iter().filter_map(|(name, value)| Some((name.clone(), Secret::new(value?))));
        let changed = if stored.is_empty() { BTreeMap::new() } else { changed.collect() };
        self.components.replace(changed);
        Ok(())
    }

    /// All public keys that are good, and the private one where it is not the one that was given.
    fn values(&self, stored: &[TokenKey]) -> anyhow::Result<(String, Option<String>)> {
        if stored.is_empty() {
            return Ok((self.given.clone(), None));
        }
        let used = in_use(stored);
        let mut good: Vec<Value> = used.good.iter().map(|key| key.public_key.clone()).collect();
        if used.given {
            let set: Value = serde_json::from_str(&self.given).context("the given keys are no JSON")?;
            good.extend(set["keys"].as_array().into_iter().flatten().cloned());
        }
        Ok((json!({ "keys": good }).to_string(), used.signs.map(|key| key.private_key.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_can_be_read_and_has_its_public_part() {
        let (pem, public) = generate().expect("a key");
        let body = pem.lines().nth(1).expect("one line");
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&STANDARD.decode(body).expect("Base64"))
            .expect("a key");
        assert_eq!(public["x"], URL_SAFE_NO_PAD.encode(pair.public_key()));
        let keys = Keys::parse(&json!({ "keys": [public] }).to_string()).expect("a set");
        assert!(keys.find(public["kid"].as_str().expect("an id")).is_some());
        assert_ne!(generate().expect("a key").0, pem);
    }
}
