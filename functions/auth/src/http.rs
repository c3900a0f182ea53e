//! `/auth` and the public keys: who answers what. [`login`] begins and ends logins, [`mail`] has what is sent a mail for,
//! [`account`] what only an account's owner may do, and [`passkey`] passkeys.

mod account;
mod login;
mod mail;
mod passkey;

#[cfg(feature = "openapi")]
pub(crate) use account::{ACTIVITY_DEFAULT, ACTIVITY_MAX, Activities, Change, SESSIONS_MAX, Sessions};
pub(crate) use login::wrong_credentials;
#[cfg(feature = "openapi")]
pub(crate) use login::{Exchanged, Login, Me, Registered, Registration};
#[cfg(feature = "openapi")]
pub(crate) use mail::{Follow, Forgot, Reset};
#[cfg(feature = "openapi")]
pub(crate) use passkey::{
    Addition, AssertionResponse, AttestationResponse, BASE64URL, Confirmation, CreationOptions, Passkeys,
    RequestOptions, SignIn, SignedCredential, not_accepted,
};

use crate::domain::{self, Invalid};
use crate::throttle::{self, Subject};
use crate::{session, sql};
use contract::event::{AccountMail, Event, MailRequested};
use contract::problem::answer;
use contract::token;
use fnhost_sdk::http::{Request, Response};
use fnhost_sdk::outgoing::OutgoingEvents;
use fnhost_sdk::problem::Problem;
use fnhost_sdk::{Host, routes};
use uuid::Uuid;

/// Tokens are for their caller alone, and so is what an account's owner sees.
const PRIVATE_CACHE_CONTROL: &str = "no-store";

/// How many proxies stand in front and append to `x-forwarded-for`.
const PROXIES_VARIABLE: &str = "trusted_proxies";

/// Where a request comes from, as the account's owner is told.
#[derive(Debug)]
pub struct Origin {
    /// An IPv4 address or the first 64 bits of an IPv6 address; empty where it is not known.
    pub network: String,
    /// What the client calls itself; empty where it says nothing.
    pub device: String,
}

/// Answers a request below `/auth`, or for `/.well-known/jwks.json`.
pub async fn handle<H: Host>(host: &H, request: Request) -> Response {
    answer(route(host, &request).await)
}

async fn route<H: Host>(host: &H, request: &Request) -> Result<Response, Problem> {
    routes! {
        request, caller: session::owner(host, request);
        ["auth", "register"] => POST: login::register(host, request);
        ["auth", "login"] => POST: login::login(host, request);
        ["auth", "login", "passkey"] => POST: passkey::sign_in(host, request);
        ["auth", "login", "passkey", "options"] => POST: passkey::sign_in_options(host);
        ["auth", "refresh"] => POST: login::refresh(host, request);
        ["auth", "logout"] => POST: login::logout(host, request);
        ["auth", "me"] => GET: login::me(host, token::caller(host, request).await?);
        ["auth", "verify"] => POST: mail::verify(host, request);
        ["auth", "verify", "send"] => POST as owner: mail::send_again(host, request, owner);
        ["auth", "password"] => POST as owner: account::change_password(host, request, owner);
        ["auth", "password", "forgot"] => POST: mail::forgot(host, request);
        ["auth", "password", "reset"] => POST: mail::reset(host, request);
        ["auth", "sessions"] => GET as owner: account::sessions(host, owner);
        ["auth", "sessions", "end-others"] => POST as owner: account::end_others(host, request, owner);
        ["auth", "sessions", id, "end"] => POST as owner: account::end(host, request, owner, id);
        ["auth", "activity"] => GET as owner: account::activity(host, request, owner);
        ["auth", "passkeys"] =>
            GET as owner: passkey::list(host, owner), POST as owner: passkey::add(host, request, owner);
        ["auth", "passkeys", "options"] => POST as owner: passkey::add_options(host, request, owner);
        ["auth", "passkeys", id, "remove"] => POST as owner: passkey::remove(host, request, owner, id);
        [".well-known", "jwks.json"] => GET: login::keys(host);
    }
}

/// Where the request comes from.
async fn origin<H: Host>(host: &H, request: &Request) -> Result<Origin, Problem> {
    let proxies = host.variable(PROXIES_VARIABLE).await.map_err(Problem::internal)?;
    let not_a_number = |_| Problem::internal(format!("{PROXIES_VARIABLE} is {proxies:?}, not a number"));
    let network = throttle::network(request, proxies.trim().parse().map_err(not_a_number)?);
    let user_agent = request.header("user-agent").ok().flatten().unwrap_or_default();
    Ok(Origin { network, device: domain::device(user_agent) })
}

/// What the attempt is checked against, and what it is counted for.
fn admit(admission: sql::Admission) -> Result<(Option<sql::Credentials>, Vec<String>), Problem> {
    match admission {
        sql::Admission::Attempt { credentials, counted } => Ok((credentials, counted)),
        sql::Admission::Wait(seconds) => Err(Problem::too_many_requests(seconds)),
    }
}

/// Counts a request for a mail to this address, which tells nobody whether it has an account: that one, if there is one.
async fn admit_mail<H: Host>(
    host: &H,
    email: &str,
    subjects: &[Subject],
) -> Result<Option<sql::Credentials>, Problem> {
    let attempt = sql::Attempt { email, network: "", subjects, noted: None };
    Ok(admit(sql::admit(host, attempt).await?)?.0)
}

/// The event that has notify send a mail.
fn mail(
    request: &Request,
    (user_id, email): (Uuid, &str),
    mail: AccountMail,
    link: Option<&crate::link::Link>,
) -> OutgoingEvents {
    let requested = MailRequested {
        user_id,
        email: email.to_owned(),
        mail,
        token: link.map(|link| link.token.clone()),
        expires_at: link.map(|link| link.expires_at),
    };
    OutgoingEvents::new(&[Event::MailRequested(requested)], request.traceparent())
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
            ("register", r#"{"email":"a@b.c","password":"PassWord123"}"#, 422, "password"),
            ("verify", "{}", 422, "token"),
            ("password/forgot", r#"{"email":"a@b"}"#, 422, "email"),
            ("password/reset", r#"{"token":"x"}"#, 422, "new_password"),
            ("login/passkey", "{}", 422, "credential"),
            ("login/passkey", r#"{"credential":{"id":"AAAA"}}"#, 422, "credential.response"),
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
            ("GET", "/auth/sessions", 401),
            ("GET", "/auth/activity", 401),
            ("POST", "/auth/password", 401),
            ("POST", "/auth/verify/send", 401),
            ("POST", "/auth/sessions/end-others", 401),
            ("POST", "/auth/sessions/x/end", 401),
            ("GET", "/auth/password/reset", 405),
            ("GET", "/auth/passkeys", 401),
            ("POST", "/auth/passkeys", 401),
            ("POST", "/auth/passkeys/options", 401),
            ("POST", "/auth/passkeys/x/remove", 401),
            ("GET", "/auth/login/passkey", 405),
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
