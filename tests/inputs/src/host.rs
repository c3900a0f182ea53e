//! What a handler has around it here.

use fnhost_sdk::cache::Cache;
use fnhost_sdk::client::{Answer, Client};
use fnhost_sdk::{Host, Row, Sql, SqlError, Value};

pub(crate) const PRIVATE_KEY: &str = include_str!("../../../functions/contract/testing/private.pem");
pub(crate) const PUBLIC_KEYS: &str = include_str!("../../../functions/contract/testing/public.json");
pub(crate) const WEBHOOK_SECRET: &str = "a secret of the tests";

/// Keys and secrets, and no database.
pub(crate) struct KeysOnly;

fn refused() -> SqlError {
    SqlError::new(Some("57P03".to_owned()), "the database does not take connections")
}

impl Sql for KeysOnly {
    async fn query(&self, _: &'static str, _: Vec<Value>) -> Result<Vec<Row>, SqlError> {
        Err(refused())
    }

    async fn execute(&self, _: &'static str, _: Vec<Value>) -> Result<u64, SqlError> {
        Err(refused())
    }
}

impl Host for KeysOnly {
    async fn variable(&self, name: &str) -> Result<String, String> {
        match name {
            "token_public_keys" => Ok(PUBLIC_KEYS.to_owned()),
            "token_private_key" => Ok(PRIVATE_KEY.to_owned()),
            "webhook_secret" => Ok(WEBHOOK_SECRET.to_owned()),
            "trusted_proxies" => Ok("1".to_owned()),
            "gateway_wait_ms" => Ok("100".to_owned()),
            "require_verified_email" => Ok("false".to_owned()),
            "passkey_rp_id" => Ok("localhost".to_owned()),
            "passkey_origins" => Ok("http://localhost:*".to_owned()),
            "gateway_url" => Ok("http://127.0.0.1:1".to_owned()),
            other => Err(format!("there is no variable {other}")),
        }
    }
}

impl Cache for KeysOnly {
    async fn get(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    async fn set(&self, _: &str, _: Vec<u8>) {}
}

impl Client for KeysOnly {
    async fn get(&self, _: &str, _: u32) -> Result<Answer, String> {
        Err("nobody answers".to_owned())
    }

    async fn post(&self, _: &str, _: &str, _: Vec<u8>, _: u32) -> Result<Answer, String> {
        Err("nobody answers".to_owned())
    }
}
