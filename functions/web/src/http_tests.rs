//! What a browser is answered.

use super::*;
use fnhost_sdk::http::Body;
use fnhost_sdk::{Row, Sql, SqlError, Value};
use std::io::Read as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Bytes of the page with everything that it loads, compressed: what a first visit costs.
const FIRST_PAGE_BYTES_MAX: usize = 100_000;

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

fn ask(method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    let headers =
        headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    let (method, path) = (method.to_owned(), path.to_owned());
    let request = Request { method, path, query: String::new(), headers, body: Body::Read(Vec::new()) };
    match pin!(handle(&Nothing, request)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(response) => response,
        Poll::Pending => panic!("the call waits for something"),
    }
}

fn asset(name: &str) -> String {
    format!("/assets/{}/{name}", SHOP.version)
}

fn doc(name: &str) -> String {
    format!("/docs/{}/{name}", DOCS.version)
}

#[test]
fn the_page_and_its_files_are_there_and_nothing_else_is() {
    for (method, path, status) in [
        ("GET", "/".to_owned(), 200),
        ("HEAD", "/".to_owned(), 200),
        ("GET", asset("app.js"), 200),
        ("GET", "/assets/of-another-build/app.js".to_owned(), 200),
        ("GET", asset("other.js"), 404),
        ("GET", asset(""), 404),
        ("GET", asset("../index.html"), 404),
        ("GET", "/assets".to_owned(), 404),
        ("GET", "/docs".to_owned(), 200),
        ("GET", doc("swagger-ui-bundle.js"), 200),
        ("GET", doc("swagger-ui-license.txt"), 200),
        ("GET", doc("app.js"), 404),
        ("GET", "/openapi.json".to_owned(), 200),
        ("HEAD", "/asyncapi.json".to_owned(), 200),
        ("GET", "/postman.json".to_owned(), 200),
        ("POST", "/openapi.json".to_owned(), 405),
        ("GET", "/swagger.json".to_owned(), 404),
        ("GET", "/orders".to_owned(), 404),
        ("POST", "/".to_owned(), 405),
        ("DELETE", asset("app.js"), 405),
    ] {
        let response = ask(method, &path, &[]);
        assert_eq!(response.status, status, "{method} {path}");
        for (name, value) in SECURITY_HEADERS {
            assert_eq!(response.header(name), Some(value), "{method} {path}");
        }
    }
}

#[test]
fn what_a_page_loads_is_there_and_inline_code_is_not() {
    for (site, folder) in [(&SHOP, "/assets/"), (&DOCS, "/docs/")] {
        let page = std::str::from_utf8(site.page.plain).unwrap();
        assert!(!page.contains("/current/"), "the version is not filled in");
        let mut loaded = 0;
        for rest in page.split('"').filter(|value| value.starts_with(folder)) {
            assert_eq!(ask("GET", rest, &[]).header("cache-control"), Some(IMMUTABLE), "{rest}");
            loaded += 1;
        }
        assert!(loaded >= 3, "{page}");
        for forbidden in ["<style", " style=", " onclick=", "<script>"] {
            assert!(!page.contains(forbidden), "the policy refuses {forbidden}");
        }
    }
}

#[test]
fn each_page_has_its_policy() {
    for (path, policy) in [
        ("/", CONTENT_SECURITY_POLICY),
        ("/openapi.json", CONTENT_SECURITY_POLICY),
        ("/docs", DOCS_CONTENT_SECURITY_POLICY),
        (&doc("swagger-ui.css"), DOCS_CONTENT_SECURITY_POLICY),
    ] {
        assert_eq!(ask("GET", path, &[]).header("content-security-policy"), Some(policy), "{path}");
    }
    assert!(!CONTENT_SECURITY_POLICY.contains("unsafe") && !DOCS_CONTENT_SECURITY_POLICY.contains("unsafe"));
}

#[test]
fn a_page_runs_only_this_origins_code_and_is_in_nobodys_frame() {
    for path in ["/", "/docs"] {
        let response = ask("GET", path, &[]);
        let policy = response.header("content-security-policy").unwrap();
        let directives: std::collections::BTreeMap<_, _> = policy
            .split(';')
            .map(str::trim)
            .map(|directive| directive.split_once(' ').unwrap_or((directive, "")))
            .collect();
        for (directive, allowed) in [
            // What is not named below is refused: objects, frames, workers, fonts.
            ("default-src", "'none'"),
            ("script-src", "'self'"),
            ("style-src", "'self'"),
            ("connect-src", "'self'"),
            ("base-uri", "'none'"),
            ("frame-ancestors", "'none'"),
        ] {
            assert_eq!(directives.get(directive), Some(&allowed), "{path}: {directive}");
        }
        // Only documents of Swagger UI make markup of strings; tokens and passwords are on the shop's pages.
        let shop = path == "/";
        assert_eq!(directives.get("require-trusted-types-for"), shop.then_some(&"'script'"), "{path}");
        assert_eq!(directives.get("trusted-types"), shop.then_some(&"'none'"), "{path}");
        assert_eq!(response.header("referrer-policy"), Some("no-referrer"), "{path}");
    }
}

#[test]
fn every_module_that_is_imported_is_loaded_with_the_page() {
    let page = std::str::from_utf8(SHOP.page.plain).unwrap();
    let modules = SHOP.assets.iter().filter(|file| file.name.ends_with(".js"));
    for module in modules {
        assert!(page.contains(&asset(module.name)), "index.html does not preload {}", module.name);
        let text = std::str::from_utf8(module.plain).unwrap();
        for imported in text.split(" from \"./").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(
                SHOP.assets.iter().any(|file| file.name == imported),
                "{} imports {imported}",
                module.name
            );
        }
    }
}

#[test]
fn the_first_visit_is_small() {
    let bytes: usize =
        SHOP.assets.iter().chain([&SHOP.page]).map(|file| file.gzip.unwrap_or(file.plain).len()).sum();
    assert!(bytes <= FIRST_PAGE_BYTES_MAX, "{bytes} bytes");
}

#[test]
fn a_browser_that_takes_gzip_gets_it_and_unpacks_the_same() {
    for (accepted, compressed) in [
        ("", false),
        ("gzip", true),
        ("br, GZIP;q=0.5", true),
        ("deflate, gzip;q=1.0, *;q=0.5", true),
        ("gzip;q=0", false),
        ("gzip; q=0.000", false),
        ("x-gzip-like", false),
        ("gzip;q=broken", false),
    ] {
        let response = ask("GET", "/", &[("accept-encoding", accepted)]);
        assert_eq!(response.header("content-encoding"), compressed.then_some("gzip"), "{accepted}");
        assert_eq!(response.header("vary"), Some("accept-encoding"));
        let mut content = Vec::new();
        if compressed {
            assert!(response.body.len() < SHOP.page.plain.len());
            flate2::read::GzDecoder::new(&response.body[..]).read_to_end(&mut content).unwrap();
        } else {
            content.extend_from_slice(&response.body);
        }
        assert_eq!(content, SHOP.page.plain, "{accepted}");
    }
}

#[test]
fn what_the_browser_has_is_not_sent_again() {
    for accepted in ["", "gzip"] {
        let encoding = ("accept-encoding", accepted);
        let etag = ask("GET", "/", &[encoding]).header("etag").unwrap().to_owned();
        for (tags, status) in [
            (etag.clone(), 304),
            (format!("W/{etag}"), 304),
            (format!("\"other\", {etag}"), 304),
            ("*".to_owned(), 304),
            ("\"other\"".to_owned(), 200),
            (etag.trim_matches('"').to_owned(), 200),
        ] {
            let response = ask("GET", "/", &[encoding, ("if-none-match", &tags)]);
            assert_eq!(response.status, status, "{tags}");
            assert_eq!(response.body.is_empty(), status == 304, "{tags}");
            assert_eq!(response.header("etag"), Some(&*etag));
        }
    }
    let plain = ask("GET", "/", &[]);
    let compressed = ask("GET", "/", &[("accept-encoding", "gzip")]);
    assert_ne!(plain.header("etag"), compressed.header("etag"), "a tag stands for one sequence of bytes");
}

#[test]
fn a_file_is_kept_for_good_only_under_its_own_version() {
    for (path, expected) in [
        ("/".to_owned(), REVALIDATED),
        (asset("app.js"), IMMUTABLE),
        ("/assets/older/app.js".to_owned(), REVALIDATED),
    ] {
        assert_eq!(ask("GET", &path, &[]).header("cache-control"), Some(expected), "{path}");
    }
}
