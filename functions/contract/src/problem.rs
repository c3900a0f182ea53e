//! How the order system names the kinds of its problems.

use fnhost_sdk::http::Response;
use fnhost_sdk::problem::Problem;

/// What the `type` of each problem begins with; its kind follows, as in `urn:orders:problem:not-found`.
pub const NAMESPACE: &str = "urn:orders:problem:";

/// The answer to a request, a refusal named as the order system's.
#[must_use]
pub fn answer(result: Result<Response, Problem>) -> Response {
    result.map_err(|problem| problem.in_namespace(NAMESPACE)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_named_as_the_order_systems() {
        let response = answer(Err(Problem::not_found("you have no such order")));
        let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        let expected = serde_json::json!({
            "type": "urn:orders:problem:not-found", "title": "There is nothing here", "status": 404,
            "detail": "you have no such order",
        });
        assert_eq!(body, expected);
        assert_eq!(answer(Ok(Response::empty(204))), Response::empty(204));
    }
}
