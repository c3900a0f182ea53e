//! Passkeys: how one is added, listed and removed, and how one signs in. Bodies are those of the standard (its `…JSON` types), so
//! that browsers read and write them.

use super::account::{Proven, prove};
use super::login::must_be_verified;
use super::{Origin, PRIVATE_CACHE_CONTROL, admit, invalid, origin, wrong_credentials};
use crate::domain;
use crate::passkey::challenge::{self, Purpose};
use crate::passkey::data::CREDENTIAL_ID_BYTES_MAX;
use crate::passkey::{self, Refused, Signed, Site, key};
use crate::session::{self, Owner, Refresh};
use crate::sql::login::{Begin, Proof};
use crate::sql::passkey::{Addition as Added, Found, PASSKEYS_MAX, Passkey};
use crate::sql::{self, Attempt};
use crate::throttle;
use base64ct::{Base64UrlUnpadded, Encoding};
use contract::token;
use fnhost_sdk::Host;
use fnhost_sdk::http::{Request, Response};
use fnhost_sdk::problem::Problem;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The domain that passkeys are bound to; another one makes all of them useless.
const RP_ID_VARIABLE: &str = "passkey_rp_id";
/// The origins of the pages that may ask for passkeys, with commas between them.
const ORIGINS_VARIABLE: &str = "passkey_origins";

/// Whom authenticators show a passkey as being for.
const RP_NAME: &str = "Half Moon";
/// What a passkey is called whose owner gives it no name.
const NAME_DEFAULT: &str = "Passkey";
/// How long a browser waits for an authenticator, in milliseconds: as long as the challenge is good.
const TIMEOUT_MS: u64 = challenge::SECONDS * 1000;

/// Bytes of what a browser says that it was asked.
const CLIENT_DATA_BYTES_MAX: usize = 4096;
/// Bytes of a new passkey with its attestation, which some authenticators send unasked.
const ATTESTATION_BYTES_MAX: usize = 16 * 1024;
/// Bytes of an authenticator's data when it signs in.
const AUTHENTICATOR_DATA_BYTES_MAX: usize = 1024;
/// Bytes of a signature: those of the longest RSA key.
const SIGNATURE_BYTES_MAX: usize = 512;
/// Bytes of a user handle, by the standard.
const USER_HANDLE_BYTES_MAX: usize = 64;

/// Bytes in base64url without padding, as the standard writes them in JSON.
#[cfg(feature = "openapi")]
pub(crate) const BASE64URL: &str = "^[A-Za-z0-9_-]+$";

/// The body that asks for what a new passkey is made by.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = PasskeyConfirmation))]
pub(crate) struct Confirmation {
    /// A session that was stolen adds no passkey, which would outlive it.
    current_password: String,
}

#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = PasskeyAddition))]
pub(crate) struct Addition {
    /// Trimmed; without one it is `Passkey`.
    name: Option<String>,
    /// What the browser answered, `RegistrationResponseJSON`.
    credential: Made,
}

#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = MadeCredential))]
pub(crate) struct Made {
    response: AttestationResponse,
}

/// `AuthenticatorAttestationResponseJSON`.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct AttestationResponse {
    #[serde(rename = "clientDataJSON")]
    client_data_json: String,
    #[serde(rename = "attestationObject")]
    attestation_object: String,
}

#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = PasskeyLogin))]
pub(crate) struct SignIn {
    /// What the browser answered, `AuthenticationResponseJSON`.
    credential: SignedCredential,
}

#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct SignedCredential {
    /// What the authenticator calls the passkey.
    id: String,
    response: AssertionResponse,
}

/// `AuthenticatorAssertionResponseJSON`.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct AssertionResponse {
    #[serde(rename = "clientDataJSON")]
    client_data_json: String,
    authenticator_data: String,
    signature: String,
    /// The account that the passkey was made for; a passkey without it signs nobody in.
    user_handle: Option<String>,
}

/// `PublicKeyCredentialCreationOptionsJSON`.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreationOptions {
    rp: RelyingParty,
    user: User,
    challenge: String,
    pub_key_cred_params: Vec<Algorithm>,
    /// Milliseconds.
    timeout: u64,
    /// The account's passkeys: an authenticator that has one of them makes no second.
    exclude_credentials: Vec<Descriptor>,
    authenticator_selection: Selection,
    attestation: &'static str,
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct RelyingParty {
    id: String,
    name: &'static str,
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = PasskeyUser))]
#[serde(rename_all = "camelCase")]
pub(crate) struct User {
    /// The account's id, as bytes.
    id: String,
    name: String,
    display_name: String,
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = PasskeyAlgorithm))]
pub(crate) struct Algorithm {
    r#type: &'static str,
    /// As COSE numbers it.
    alg: i64,
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = PasskeyDescriptor))]
pub(crate) struct Descriptor {
    r#type: &'static str,
    id: String,
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = AuthenticatorSelection))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Selection {
    resident_key: &'static str,
    require_resident_key: bool,
    user_verification: &'static str,
}

/// `PublicKeyCredentialRequestOptionsJSON`. No passkeys are named: whoever asks has not said who they are, and is told of nobody.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequestOptions {
    challenge: String,
    /// Milliseconds.
    timeout: u64,
    rp_id: String,
    user_verification: &'static str,
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct Passkeys {
    /// The domain that passkeys are for: pages elsewhere cannot add one.
    rp_id: String,
    /// The oldest first.
    passkeys: Vec<Passkey>,
}

/// The owner's passkeys.
pub(super) async fn list<H: Host>(host: &H, owner: Owner) -> Result<Response, Problem> {
    let site = site(host).await?;
    let passkeys = sql::passkey::list(host, owner).await?.ok_or_else(session::ended)?;
    let answer = Response::json(200, &Passkeys { rp_id: site.rp_id().to_owned(), passkeys });
    Ok(answer.with_header("cache-control", PRIVATE_CACHE_CONTROL))
}

/// What a browser makes a passkey by, for whoever is signed in and knows the password.
pub(super) async fn add_options<H: Host>(
    host: &H,
    request: &Request,
    owner: Owner,
) -> Result<Response, Problem> {
    let input: Confirmation = request.json()?;
    let (site, signer) = (site(host).await?, session::signer(host).await?);
    let there_are = sql::passkey::list(host, owner).await?.ok_or_else(session::ended)?;
    let account = sql::account(host, owner.account_id).await?.ok_or_else(session::ended)?;
    let current = domain::normalise_password(&input.current_password);
    let Proven { counted, forgotten, attempt, .. } = prove(host, request, &account.email, &current).await?;
    sql::passkey::give_back(host, counted, forgotten, attempt).await?;
    if there_are.len() >= usize::try_from(PASSKEYS_MAX).map_err(Problem::internal)? {
        return Err(too_many());
    }
    let algorithm = |alg| Algorithm { r#type: PUBLIC_KEY, alg };
    let options = CreationOptions {
        rp: RelyingParty { id: site.rp_id().to_owned(), name: RP_NAME },
        user: User {
            id: Base64UrlUnpadded::encode_string(owner.account_id.as_bytes()),
            display_name: account.name.unwrap_or_else(|| account.email.clone()),
            name: account.email,
        },
        challenge: challenge::new(&signer, Purpose::Add(owner))?,
        pub_key_cred_params: key::ALGORITHMS.map(algorithm).into(),
        timeout: TIMEOUT_MS,
        exclude_credentials: there_are.iter().map(descriptor).collect(),
        authenticator_selection: Selection {
            resident_key: REQUIRED,
            require_resident_key: true,
            user_verification: REQUIRED,
        },
        attestation: "none",
    };
    Ok(Response::json(200, &options).with_header("cache-control", PRIVATE_CACHE_CONTROL))
}

/// The one type of credentials that there is.
const PUBLIC_KEY: &str = "public-key";
/// A passkey has to be found without an e-mail address, and to verify its owner.
const REQUIRED: &str = "required";

fn descriptor(passkey: &Passkey) -> Descriptor {
    Descriptor { r#type: PUBLIC_KEY, id: Base64UrlUnpadded::encode_string(&passkey.credential_id) }
}

/// Keeps a passkey that was made.
pub(super) async fn add<H: Host>(host: &H, request: &Request, owner: Owner) -> Result<Response, Problem> {
    let input: Addition = request.json()?;
    let name = domain::check_name(input.name.as_deref()).map_err(invalid)?.unwrap_or(NAME_DEFAULT);
    let AttestationResponse { client_data_json, attestation_object } = &input.credential.response;
    let client_data = bytes("clientDataJSON", client_data_json, CLIENT_DATA_BYTES_MAX)?;
    let attestation = bytes("attestationObject", attestation_object, ATTESTATION_BYTES_MAX)?;
    let (site, keys) = (site(host).await?, token::public_keys(host).await?);
    let made = passkey::Made { client_data: &client_data, attestation: &attestation };
    // Whoever is signed in may know what is wrong.
    let refused = |refused: Refused| Problem::invalid("credential", refused.to_string());
    let new = passkey::check_new(&site, &keys, owner, made).map_err(refused)?;
    let (passkey_id, origin) = (fnhost_sdk::time::Ids::new().next(), origin(host, request).await?);
    match sql::passkey::add(host, owner, (passkey_id, name), new, &origin).await? {
        Added::Done => Ok(Response::empty(204)),
        Added::Ended => Err(session::ended()),
        Added::Used => Err(refused(Refused::Challenge)),
        Added::TooMany => Err(too_many()),
        Added::Known => Err(Problem::conflict("this passkey is there already")),
    }
}

fn too_many() -> Problem {
    Problem::conflict(format!("there are {PASSKEYS_MAX} passkeys, which is as many as there may be"))
}

/// Removes one of the owner's passkeys. What it signed in goes on until it is ended.
pub(super) async fn remove<H: Host>(
    host: &H,
    request: &Request,
    owner: Owner,
    id: &str,
) -> Result<Response, Problem> {
    let none = || Problem::not_found("you have no such passkey");
    let id: Uuid = id.parse().map_err(|_| none())?;
    let origin = origin(host, request).await?;
    match sql::passkey::remove(host, owner, id, &origin).await? {
        None => Err(session::ended()),
        Some(0) => Err(none()),
        Some(_) => Ok(Response::empty(204)),
    }
}

/// What a browser asks for a passkey by. The same for everybody, and nothing is written.
pub(super) async fn sign_in_options<H: Host>(host: &H) -> Result<Response, Problem> {
    let (site, signer) = (site(host).await?, session::signer(host).await?);
    let options = RequestOptions {
        challenge: challenge::new(&signer, Purpose::SignIn)?,
        timeout: TIMEOUT_MS,
        rp_id: site.rp_id().to_owned(),
        user_verification: REQUIRED,
    };
    Ok(Response::json(200, &options).with_header("cache-control", PRIVATE_CACHE_CONTROL))
}

/// Begins a login by a passkey. It is counted as one by a password is, and every refusal is the same.
pub(super) async fn sign_in<H: Host>(host: &H, request: &Request) -> Result<Response, Problem> {
    let input: SignIn = request.json()?;
    let SignedCredential { id, response } = &input.credential;
    let credential_id = bytes("id", id, CREDENTIAL_ID_BYTES_MAX)?;
    let client_data = bytes("clientDataJSON", &response.client_data_json, CLIENT_DATA_BYTES_MAX)?;
    let data = &response.authenticator_data;
    let authenticator_data = bytes("authenticatorData", data, AUTHENTICATOR_DATA_BYTES_MAX)?;
    let signature = bytes("signature", &response.signature, SIGNATURE_BYTES_MAX)?;
    let user_handle = response.user_handle.as_deref();
    let user_handle =
        user_handle.map(|handle| bytes("userHandle", handle, USER_HANDLE_BYTES_MAX)).transpose()?;
    let (site, signer, keys) =
        (site(host).await?, session::signer(host).await?, token::public_keys(host).await?);
    let must_be_verified = must_be_verified(host).await?;
    let Origin { network: address, device } = &origin(host, request).await?;
    let found = sql::passkey::find(host, &credential_id).await?;
    // One that is not known counts as an address that is not.
    let email = found.as_ref().map_or(id.as_str(), |found| found.email.as_str());
    let (network, subjects) = (throttle::name_of_network(address), throttle::of_login(email, address));
    let from = Origin { network: address.clone(), device: device.clone() };
    let attempt = Attempt { email, network: &network, subjects: &subjects, noted: Some(&from) };
    let (credentials, counted) = admit(sql::admit(host, attempt).await?)?;
    let signed = Signed {
        client_data: &client_data,
        authenticator_data: &authenticator_data,
        signature: &signature,
        user_handle: user_handle.as_deref(),
    };
    let checked = passkey::check_signed(&site, &keys, found.as_ref().map(|found| &found.known), signed);
    let accepted = checked.map_err(|refused| {
        // Why is for whoever runs this: it may be a setting.
        eprintln!("a passkey was refused: {refused}");
        not_accepted()
    })?;
    let Found { known, role, .. } =
        found.filter(|found| found.verified || !must_be_verified).ok_or_else(not_accepted)?;
    let refresh = Refresh::new()?;
    let [pair, ..] = subjects;
    let begin = Begin {
        account_id: known.account_id,
        network,
        refresh: &refresh,
        counted,
        forgotten: pair.name,
        proof: Proof::Passkey { credential_id, accepted },
        device,
        attempt: credentials.and_then(|credentials| credentials.attempt),
    };
    let owner = sql::login::begin(host, begin).await?.ok_or_else(not_accepted)?;
    let session = session::session(&signer, owner, role, refresh)?;
    Ok(Response::json(200, &session).with_header("cache-control", PRIVATE_CACHE_CONTROL))
}

/// 401, whatever it was.
pub(crate) fn not_accepted() -> Problem {
    wrong_credentials("credential", "this passkey is not accepted")
}

async fn site<H: Host>(host: &H) -> Result<Site, Problem> {
    let rp_id = host.variable(RP_ID_VARIABLE).await.map_err(Problem::internal)?;
    let origins = host.variable(ORIGINS_VARIABLE).await.map_err(Problem::internal)?;
    Site::new(&rp_id, &origins).map_err(Problem::internal)
}

/// The bytes of a field of the credential.
fn bytes(field: &str, text: &str, max: usize) -> Result<Vec<u8>, Problem> {
    let place =
        if field == "id" { "credential.id".to_owned() } else { format!("credential.response.{field}") };
    // Looked at before it is decoded.
    if text.len() > max.div_ceil(3) * 4 {
        return Err(Problem::invalid(place, format!("at most {max} bytes")));
    }
    Base64UrlUnpadded::decode_vec(text)
        .map_err(|_| Problem::invalid(place, "bytes in base64url without padding"))
}
