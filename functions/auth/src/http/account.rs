//! What only an account's owner may do: replace the password, see and end logins, and read what happened.

use super::mail::new_password;
use super::{PRIVATE_CACHE_CONTROL, admit, mail, origin, wrong_credentials};
use crate::domain::{self, PASSWORD_BYTES_MAX};
use crate::session::{self, Owner};
use crate::sql::Attempt;
use crate::sql::account::{self, Entry, Session};
use crate::{password, sql, throttle};
use contract::event::AccountMail;
use fnhost_sdk::Host;
use fnhost_sdk::http::{Request, Response};
use fnhost_sdk::page::Paging;
use fnhost_sdk::problem::Problem;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Logins in an answer at most; ending the others ends all of them.
pub const SESSIONS_MAX: i64 = 100;
/// Entries of an account's activity in an answer where the caller does not say.
pub const ACTIVITY_DEFAULT: i64 = 20;
/// Entries of an account's activity in an answer at most.
pub const ACTIVITY_MAX: i64 = 100;

#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = PasswordChange))]
pub(crate) struct Change {
    current_password: String,
    /// As for a registration, and another one than before.
    new_password: String,
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct Sessions {
    /// The caller's first, then by their last use.
    sessions: Vec<Session>,
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Activity))]
pub(crate) struct Activities {
    entries: Vec<Entry>,
    /// For the parameter `cursor` of the next request; null on the last page.
    next_cursor: Option<String>,
}

/// Replaces the password, which ends every other login of the account.
///
/// Whoever has a copy of the access token guesses as slowly as at a login.
pub(super) async fn change_password<H: Host>(
    host: &H,
    request: &Request,
    owner: Owner,
) -> Result<Response, Problem> {
    let input: Change = request.json()?;
    let current = domain::normalise_password(&input.current_password);
    let email = sql::account(host, owner.account_id).await?.ok_or_else(session::ended)?.email;
    let password = new_password(&input.new_password, &email)?;
    if password == current {
        return Err(Problem::invalid("new_password", "another one than before"));
    }
    let Proven { password_hash, counted, forgotten, attempt } =
        prove(host, request, &email, &current).await?;
    let new_hash = password::hash(&password).map_err(Problem::internal)?;
    let change = account::Change { old_hash: password_hash, new_hash, counted, forgotten, attempt };
    let events = mail(request, (owner.account_id, &email), AccountMail::PasswordChanged, None);
    if !account::change_password(host, owner, change, events).await? {
        return Err(session::ended());
    }
    account::end_late(host, owner.account_id, Some(owner.login_id)).await?;
    Ok(Response::empty(204))
}

/// A password that was right, and the attempt that is to be given back.
pub(super) struct Proven {
    password_hash: String,
    pub(super) counted: Vec<String>,
    pub(super) forgotten: String,
    pub(super) attempt: Option<i64>,
}

/// Checks the password of an account whose owner is signed in; counted as a login is.
pub(super) async fn prove<H: Host>(
    host: &H,
    request: &Request,
    email: &str,
    current: &str,
) -> Result<Proven, Problem> {
    let origin = origin(host, request).await?;
    let network = throttle::name_of_network(&origin.network);
    let subjects = throttle::of_login(email, &origin.network);
    let attempt = Attempt { email, network: &network, subjects: &subjects, noted: Some(&origin) };
    let (credentials, counted) = admit(sql::admit(host, attempt).await?)?;
    let sql::Credentials { password_hash, attempt, .. } = credentials.ok_or_else(session::ended)?;
    let matches =
        current.len() <= PASSWORD_BYTES_MAX && password::verify(current, Some(password_hash.as_str()));
    if !matches {
        return Err(wrong_credentials("current_password", "this is not the account's password"));
    }
    let [pair, ..] = subjects;
    Ok(Proven { password_hash, counted, forgotten: pair.name, attempt })
}

/// The owner's logins.
pub(super) async fn sessions<H: Host>(host: &H, owner: Owner) -> Result<Response, Problem> {
    let sessions = account::sessions(host, owner, SESSIONS_MAX).await?;
    if sessions.is_empty() {
        return Err(session::ended());
    }
    let answer = Response::json(200, &Sessions { sessions });
    Ok(answer.with_header("cache-control", PRIVATE_CACHE_CONTROL))
}

/// Ends every login but the caller's.
pub(super) async fn end_others<H: Host>(
    host: &H,
    request: &Request,
    owner: Owner,
) -> Result<Response, Problem> {
    let origin = origin(host, request).await?;
    account::end(host, owner, None, &origin).await?.ok_or_else(session::ended)?;
    Ok(Response::empty(204))
}

/// Ends one login, which may be the caller's.
pub(super) async fn end<H: Host>(
    host: &H,
    request: &Request,
    owner: Owner,
    id: &str,
) -> Result<Response, Problem> {
    let none = || Problem::not_found("you have no such login that goes on");
    let id: Uuid = id.parse().map_err(|_| none())?;
    let origin = origin(host, request).await?;
    match account::end(host, owner, Some(id), &origin).await? {
        None => Err(session::ended()),
        Some(0) => Err(none()),
        Some(_) => Ok(Response::empty(204)),
    }
}

/// What happened to the account, newest first.
pub(super) async fn activity<H: Host>(
    host: &H,
    request: &Request,
    owner: Owner,
) -> Result<Response, Problem> {
    let paging = Paging::of(request, ACTIVITY_DEFAULT, ACTIVITY_MAX)?;
    let before = paging.after.unwrap_or(i64::MAX);
    let found = account::activity(host, owner, before, paging.rows()).await?.ok_or_else(session::ended)?;
    let (entries, next_cursor) = paging.page(found, |last: &Entry| last.id);
    let answer = Response::json(200, &Activities { entries, next_cursor });
    Ok(answer.with_header("cache-control", PRIVATE_CACHE_CONTROL))
}
