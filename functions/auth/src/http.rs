//! `/auth` and the public keys.

use crate::domain::{self, Invalid, PASSWORD_BYTES_MAX};
use crate::session::Refresh;
use crate::sql::{Admission, Begin, Exchange};
use crate::{password, session, sql, throttle};
use contract::problem::answer;
use contract::token::{self, Caller, Role};
use fnhost_sdk::http::{Request, Response};
use fnhost_sdk::problem::Problem;
use fnhost_sdk::{Host, routes};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How long the public keys may be cached.
const KEYS_CACHE_CONTROL: &str = "public, max-age=300";
/// Tokens are for their caller alone.
const TOKEN_CACHE_CONTROL: &str = "no-store";

/// How many proxies stand in front and append to `x-forwarded-for`.
const PROXIES_VARIABLE: &str = "trusted_proxies";

/// The body of a registration.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct Registration {
    /// Kept in lower case and in Unicode's normal form NFKC; without format characters.
    email: String,
    /// At least 4 different characters, at most 256 bytes, and not one of the first to be guessed.
    password: String,
    /// Trimmed; an empty one is none.
    name: Option<String>,
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct Registered {
    user_id: Uuid,
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
}

/// Answers a request below `/auth`, or for `/.well-known/jwks.json`.
pub async fn handle<H: Host>(host: &H, request: Request) -> Response {
    answer(route(host, &request).await)
}

async fn route<H: Host>(host: &H, request: &Request) -> Result<Response, Problem> {
    routes! {
        request, caller: token::caller(host, request);
        ["auth", "register"] => POST: register(host, request);
        ["auth", "login"] => POST: login(host, request);
        ["auth", "refresh"] => POST: refresh(host, request);
        ["auth", "logout"] => POST: logout(host, request);
        ["auth", "me"] => GET as caller: me(host, caller);
        [".well-known", "jwks.json"] => GET: keys(host);
    }
}

async fn register<H: Host>(host: &H, request: &Request) -> Result<Response, Problem> {
    let input: Registration = request.json()?;
    let email = domain::normalise_email(&input.email);
    domain::check_email(&email).map_err(invalid)?;
    let password = domain::normalise_password(&input.password);
    domain::check_password(&password, &email).map_err(invalid)?;
    let name = domain::check_name(input.name.as_deref()).map_err(invalid)?;
    let network = network(host, request).await?;
    let subject = throttle::of_registration(&network);
    admit(sql::admit(host, None, "", std::slice::from_ref(&subject)).await?)?;
    let hash = password::hash(&password).map_err(Problem::internal)?;
    let user_id = fnhost_sdk::time::Ids::new().next();
    if !sql::register(host, user_id, &email, name, hash, &subject).await? {
        return Err(Problem::conflict("there is an account with this address").with_field("email"));
    }
    Ok(Response::json(201, &Registered { user_id, email }))
}

async fn login<H: Host>(host: &H, request: &Request) -> Result<Response, Problem> {
    let input: Login = request.json()?;
    let signer = session::signer(host).await?;
    let (email, network) = (domain::normalise_email(&input.email), network(host, request).await?);
    let password = domain::normalise_password(&input.password);
    let network_name = throttle::name_of_network(&network);
    let subjects = throttle::of_login(&email, &network);
    let (credentials, counted) = admit(sql::admit(host, Some(&email), &network_name, &subjects).await?)?;
    let hash = credentials.as_ref().map(|credentials| credentials.password_hash.as_str());
    // Nobody has a longer one, so this tells nothing about an account.
    let matches = password.len() <= PASSWORD_BYTES_MAX && password::verify(&password, hash);
    let Some(credentials) = credentials.filter(|_| matches) else {
        return Err(wrong_credentials("password", "there is no account with this address and password"));
    };
    let refresh = Refresh::new()?;
    let [pair, ..] = subjects;
    let begin = Begin {
        account_id: credentials.account_id,
        network: network_name,
        refresh: &refresh,
        counted,
        forgotten: pair.name,
        rehashed: rehashed(credentials.password_hash, &password)?,
    };
    sql::begin_session(host, begin).await?;
    let session = session::session(&signer, credentials.account_id, credentials.role, refresh)?;
    Ok(Response::json(200, &session).with_header("cache-control", TOKEN_CACHE_CONTROL))
}

/// A hash whose parameters are not today's, and one with today's in its place.
fn rehashed(old: String, password: &str) -> Result<Option<(String, String)>, Problem> {
    if password::is_current(&old) {
        return Ok(None);
    }
    let new = password::hash(password).map_err(Problem::internal)?;
    Ok(Some((old, new)))
}

/// What the attempt is checked against, and what it is counted for.
fn admit(admission: Admission) -> Result<(Option<sql::Credentials>, Vec<String>), Problem> {
    match admission {
        Admission::Attempt { credentials, counted } => Ok((credentials, counted)),
        Admission::Wait(seconds) => Err(Problem::too_many_requests(seconds)),
    }
}

/// The network that a request comes from.
async fn network<H: Host>(host: &H, request: &Request) -> Result<String, Problem> {
    let proxies = host.variable(PROXIES_VARIABLE).await.map_err(Problem::internal)?;
    let not_a_number = |_| Problem::internal(format!("{PROXIES_VARIABLE} is {proxies:?}, not a number"));
    Ok(throttle::network(request, proxies.trim().parse().map_err(not_a_number)?))
}

async fn refresh<H: Host>(host: &H, request: &Request) -> Result<Response, Problem> {
    let input: Exchanged = request.json()?;
    let signer = session::signer(host).await?;
    let (old, new) = (Refresh::of(input.refresh_token), Refresh::new()?);
    let (account_id, role) = match sql::exchange(host, &old, &new).await? {
        Exchange::Done(account_id, role) => (account_id, role),
        refused => {
            if matches!(refused, Exchange::Reused) {
                // It is in two hands, and nobody can tell whose is the right one.
                eprintln!("a refresh token was used twice; its login was ended");
            }
            return Err(wrong_credentials("refresh_token", "log in again"));
        }
    };
    let session = session::session(&signer, account_id, role, new)?;
    Ok(Response::json(200, &session).with_header("cache-control", TOKEN_CACHE_CONTROL))
}

/// Always done, as RFC 7009 asks: a token that is no good any more needs no ending.
async fn logout<H: Host>(host: &H, request: &Request) -> Result<Response, Problem> {
    let input: Exchanged = request.json()?;
    sql::end_session(host, &Refresh::of(input.refresh_token)).await?;
    Ok(Response::empty(204))
}

async fn me<H: Host>(host: &H, Caller { user_id, .. }: Caller) -> Result<Response, Problem> {
    let account = sql::account(host, user_id).await?;
    let account = account.ok_or_else(|| Problem::unauthorized("there is no such account any more"))?;
    let sql::Account { email, name, role } = account;
    Ok(Response::json(200, &Me { user_id, email, name, role }))
}

async fn keys<H: Host>(host: &H) -> Result<Response, Problem> {
    let keys = token::public_keys(host).await?;
    Ok(Response::json(200, &keys).with_header("cache-control", KEYS_CACHE_CONTROL))
}

/// 401: e-mail and password do not belong together, or the refresh token is no good.
pub(crate) fn wrong_credentials(field: &str, detail: &str) -> Problem {
    Problem::new(401, "wrong-credentials", "The credentials are not accepted", detail).with_field(field)
}

fn invalid(invalid: Invalid) -> Problem {
    Problem::invalid(invalid.field, invalid.detail)
}

#[cfg(test)]
mod tests {
    //! What is refused before the database is asked: the host of these tests has nothing at all.

    use super::*;
    use fnhost_sdk::http::Body;
    use fnhost_sdk::{Row, Sql, SqlError, Value};
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    struct Nothing;

    impl Sql for Nothing {
        async fn query(&self, statement: &'static str, _: Vec<Value>) -> Result<Vec<Row>, SqlError> {
            panic!("the database was asked: {statement}")
        }

        async fn execute(&self, statement: &'static str, _: Vec<Value>) -> Result<u64, SqlError> {
            panic!("the database was asked: {statement}")
        }
    }

    impl Host for Nothing {
        async fn variable(&self, name: &str) -> Result<String, String> {
            Err(format!("variable {name} is not defined"))
        }
    }

    /// Status and field of the answer. Nothing here ever waits, so one poll is the whole call.
    fn refusal(method: &str, path: &str, body: Body) -> (u16, Option<String>) {
        let headers = vec![("content-type".to_owned(), b"application/json".to_vec())];
        let (method, path) = (method.to_owned(), path.to_owned());
        let request = Request { method, path, query: String::new(), headers, body };
        let answer = pin!(handle(&Nothing, request)).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(response) = answer else { panic!("the call waits for something") };
        let problem: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(problem["status"], response.status);
        (response.status, problem["field"].as_str().map(str::to_owned))
    }

    #[test]
    fn what_is_not_acceptable_names_the_field() {
        for (path, body, status, field) in [
            ("register", "{", 400, "body"),
            ("register", "{}", 422, "email"),
            ("register", r#"{"email":"a@b.c"}"#, 422, "password"),
            ("register", r#"{"email":7,"password":"correct horse"}"#, 422, "email"),
            ("register", r#"{"email":"a@b","password":"correct horse"}"#, 422, "email"),
            ("register", r#"{"email":"a\u200b@b.c","password":"correct horse"}"#, 422, "email"),
            ("register", r#"{"email":"a@b.c\u0000","password":"correct horse"}"#, 422, "email"),
            ("register", r#"{"email":"a@b.c","password":"password"}"#, 422, "password"),
            ("register", r#"{"email":"a@b.c","password":"correct horse","name":"a\nb"}"#, 422, "name"),
            ("login", r#"{"email":"a@b.c"}"#, 422, "password"),
            ("refresh", "{}", 422, "refresh_token"),
            ("logout", "{}", 422, "refresh_token"),
        ] {
            let found = refusal("POST", &format!("/auth/{path}"), Body::Read(body.into()));
            assert_eq!(found, (status, Some(field.to_owned())), "{path} {body}");
        }
        assert_eq!(refusal("POST", "/auth/login", Body::TooLarge), (413, Some("body".to_owned())));
    }

    #[test]
    fn addresses_and_methods_that_do_not_exist_are_refused() {
        for (method, path, status) in [
            ("GET", "/auth", 404),
            ("GET", "/auth/other", 404),
            ("GET", "/auth/login", 405),
            ("GET", "/auth/logout", 405),
            ("POST", "/auth/me", 405),
            ("POST", "/.well-known/jwks.json", 405),
            ("GET", "/auth/me", 401),
        ] {
            assert_eq!(refusal(method, path, Body::Read(Vec::new())).0, status, "{method} {path}");
        }
    }

    #[test]
    fn a_missing_key_is_our_fault_and_says_nothing() {
        let body = Body::Read(br#"{"email":"a@b.c","password":"correct horse"}"#.to_vec());
        assert_eq!(refusal("POST", "/auth/login", body), (500, None));
    }
}
