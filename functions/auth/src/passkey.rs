//! Passkeys: what is checked of a new one and of one that signs in, by W3C's Web Authentication (Level 2, 7.1 and 7.2, with the
//! backup flags of Level 3). Pure but for the clock that a challenge is held against.
//!
//! [`challenge`] is what gets signed, [`data`] reads what authenticators say, [`key`] checks signatures. Attestation is not asked
//! for: which model somebody owns is not ours to know. A passkey has to verify its owner, so it stands for both factors.

pub mod challenge;
pub mod data;
pub mod key;
mod site;

pub use site::Site;

use crate::session::Owner;
use challenge::{Answered, Purpose};
use contract::token::JwkSet;
use data::AuthenticatorData;
use key::Key;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

/// Why a passkey is not accepted. Whoever signs in is not told which it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "told by Display")]
pub enum Refused {
    Malformed,
    Type,
    Challenge,
    Origin,
    Framed,
    RelyingParty,
    NotPresent,
    NotVerified,
    Backup,
    NoCredential,
    CredentialId,
    Algorithm,
    Key,
    Unknown,
    Owner,
    Signature,
    Counter,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "what the authenticator said cannot be read",
            Self::Type => "the authenticator did something else than it was asked for",
            Self::Challenge => "the challenge is not ours, or was for something else, or is over",
            Self::Origin => "passkeys are not for this address; see the variable passkey_origins",
            Self::Framed => "the page was within another one",
            Self::RelyingParty => "the passkey is for another site; see the variable passkey_rp_id",
            Self::NotPresent => "nobody touched the authenticator",
            Self::NotVerified => "the authenticator did not verify its owner",
            Self::Backup => "the authenticator contradicts itself on whether the passkey is copied",
            Self::NoCredential => "the authenticator made no passkey",
            Self::CredentialId => "the passkey's id is empty or too long",
            Self::Algorithm => "the passkey's algorithm was not asked for",
            Self::Key => "the passkey's public key is none",
            Self::Unknown => "there is no such passkey",
            Self::Owner => "the passkey is another account's",
            Self::Signature => "the signature is wrong",
            Self::Counter => "the passkey's counter fell back: it may have been copied",
        })
    }
}

/// What a browser answers when it has made a passkey.
#[derive(Clone, Copy, Debug)]
pub struct Made<'a> {
    /// `clientDataJSON`.
    pub client_data: &'a [u8],
    /// `attestationObject`.
    pub attestation: &'a [u8],
}

/// A passkey that is to be kept.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named by the columns")]
pub struct New {
    pub credential_id: Vec<u8>,
    /// A `COSE_Key`, as the authenticator gave it.
    pub public_key: Vec<u8>,
    pub sign_count: i64,
    pub backup_eligible: bool,
    /// What it answered.
    pub challenge: Answered,
}

/// What a browser answers when a passkey has signed in.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// `clientDataJSON`.
    pub client_data: &'a [u8],
    /// `authenticatorData`.
    pub authenticator_data: &'a [u8],
    /// `signature`.
    pub signature: &'a [u8],
    /// `userHandle`, the account that the passkey was made for; none where the authenticator does not say.
    pub user_handle: Option<&'a [u8]>,
}

/// A passkey that is kept.
#[derive(Debug)]
#[allow(missing_docs, reason = "named by the columns")]
pub struct Known {
    pub account_id: Uuid,
    pub public_key: Vec<u8>,
    pub sign_count: i64,
    pub backup_eligible: bool,
}

/// A passkey that signs in, if nobody used it or its challenge meanwhile.
#[derive(Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The counter to be kept.
    pub sign_count: i64,
    /// What it answered.
    pub challenge: Answered,
}

/// What a browser says that it was asked, by whom and where.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientData {
    r#type: String,
    challenge: String,
    origin: String,
    cross_origin: Option<bool>,
    top_origin: Option<String>,
}

/// Checks a new passkey (7.1). That its id is new is left to the database.
///
/// # Errors
/// The first thing that is not as it should be.
pub fn check_new(site: &Site, keys: &JwkSet, owner: Owner, made: Made<'_>) -> Result<New, Refused> {
    let challenge = check_client_data(site, keys, "webauthn.create", Purpose::Add(owner), made.client_data)?;
    let data = AuthenticatorData::read(data::of_attestation(made.attestation)?)?;
    check_data(site, &data)?;
    let credential = data.credential.as_ref().ok_or(Refused::NoCredential)?;
    // Read now, so that none is kept that could not be read when it signs in.
    Key::read(credential.public_key)?;
    Ok(New {
        credential_id: credential.id.to_vec(),
        public_key: credential.public_key.to_vec(),
        sign_count: data.sign_count.into(),
        backup_eligible: data.backup_eligible(),
        challenge,
    })
}

/// Checks a passkey that signs in (7.2). The counter and the challenge are checked once more where they are written.
///
/// A signature is checked also where the passkey is not known, so that the time of the answer does not tell.
///
/// # Errors
/// The first thing that is not as it should be.
pub fn check_signed(
    site: &Site,
    keys: &JwkSet,
    known: Option<&Known>,
    signed: Signed<'_>,
) -> Result<Accepted, Refused> {
    let Signed { client_data, authenticator_data, signature, user_handle } = signed;
    let challenge = check_client_data(site, keys, "webauthn.get", Purpose::SignIn, client_data)?;
    let data = AuthenticatorData::read(authenticator_data)?;
    check_data(site, &data)?;
    let key = match known {
        Some(known) => Key::read(&known.public_key)?,
        None => Key::nobody().ok_or(Refused::Unknown)?,
    };
    let message = [authenticator_data, &Sha256::digest(client_data)].concat();
    let verified = key.verifies(&message, signature);
    let known = known.ok_or(Refused::Unknown)?;
    if !verified {
        return Err(Refused::Signature);
    }
    // Nobody said before who signs in, so the authenticator has to.
    if user_handle != Some(known.account_id.as_bytes()) {
        return Err(Refused::Owner);
    }
    if data.backup_eligible() != known.backup_eligible {
        return Err(Refused::Backup);
    }
    let sign_count = i64::from(data.sign_count);
    if (sign_count, known.sign_count) != (0, 0) && sign_count <= known.sign_count {
        return Err(Refused::Counter);
    }
    Ok(Accepted { sign_count, challenge })
}

fn check_client_data(
    site: &Site,
    keys: &JwkSet,
    kind: &str,
    purpose: Purpose,
    json: &[u8],
) -> Result<Answered, Refused> {
    // serde would read a list by its positions too.
    if json.first() != Some(&b'{') {
        return Err(Refused::Malformed);
    }
    let client: ClientData = serde_json::from_slice(json).map_err(|_| Refused::Malformed)?;
    if client.r#type != kind {
        return Err(Refused::Type);
    }
    let challenge = challenge::read(&client.challenge, purpose, keys).ok_or(Refused::Challenge)?;
    if !site.allows(&client.origin) {
        return Err(Refused::Origin);
    }
    if client.cross_origin == Some(true) || client.top_origin.is_some() {
        return Err(Refused::Framed);
    }
    Ok(challenge)
}

fn check_data(site: &Site, data: &AuthenticatorData<'_>) -> Result<(), Refused> {
    let expected = Sha256::digest(site.rp_id().as_bytes());
    if !bool::from(expected.as_slice().ct_eq(data.rp_id_hash)) {
        return Err(Refused::RelyingParty);
    }
    data.check_flags()
}

#[cfg(test)]
#[path = "../tests/passkeys/authenticator.rs"]
#[allow(dead_code, reason = "what the tests of the component use")]
mod authenticator;

#[cfg(test)]
#[path = "passkey/tests.rs"]
mod tests;

#[cfg(test)]
pub(crate) mod testing {
    //! The keys of the tests.

    use contract::token::{JwkSet, Signer};

    pub(crate) fn keys() -> JwkSet {
        serde_json::from_str(include_str!("../../contract/testing/public.json")).unwrap()
    }

    pub(crate) fn signer() -> Signer {
        Signer::new(include_str!("../../contract/testing/private.pem"), &keys()).unwrap()
    }
}
