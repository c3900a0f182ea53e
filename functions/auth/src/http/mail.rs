//! What a mail is sent for: to confirm an address, and to set a password that was forgotten.

use super::{admit_mail, invalid, mail, origin, wrong_credentials};
use crate::domain;
use crate::link::{self, Link, Purpose};
use crate::session::Owner;
use crate::{password, session, sql, throttle};
use contract::event::AccountMail;
use contract::token;
use fnhost_sdk::Host;
use fnhost_sdk::http::{Request, Response};
use fnhost_sdk::problem::Problem;
use serde::Deserialize;
use uuid::Uuid;

#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = LinkToken))]
pub(crate) struct Follow {
    /// As the link of the mail carries it.
    token: String,
}

#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = ForgottenPassword))]
pub(crate) struct Forgot {
    email: String,
}

#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = PasswordReset))]
pub(crate) struct Reset {
    /// As the link of the mail carries it.
    token: String,
    /// As for a registration.
    new_password: String,
}

/// Confirms an address.
pub(super) async fn verify<H: Host>(host: &H, request: &Request) -> Result<Response, Problem> {
    let input: Follow = request.json()?;
    let keys = token::public_keys(host).await?;
    let hash = link::read(&input.token, Purpose::ConfirmAddress, &keys).ok_or_else(stale)?;
    let origin = origin(host, request).await?;
    if !sql::mail::confirm(host, hash, &origin).await? {
        return Err(stale());
    }
    Ok(Response::empty(204))
}

/// Sends the link that confirms the caller's address once more; nothing where it is confirmed.
pub(super) async fn send_again<H: Host>(
    host: &H,
    request: &Request,
    owner: Owner,
) -> Result<Response, Problem> {
    let account = sql::account(host, owner.account_id).await?.ok_or_else(session::ended)?;
    if account.verified {
        return Ok(Response::empty(202));
    }
    let signer = session::signer(host).await?;
    let of_mail = throttle::of_mail(&account.email);
    admit_mail(host, &account.email, std::slice::from_ref(&of_mail)).await?;
    let link = Link::new(&signer, Purpose::ConfirmAddress, owner.account_id)?;
    let to = (owner.account_id, account.email.as_str());
    let events = mail(request, to, AccountMail::ConfirmAddress, Some(&link));
    sql::mail::send(host, owner.account_id, &of_mail, Some(&link), events).await?;
    Ok(Response::empty(202))
}

/// Sends a link that sets a password, where the address has an account; the answer does not tell.
pub(super) async fn forgot<H: Host>(host: &H, request: &Request) -> Result<Response, Problem> {
    let input: Forgot = request.json()?;
    let email = domain::normalise_email(&input.email);
    domain::check_email(&email).map_err(invalid)?;
    let signer = session::signer(host).await?;
    let origin = origin(host, request).await?;
    let subjects = [throttle::of_registration(&origin.network), throttle::of_mail(&email)];
    let known = admit_mail(host, &email, &subjects).await?;
    // Signed for nobody too, since that takes time; nobody has no account, so nothing is sent.
    let account_id = known.map_or(Uuid::nil(), |account| account.account_id);
    let link = Link::new(&signer, Purpose::ResetPassword, account_id)?;
    let events = mail(request, (account_id, &email), AccountMail::ResetPassword, Some(&link));
    let [_, of_mail] = &subjects;
    sql::mail::send(host, account_id, of_mail, Some(&link), events).await?;
    Ok(Response::empty(202))
}

/// Sets a password by a link, which ends every login of the account.
pub(super) async fn reset<H: Host>(host: &H, request: &Request) -> Result<Response, Problem> {
    let input: Reset = request.json()?;
    let keys = token::public_keys(host).await?;
    let hash = link::read(&input.token, Purpose::ResetPassword, &keys).ok_or_else(stale)?;
    let origin = origin(host, request).await?;
    // Before the new password is hashed: who follows an old link costs nothing.
    let (account_id, email) = sql::mail::resettable(host, &hash).await?.ok_or_else(stale)?;
    let password = new_password(&input.new_password, &email)?;
    let password_hash = password::hash(&password).map_err(Problem::internal)?;
    let events = mail(request, (account_id, &email), AccountMail::PasswordChanged, None);
    if !sql::mail::reset(host, hash, password_hash, &origin, events).await? {
        return Err(stale());
    }
    sql::account::end_late(host, account_id, None).await?;
    Ok(Response::empty(204))
}

/// A password that is to replace another one, in its normal form.
pub(super) fn new_password(given: &str, email: &str) -> Result<String, Problem> {
    let password = domain::normalise_password(given);
    let weak = |weak: domain::Invalid| Problem::invalid("new_password", weak.detail);
    domain::check_password(&password, email).map_err(weak)?;
    Ok(password)
}

/// The same answer for a link that is forged, for another purpose, used, or expired.
fn stale() -> Problem {
    wrong_credentials("token", "this link is not good any more; ask for another one")
}
