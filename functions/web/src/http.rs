//! The shop at `/`, Swagger UI at `/docs`, and the interface's documents (`/openapi.json` and its like): conditional,
//! compressed where the caller takes it, and with the headers that keep a page to its own origin.

use crate::files::{API, DOCS, File, SHOP, Site};
use contract::problem::answer;
use fnhost_sdk::http::{Request, Response};
use fnhost_sdk::problem::Problem;
use fnhost_sdk::{Host, routes};

/// The page is asked for anew each time, and answered with 304 while it is the same.
const REVALIDATED: &str = "no-cache";
/// An address with its version never changes its content.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// What a page may do: load from its own origin, and run no code but the modules served here. No string becomes markup.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

/// What Swagger UI may do. It has its icons in its style sheet, and makes markup of the descriptions in our own document.
const DOCS_CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// Sent with every answer.
const SECURITY_HEADERS: [(&str, &str); 4] = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// Answers a request for the page or for one of its files.
pub async fn handle<H: Host>(_: &H, request: Request) -> Response {
    let of_docs = request.segments()[0] == "docs";
    let policy = if of_docs { DOCS_CONTENT_SECURITY_POLICY } else { CONTENT_SECURITY_POLICY };
    let response = answer(route(&request).await).with_header("content-security-policy", policy);
    SECURITY_HEADERS.into_iter().fold(response, |response, (name, value)| response.with_header(name, value))
}

async fn route(request: &Request) -> Result<Response, Problem> {
    let found = match request.segments()[..] {
        [""] => Some((&SHOP.page, REVALIDATED)),
        ["assets", version, name] => asset(&SHOP, version, name),
        ["docs"] => Some((&DOCS.page, REVALIDATED)),
        ["docs", version, name] => asset(&DOCS, version, name),
        [name] => named(API, name).map(|file| (file, REVALIDATED)),
        _ => None,
    };
    let (file, cache_control) = found.ok_or_else(|| Problem::not_found("there is no such address"))?;
    routes! {
        request;
        [..] => GET: async { send(request, file, cache_control) };
    }
}

fn send(request: &Request, file: &'static File, cache_control: &'static str) -> Result<Response, Problem> {
    let accepted = request.header("accept-encoding")?.unwrap_or_default();
    let (content, encoding) = variant(file, accepted);
    // Of the variant: what is sent under it is the same to the last byte.
    let etag = format!("\"{}{}\"", file.hash, encoding.map_or("", |_| "-gzip"));
    let known = request.header("if-none-match")?.is_some_and(|tags| names(tags, &etag));
    let response = if known {
        Response::empty(304)
    } else {
        // To HEAD as well: the server takes the length from it and sends no body.
        Response::empty(200).with_body(content.to_vec()).with_header("content-type", file.content_type)
    };
    let response = match encoding {
        Some(encoding) if !known => response.with_header("content-encoding", encoding),
        _ => response,
    };
    let response = response.with_header("etag", etag).with_header("cache-control", cache_control);
    Ok(response.with_header("vary", "accept-encoding"))
}

/// A file that a page loads. Another version is asked for while hosts are replaced one by one: what is here serves it, for
/// this once.
fn asset(site: &'static Site, version: &str, name: &str) -> Option<(&'static File, &'static str)> {
    let cache_control = if version == site.version { IMMUTABLE } else { REVALIDATED };
    named(site.assets, name).map(|file| (file, cache_control))
}

fn named(files: &'static [File], name: &str) -> Option<&'static File> {
    files.iter().find(|file| file.name == name)
}

/// The content that suits the caller, with its encoding.
fn variant(file: &File, accepted: &str) -> (&'static [u8], Option<&'static str>) {
    match file.gzip {
        Some(gzip) if accepts(accepted, "gzip") => (gzip, Some("gzip")),
        _ => (file.plain, None),
    }
}

/// Whether `Accept-Encoding` has this coding with a weight above zero.
fn accepts(header: &str, coding: &str) -> bool {
    header.split(',').any(|entry| {
        let (name, weight) = entry.split_once(';').unwrap_or((entry, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case(coding) && weight.is_some_and(|weight| weight > 0.0)
    })
}

/// Whether `If-None-Match` has this tag. Compared weakly, as the standard asks for.
fn names(header: &str, etag: &str) -> bool {
    header.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
