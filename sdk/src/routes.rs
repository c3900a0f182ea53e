//! A table of routes.

/// Answers a request by a table: which handler for which path and method.
///
/// It is an expression of type `Result<Response, Problem>`, for an `async fn`. Each row has a path's segments, as a slice
/// pattern whose names are the path's parameters (`&str`), and for each method the call that answers it. The first row whose
/// path fits is taken.
///
/// What nobody has to write:
///
/// - HEAD is answered wherever GET is, by the same call: the server sends its headers and leaves its body out.
/// - Another method is 405 with the header `allow`, another path 404; a last row `_ => PROBLEM;` says something else of it.
/// - Who asks: `caller: …` says once how that is found out, and `as NAME` gives it to a call, under that name, or refuses the
///   request in its place.
///
/// A parameter is as it was sent, without percent-decoding. A path with a trailing `/` has an empty last segment, and so does
/// not fit the row without it; `if` after the pattern can demand more of a parameter.
///
/// ```
/// use fnhost_sdk::http::{Request, Response};
/// use fnhost_sdk::problem::Problem;
/// use fnhost_sdk::{Host, routes};
///
/// pub async fn handle<H: Host>(host: &H, request: Request) -> Response {
///     route(host, &request).await.into()
/// }
///
/// async fn route(host: &impl Host, request: &Request) -> Result<Response, Problem> {
///     routes! {
///         request, caller: caller(host, request);
///         ["notes"] => GET: list(host), POST as caller: add(host, request, caller);
///         ["notes", id] if !id.is_empty() => GET: one(host, id), DELETE as caller: remove(host, caller, id);
///     }
/// }
///
/// struct Caller(String);
///
/// async fn caller(host: &impl Host, request: &Request) -> Result<Caller, Problem> {
///     let token = request.bearer()?;
///     # let _ = host;
///     Ok(Caller(token.to_owned()))
/// }
/// # async fn list(_: &impl Host) -> Result<Response, Problem> { Ok(Response::empty(204)) }
/// # async fn add(_: &impl Host, _: &Request, _: Caller) -> Result<Response, Problem> { Ok(Response::empty(201)) }
/// # async fn one(_: &impl Host, _: &str) -> Result<Response, Problem> { Ok(Response::empty(204)) }
/// # async fn remove(_: &impl Host, caller: Caller, _: &str) -> Result<Response, Problem> { Ok(Response::empty(if caller.0.is_empty() { 403 } else { 204 })) }
/// ```
#[macro_export]
macro_rules! routes {
    (
        $request:expr, caller: $caller:expr;
        $([$($segment:pat),* $(,)?] $(if $guard:expr)? => $($method:ident $(as $who:ident)?: $answer:expr),+;)*
        $(_ => $other:expr;)?
    ) => {{
        let request: &$crate::http::Request = $request;
        match request.segments().as_slice() {
            $(
                [$($segment),*] $(if $guard)? => match request.method.as_str() {
                    $(
                        $crate::routes!(@method $method) => {
                            $(let $who = $caller.await?;)?
                            $answer.await
                        }
                    )+
                    _ => ::core::result::Result::Err($crate::problem::Problem::method_not_allowed(
                        $crate::routes!(@allow $($method)+),
                    )),
                },
            )*
            #[allow(unreachable_patterns, reason = "a table may have a row for every path")]
            _ => ::core::result::Result::Err($crate::routes!(@other $($other)?)),
        }
    }};
    (@other) => { $crate::problem::Problem::not_found("there is no such address") };
    (@other $other:expr) => { $other };
    (@method GET) => { "GET" | "HEAD" };
    (@method $method:ident) => { stringify!($method) };
    (@allow GET) => { "GET, HEAD" };
    (@allow $method:ident) => { stringify!($method) };
    (@allow $first:ident $($rest:ident)+) => {
        concat!($crate::routes!(@allow $first), ", ", $crate::routes!(@allow $($rest)+))
    };
    ($request:expr; $($rows:tt)*) => {
        $crate::routes! {
            $request, caller: compile_error!("`as` needs `caller: …` at the table's head");
            $($rows)*
        }
    };
}

#[cfg(test)]
mod tests {
    use crate::http::{Body, Request, Response};
    use crate::problem::Problem;
    use std::cell::Cell;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn request(method: &str, path: &str) -> Request {
        let (method, path) = (method.to_owned(), path.to_owned());
        Request { method, path, query: String::new(), headers: Vec::new(), body: Body::Read(Vec::new()) }
    }

    fn now<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("it waits"),
        }
    }

    async fn text(text: String) -> Result<Response, Problem> {
        Ok(Response::empty(200).with_body(text.into_bytes()).with_header("content-type", "text/plain"))
    }

    /// `asked` counts how often the table wants to know who asks; nobody does where `name` is empty.
    async fn caller(asked: &Cell<u32>, name: &str) -> Result<String, Problem> {
        asked.set(asked.get() + 1);
        if name.is_empty() { Err(Problem::unauthorized("who are you?")) } else { Ok(name.to_owned()) }
    }

    async fn route(request: &Request, asked: &Cell<u32>, name: &str) -> Result<Response, Problem> {
        routes! {
            request, caller: caller(asked, name);
            [""] => GET: text("the page".to_owned());
            ["notes"] => POST as who: text(format!("added by {who}")), GET: text("all notes".to_owned());
            ["notes", "newest"] => GET: text("the newest note".to_owned());
            ["notes", id] if !id.is_empty() =>
                PUT as me: text(format!("note {id} of {me}")), DELETE as me: text(format!("no {id} of {me}"));
            ["notes", id, "lines", line] => GET as who: text(format!("{who} reads {line} of {id}"));
        }
    }

    #[test]
    fn a_path_and_a_method_lead_to_one_call() {
        for (method, path, expected) in [
            ("GET", "/", "the page"),
            ("GET", "/notes", "all notes"),
            ("POST", "/notes", "added by Ada"),
            ("GET", "/notes/newest", "the newest note"),
            ("PUT", "/notes/7", "note 7 of Ada"),
            ("DELETE", "/notes/7", "no 7 of Ada"),
            ("GET", "/notes/7/lines/2", "Ada reads 2 of 7"),
        ] {
            let response = now(route(&request(method, path), &Cell::new(0), "Ada")).expect(path);
            assert_eq!(String::from_utf8(response.body).unwrap(), expected, "{method} {path}");
        }
    }

    #[test]
    fn head_is_answered_as_get_is() {
        for path in ["/", "/notes", "/notes/newest", "/notes/7/lines/2"] {
            let answer = |method| now(route(&request(method, path), &Cell::new(0), "Ada"));
            assert_eq!(answer("HEAD"), answer("GET"), "{path}");
            assert!(answer("HEAD").is_ok(), "{path}");
        }
    }

    #[test]
    fn another_method_is_told_those_that_work_and_another_path_that_it_is_none() {
        for (method, path, status, allow) in [
            ("POST", "/", 405, Some("GET, HEAD")),
            ("DELETE", "/notes", 405, Some("POST, GET, HEAD")),
            ("HEAD", "/notes/7", 405, Some("PUT, DELETE")),
            ("get", "/notes", 405, Some("POST, GET, HEAD")),
            ("GET", "/notes/", 404, None),
            ("GET", "/other", 404, None),
            ("GET", "/notes/7/lines", 404, None),
        ] {
            let asked = Cell::new(0);
            let problem = now(route(&request(method, path), &asked, "")).expect_err(path);
            assert_eq!(problem.status, status, "{method} {path}");
            assert_eq!(Response::from(problem).header("allow"), allow, "{method} {path}");
            assert_eq!(asked.get(), 0, "{method} {path}: who asks does not matter");
        }
    }

    #[test]
    fn who_asks_is_found_out_once_and_only_where_it_matters() {
        for (method, path, times) in [("GET", "/notes", 0), ("POST", "/notes", 1), ("PUT", "/notes/7", 1)] {
            let asked = Cell::new(0);
            assert!(now(route(&request(method, path), &asked, "Ada")).is_ok());
            assert_eq!(asked.get(), times, "{method} {path}");
            let refused = now(route(&request(method, path), &Cell::new(0), "")).err();
            assert_eq!(refused.map(|problem| problem.status), (times > 0).then_some(401), "{method} {path}");
        }
    }

    #[test]
    fn a_table_may_do_without_callers() {
        let answer = |method: &str, path: &str| {
            let request = request(method, path);
            now(async {
                routes! { &request; [..] => GET: text(format!("any: {path}")); }
            })
        };
        assert!(answer("HEAD", "/a/b/c").is_ok());
        assert_eq!(answer("POST", "/a").err().map(|problem| problem.status), Some(405));
    }

    #[test]
    fn another_path_may_be_told_where_to_go() {
        let request = request("GET", "/");
        let elsewhere = now(async {
            routes! {
                &request;
                ["notes"] => GET: text(String::new());
                _ => Problem::not_found("notes are at /notes");
            }
        });
        assert_eq!(elsewhere.err().map(|problem| problem.detail).as_deref(), Some("notes are at /notes"));
    }
}
