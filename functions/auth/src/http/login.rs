//! How a login begins, goes on and ends.

use super::{Origin, PRIVATE_CACHE_CONTROL, admit, admit_mail, invalid, mail, origin};
use crate::domain::{self, PASSWORD_BYTES_MAX};
use crate::link::{Link, Purpose};
use crate::session::Refresh;
use crate::sql::login::{Begin, Exchange, Proof};
use crate::sql::{Attempt, NewAccount};
use crate::{password, session, sql, throttle};
use contract::event::AccountMail;
use contract::token::{self, Caller, Role};
use fnhost_sdk::Host;
use fnhost_sdk::http::{Request, Response};
use fnhost_sdk::problem::Problem;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How long the public keys may be cached.
const KEYS_CACHE_CONTROL: &str = "public, max-age=300";
/// Whether nobody logs in before the address is confirmed: `true` or `false`.
const REQUIRE_VERIFIED_VARIABLE: &str = "require_verified_email";

/// The body of a registration.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct Registration {
    /// Kept in lower case and in Unicode's normal form NFKC; without format characters.
    email: String,
    /// At least 4 different characters, at most 256 bytes, and not one that is known from breaches.
    password: String,
    /// Trimmed; an empty one is none.
    name: Option<String>,
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct Registered {
    /// Where the mail goes to.
    email: String,
}

#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct Login {
    email: String,
    password: String,
}

#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = RefreshToken))]
pub(crate) struct Exchanged {
    /// As a login or the last exchange gave it.
    refresh_token: String,
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Account))]
pub(crate) struct Me {
    user_id: Uuid,
    email: String,
    name: Option<String>,
    role: Role,
    /// The address was confirmed.
    verified: bool,
}

/// The answer is the same whether the address is taken or not; what its owner is told differs.
pub(super) async fn register<H: Host>(host: &H, request: &Request) -> Result<Response, Problem> {
    let input: Registration = request.json()?;
    let email = domain::normalise_email(&input.email);
    domain::check_email(&email).map_err(invalid)?;
    let password = domain::normalise_password(&input.password);
    domain::check_password(&password, &email).map_err(invalid)?;
    let name = domain::check_name(input.name.as_deref()).map_err(invalid)?;
    let signer = session::signer(host).await?;
    let Origin { network, .. } = origin(host, request).await?;
    let subjects = [throttle::of_registration(&network), throttle::of_mail(&email)];
    let taken = admit_mail(host, &email, &subjects).await?;
    let [subject, of_mail] = &subjects;
    // Both are made in any case: they take the time.
    let password_hash = password::hash(&password).map_err(Problem::internal)?;
    let account_id = fnhost_sdk::time::Ids::new().next();
    let link = Link::new(&signer, Purpose::ConfirmAddress, account_id)?;
    if let Some(taken) = taken {
        let events = mail(request, (taken.account_id, &email), AccountMail::AddressTaken, None);
        sql::mail::send(host, taken.account_id, of_mail, None, events).await?;
    } else {
        let events = mail(request, (account_id, &email), AccountMail::ConfirmAddress, Some(&link));
        let account = NewAccount { account_id, email: &email, name, password_hash, subject, link: &link };
        // One that was made meanwhile has just sent the mail.
        sql::register(host, account, events).await?;
    }
    Ok(Response::json(202, &Registered { email }))
}

pub(super) async fn login<H: Host>(host: &H, request: &Request) -> Result<Response, Problem> {
    let input: Login = request.json()?;
    let signer = session::signer(host).await?;
    let must_be_verified = must_be_verified(host).await?;
    let (email, origin) = (domain::normalise_email(&input.email), origin(host, request).await?);
    let password = domain::normalise_password(&input.password);
    let network = throttle::name_of_network(&origin.network);
    let subjects = throttle::of_login(&email, &origin.network);
    let attempt = Attempt { email: &email, network: &network, subjects: &subjects, noted: Some(&origin) };
    let (credentials, counted) = admit(sql::admit(host, attempt).await?)?;
    let hash = credentials.as_ref().map(|credentials| credentials.password_hash.as_str());
    // Nobody has a longer one, so this tells nothing about an account.
    let matches = password.len() <= PASSWORD_BYTES_MAX && password::verify(&password, hash);
    // Told as a wrong password is: else a registration and a login would tell whether the address had been taken.
    let let_in = |credentials: &sql::Credentials| matches && (credentials.verified || !must_be_verified);
    let Some(credentials) = credentials.filter(let_in) else { return Err(refused(must_be_verified)) };
    let refresh = Refresh::new()?;
    let [pair, ..] = subjects;
    let begin = Begin {
        account_id: credentials.account_id,
        network,
        refresh: &refresh,
        counted,
        forgotten: pair.name,
        proof: Proof::Password {
            rehashed: rehashed(&credentials.password_hash, &password)?,
            checked: credentials.password_hash,
        },
        device: &origin.device,
        attempt: credentials.attempt,
    };
    let begun = sql::login::begin(host, begin).await?;
    let owner = begun.ok_or_else(|| refused(must_be_verified))?;
    let session = session::session(&signer, owner, credentials.role, refresh)?;
    Ok(Response::json(200, &session).with_header("cache-control", PRIVATE_CACHE_CONTROL))
}

fn refused(must_be_verified: bool) -> Problem {
    let detail = if must_be_verified {
        "there is no account with this address and password, or its address is not confirmed yet"
    } else {
        "there is no account with this address and password"
    };
    wrong_credentials("password", detail)
}

/// Whether nobody logs in before the address is confirmed.
pub(super) async fn must_be_verified<H: Host>(host: &H) -> Result<bool, Problem> {
    let value = host.variable(REQUIRE_VERIFIED_VARIABLE).await.map_err(Problem::internal)?;
    let wrong = |_| Problem::internal(format!("{REQUIRE_VERIFIED_VARIABLE} is {value:?}, not true or false"));
    value.trim().parse().map_err(wrong)
}

/// What replaces a hash whose parameters are not today's.
fn rehashed(old: &str, password: &str) -> Result<Option<String>, Problem> {
    if password::is_current(old) {
        return Ok(None);
    }
    password::hash(password).map(Some).map_err(Problem::internal)
}

pub(super) async fn refresh<H: Host>(host: &H, request: &Request) -> Result<Response, Problem> {
    let input: Exchanged = request.json()?;
    let signer = session::signer(host).await?;
    let origin = origin(host, request).await?;
    let (old, new) = (Refresh::of(input.refresh_token), Refresh::new()?);
    let (owner, role) = match sql::login::exchange(host, &old, &new, &origin).await? {
        Exchange::Done(owner, role) => (owner, role),
        refused => {
            if matches!(refused, Exchange::Reused) {
                // It is in two hands, and nobody can tell whose is the right one.
                eprintln!("a refresh token was used twice; its login was ended");
            }
            return Err(wrong_credentials("refresh_token", "log in again"));
        }
    };
    let session = session::session(&signer, owner, role, new)?;
    Ok(Response::json(200, &session).with_header("cache-control", PRIVATE_CACHE_CONTROL))
}

/// Always done, as RFC 7009 asks: a token that is no good any more needs no ending.
pub(super) async fn logout<H: Host>(host: &H, request: &Request) -> Result<Response, Problem> {
    let input: Exchanged = request.json()?;
    sql::login::end(host, &Refresh::of(input.refresh_token)).await?;
    Ok(Response::empty(204))
}

pub(super) async fn me<H: Host>(host: &H, Caller { user_id, .. }: Caller) -> Result<Response, Problem> {
    let account = sql::account(host, user_id).await?;
    let account = account.ok_or_else(|| Problem::unauthorized("there is no such account any more"))?;
    let sql::Account { email, name, role, verified } = account;
    Ok(Response::json(200, &Me { user_id, email, name, role, verified }))
}

pub(super) async fn keys<H: Host>(host: &H) -> Result<Response, Problem> {
    let keys = token::public_keys(host).await?;
    Ok(Response::json(200, &keys).with_header("cache-control", KEYS_CACHE_CONTROL))
}

/// 401: what was given to prove who one is is not good, or not any more.
pub(crate) fn wrong_credentials(field: &str, detail: &str) -> Problem {
    Problem::new(401, "wrong-credentials", "The credentials are not accepted", detail).with_field(field)
}
