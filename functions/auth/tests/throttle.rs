//! The built component with a real Postgres: who has to wait, and for whom nobody has to.

use fnhost_test_function::{Answer, Function};
use serde_json::json;

const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "correct horse battery";
const WRONG: &str = "wrong horse battery";
/// Where Ada lives, and where others do.
const HOME: &str = "192.0.2.1";
const ELSEWHERE: &str = "203.0.113.7";
/// Failures that are free, as `auth::throttle` has them.
const PAIR_FREE: i32 = auth::throttle::PAIR.free;
const ACCOUNT_FREE: i32 = auth::throttle::ACCOUNT.free;
const NETWORK_FREE: i32 = auth::throttle::NETWORK.free;

async fn ask(function: &Function, what: &str, email: &str, password: &str, from: &str) -> Answer {
    let call = function.post(&format!("/auth/{what}")).header("spin-client-addr", &format!("{from}:4711"));
    call.json(json!({"email": email, "password": password})).await
}

async fn login(function: &Function, password: &str, from: &str) -> Answer {
    ask(function, "login", EMAIL, password, from).await
}

/// A function where Ada is registered.
async fn with_ada() -> Function {
    let function = Function::start("auth").await;
    assert_eq!(ask(&function, "register", EMAIL, PASSWORD, HOME).await.status, 202);
    function
}

/// As if this many attempts had failed and every wait was over: the last is counted by an attempt of the test's own.
async fn after_failures(function: &Function, failures: i32) {
    let sql = format!("UPDATE throttle SET failures = {failures}, locked_until = now()");
    function.prepare(&sql).await;
}

/// Lets the time pass for which everybody waits.
async fn after_every_wait(function: &Function) {
    function.prepare("UPDATE throttle SET locked_until = now()").await;
}

/// Seconds that `retry-after` asks for.
fn seconds(answer: &Answer) -> i64 {
    assert_eq!(answer.status, 429, "{answer:?}");
    answer.retry_after.as_deref().expect("retry-after").parse().expect("seconds")
}

#[tokio::test]
async fn whoever_guesses_waits_longer_and_longer_and_the_password_is_not_even_looked_at() {
    let function = with_ada().await;
    for _ in 0..PAIR_FREE {
        assert_eq!(login(&function, WRONG, ELSEWHERE).await.status, 401);
    }
    assert_eq!(seconds(&login(&function, PASSWORD, ELSEWHERE).await), 1);
    for expected in [2, 4, 8] {
        after_every_wait(&function).await;
        assert_eq!(login(&function, WRONG, ELSEWHERE).await.status, 401);
        assert!((expected - 1..=expected).contains(&seconds(&login(&function, WRONG, ELSEWHERE).await)));
    }
    // Waiting is not prolonged by trying, and has an end.
    let kept = "SELECT max(failures) FROM throttle";
    assert_eq!(function.value(kept).await, PAIR_FREE + 3);
    function.prepare("UPDATE throttle SET failures = 2000000, locked_until = now()").await;
    assert_eq!(login(&function, WRONG, ELSEWHERE).await.status, 401);
    let longest = seconds(&login(&function, WRONG, ELSEWHERE).await);
    assert!(longest <= i64::from(auth::throttle::PAIR.wait_max), "{longest}");
}

#[tokio::test]
async fn whoever_guesses_locks_out_nobody_else() {
    let function = with_ada().await;
    assert_eq!(login(&function, PASSWORD, HOME).await.status, 200);
    for _ in 0..=PAIR_FREE {
        login(&function, WRONG, ELSEWHERE).await;
    }
    assert_eq!(login(&function, WRONG, ELSEWHERE).await.status, 429);
    assert_eq!(login(&function, PASSWORD, HOME).await.status, 200, "Ada at home");
    assert_eq!(login(&function, PASSWORD, "198.51.100.1").await.status, 200, "Ada on her way");
    // Even with the whole account under attack from everywhere.
    after_failures(&function, ACCOUNT_FREE).await;
    assert_eq!(login(&function, WRONG, "198.51.100.2").await.status, 401);
    assert_eq!(login(&function, PASSWORD, "198.51.100.3").await.status, 429, "a network nobody knows");
    assert_eq!(login(&function, PASSWORD, HOME).await.status, 200, "Ada at home");
}

#[tokio::test]
async fn an_unknown_address_is_counted_as_a_known_one() {
    let function = with_ada().await;
    for _ in 0..=PAIR_FREE {
        let known = ask(&function, "login", EMAIL, WRONG, HOME).await;
        let unknown = ask(&function, "login", "nobody@example.com", WRONG, HOME).await;
        assert_eq!(known, unknown);
    }
    assert_eq!(login(&function, WRONG, HOME).await.status, 429);
    let kept = function.value("SELECT string_agg(subject, ' ') FROM throttle").await.to_string();
    assert!(!kept.contains("ada") && !kept.contains(HOME), "{kept}");
}

#[tokio::test]
async fn a_login_gives_back_what_it_was_counted_for() {
    let function = with_ada().await;
    for _ in 1..PAIR_FREE {
        assert_eq!(login(&function, WRONG, HOME).await.status, 401);
    }
    assert_eq!(login(&function, PASSWORD, HOME).await.status, 200);
    // The pair is forgotten. The network and the account keep what failed, and nothing for what did not.
    let kept = "SELECT array_agg(failures ORDER BY failures) FROM throttle WHERE failures <> 1";
    assert_eq!(function.value(kept).await, json!([PAIR_FREE - 1, PAIR_FREE - 1]));
    for _ in 0..3 * NETWORK_FREE.min(10) {
        assert_eq!(login(&function, PASSWORD, HOME).await.status, 200);
    }
    assert_eq!(function.value(kept).await, json!([PAIR_FREE - 1, PAIR_FREE - 1]));
}

#[tokio::test]
async fn a_network_that_tries_many_accounts_waits_for_all_of_them() {
    let function = with_ada().await;
    login(&function, WRONG, ELSEWHERE).await;
    after_failures(&function, NETWORK_FREE).await;
    function.prepare("DELETE FROM throttle WHERE failures = 0").await;
    let other = ask(&function, "login", "bob@example.com", WRONG, ELSEWHERE).await;
    assert_eq!(other.status, 401);
    assert_eq!(ask(&function, "login", "eve@example.com", WRONG, ELSEWHERE).await.status, 429);
    assert_eq!(ask(&function, "register", "eve@example.com", PASSWORD, ELSEWHERE).await.status, 429);
    assert_eq!(ask(&function, "login", "eve@example.com", WRONG, HOME).await.status, 401);
}

#[tokio::test]
async fn asking_by_registering_who_is_registered_is_counted() {
    let function = with_ada().await;
    // The mail is one in any case.
    let counted = "SELECT array_agg(failures ORDER BY failures) FROM throttle";
    assert_eq!(function.value(counted).await, json!([0, 1]), "a registration is given back");
    assert_eq!(ask(&function, "register", EMAIL, PASSWORD, ELSEWHERE).await.status, 202);
    assert_eq!(function.value(counted).await, json!([0, 1, 2]), "this one is not");
}

#[tokio::test]
async fn what_a_client_says_of_its_address_is_not_believed() {
    let function = with_ada().await;
    for number in 0..PAIR_FREE {
        let call = function.post("/auth/login").header("spin-client-addr", "203.0.113.7:80");
        let call = call.header("x-forwarded-for", &format!("198.51.100.{number}"));
        assert_eq!(call.json(json!({"email": EMAIL, "password": WRONG})).await.status, 401);
    }
    assert_eq!(login(&function, WRONG, ELSEWHERE).await.status, 429);
    // Behind a proxy of ours its word counts, and only its word.
    let proxied = Function::start_with("auth", |spec| {
        let one = fnhost_manifest::Secret::new("1".to_owned());
        spec.variables.insert("trusted_proxies".to_owned(), one);
    });
    let proxied = proxied.await;
    assert_eq!(ask(&proxied, "register", EMAIL, PASSWORD, HOME).await.status, 202);
    for number in 0..=PAIR_FREE {
        let call = proxied.post("/auth/login").header("spin-client-addr", "10.0.0.1:80");
        let call = call.header("x-forwarded-for", &format!("198.51.100.{number}, 203.0.113.7"));
        let expected = if number < PAIR_FREE { 401 } else { 429 };
        assert_eq!(call.json(json!({"email": EMAIL, "password": WRONG})).await.status, expected);
    }
}

#[tokio::test]
async fn attempts_at_a_time_are_all_counted() {
    let function = Function::start("auth").await;
    assert_eq!(ask(&function, "register", EMAIL, PASSWORD, HOME).await.status, 202);
    let mut statuses = eight_at_a_time(&function).await;
    statuses.sort_unstable();
    let tried = statuses.iter().filter(|status| **status == 401).count();
    assert!(tried <= usize::try_from(PAIR_FREE).expect("small"), "{statuses:?}");
    assert!(statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
}

/// The answers to eight wrong passwords at a time.
async fn eight_at_a_time(function: &Function) -> Vec<u16> {
    let one = || async { login(function, WRONG, ELSEWHERE).await.status };
    let (a, b, c, d, e, f, g, h) = tokio::join!(one(), one(), one(), one(), one(), one(), one(), one());
    vec![a, b, c, d, e, f, g, h]
}

#[tokio::test]
async fn what_is_long_past_is_forgotten() {
    let function = with_ada().await;
    for _ in 0..PAIR_FREE {
        login(&function, WRONG, ELSEWHERE).await;
    }
    function
        .prepare("UPDATE throttle SET touched_at = now() - interval '25 hours', locked_until = now()")
        .await;
    assert_eq!(login(&function, WRONG, ELSEWHERE).await.status, 401);
    assert_eq!(login(&function, WRONG, ELSEWHERE).await.status, 401, "counted from one again");
    function
        .prepare("UPDATE throttle SET touched_at = now() - interval '25 hours', locked_until = now()")
        .await;
    ask(&function, "login", "bob@example.com", WRONG, HOME).await;
    assert_eq!(function.value("SELECT count(*) FROM throttle").await, 3, "those of Bob are all there is");
}

#[tokio::test]
async fn mails_that_anybody_can_ask_for_are_few_whether_there_is_an_account_or_not() {
    let function = with_ada().await;
    let forgot = async |email: &str, from: &str| {
        let call = function.post("/auth/password/forgot");
        call.header("spin-client-addr", &format!("{from}:4711")).json(json!({"email": email})).await
    };
    // Ada's registration was one.
    assert_eq!(ask(&function, "register", "nobody@example.com", PASSWORD, HOME).await.status, 202);
    function.prepare("DELETE FROM account WHERE email = 'nobody@example.com'").await;
    for number in 1..auth::throttle::MAIL.free {
        let from = format!("198.51.100.{number}");
        let known = forgot(EMAIL, &from).await;
        assert_eq!((known.status, &known), (202, &forgot("nobody@example.com", &from).await));
    }
    let (known, unknown) = (forgot(EMAIL, HOME).await, forgot("nobody@example.com", HOME).await);
    assert_eq!((known.status, unknown.status), (429, 429));
    let sent = "SELECT count(*) FROM outgoing_event WHERE convert_from(value, 'UTF8') LIKE '%ada@%'";
    assert_eq!(function.value(sent).await, auth::throttle::MAIL.free);
    assert_eq!(login(&function, PASSWORD, HOME).await.status, 200, "a login is another matter");
}
