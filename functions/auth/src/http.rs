//! `/auth` and the public keys.

use crate::domain::{self, Invalid, PASSWORD_BYTES_MAX};
use crate::session::{Refresh, Signer};
use crate::{password, sql};
use kit::Host;
use kit::http::{Request, Response};
use kit::problem::Problem;
use kit::token::{self, Role};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How long the public keys may be cached.
const KEYS_CACHE_CONTROL: &str = "public, max-age=300";
/// Tokens are for their caller alone.
const TOKEN_CACHE_CONTROL: &str = "no-store";

/// Answers a request below `/auth`, or for `/.well-known/jwks.json`.
pub async fn handle<H: Host>(host: &H, request: Request) -> Response {
    route(host, &request).await.into()
}

async fn route<H: Host>(host: &H, request: &Request) -> Result<Response, Problem> {
    let segments = request.segments();
    match (request.method.as_str(), &segments[..]) {
        ("POST", ["auth", "register"]) => register(host, request).await,
        ("POST", ["auth", "login"]) => login(host, request).await,
        ("POST", ["auth", "refresh"]) => refresh(host, request).await,
        ("GET", ["auth", "me"]) => me(host, request).await,
        ("GET", [".well-known", "jwks.json"]) => keys(host).await,
        (_, ["auth", "register" | "login" | "refresh"]) => Err(Problem::method_not_allowed("POST")),
        (_, ["auth", "me"] | [".well-known", "jwks.json"]) => Err(Problem::method_not_allowed("GET")),
        _ => Err(Problem::not_found("there is no such address")),
    }
}

async fn register<H: Host>(host: &H, request: &Request) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct Input {
        email: String,
        password: String,
        name: Option<String>,
    }
    #[derive(Serialize)]
    struct Registered {
        user_id: Uuid,
        email: String,
    }
    let input: Input = request.json()?;
    let email = domain::normalise_email(&input.email);
    domain::check_email(&email).map_err(invalid)?;
    domain::check_password(&input.password, &email).map_err(invalid)?;
    let name = domain::check_name(input.name.as_deref()).map_err(invalid)?;
    let hash = password::hash(&input.password).map_err(Problem::internal)?;
    let user_id = kit::time::Ids::new().next();
    if !sql::register(host, user_id, &email, name, hash).await? {
        return Err(Problem::conflict("there is an account with this address").with_field("email"));
    }
    Ok(Response::json(201, &Registered { user_id, email }))
}

async fn login<H: Host>(host: &H, request: &Request) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct Input {
        email: String,
        password: String,
    }
    let input: Input = request.json()?;
    let signer = Signer::from_variables(host).await?;
    let credentials = sql::credentials(host, &domain::normalise_email(&input.email)).await?;
    let hash = credentials
        .as_ref()
        .map(|credentials| credentials.password_hash.as_str());
    // Nobody has a longer one, so this tells nothing about an account.
    let matches = input.password.len() <= PASSWORD_BYTES_MAX && password::verify(&input.password, hash);
    let Some(credentials) = credentials.filter(|_| matches) else {
        return Err(Problem::wrong_credentials(
            "password",
            "there is no account with this address and password",
        ));
    };
    let refresh = Refresh::new()?;
    sql::begin_session(host, credentials.account_id, &refresh).await?;
    let session = signer.session(credentials.account_id, credentials.role, refresh);
    Ok(Response::json(200, &session).with_header("cache-control", TOKEN_CACHE_CONTROL))
}

async fn refresh<H: Host>(host: &H, request: &Request) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct Input {
        refresh_token: String,
    }
    let input: Input = request.json()?;
    let signer = Signer::from_variables(host).await?;
    let (old, new) = (Refresh::of(input.refresh_token), Refresh::new()?);
    let Some((account_id, role)) = sql::exchange(host, &old, &new).await? else {
        // One that was used before is in two hands, and nobody can tell whose is the right one.
        let ended = sql::end_family(host, &old).await?;
        if ended > 0 {
            eprintln!("a refresh token was used twice; {ended} tokens of its login were ended");
        }
        return Err(Problem::wrong_credentials("refresh_token", "log in again"));
    };
    let session = signer.session(account_id, role, new);
    Ok(Response::json(200, &session).with_header("cache-control", TOKEN_CACHE_CONTROL))
}

async fn me<H: Host>(host: &H, request: &Request) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Me {
        user_id: Uuid,
        email: String,
        name: Option<String>,
        role: Role,
    }
    let user_id = token::caller(host, request).await?.user_id;
    let account = sql::account(host, user_id).await?;
    let account = account.ok_or_else(|| Problem::unauthorized("there is no such account any more"))?;
    let sql::Account { email, name, role } = account;
    Ok(Response::json(
        200,
        &Me {
            user_id,
            email,
            name,
            role,
        },
    ))
}

async fn keys<H: Host>(host: &H) -> Result<Response, Problem> {
    let keys = token::public_keys(host).await?;
    Ok(Response::json(200, &keys).with_header("cache-control", KEYS_CACHE_CONTROL))
}

fn invalid(invalid: Invalid) -> Problem {
    Problem::invalid(invalid.field, invalid.detail)
}
