//! Requests that a function sends.

/// Bytes of an answer that are read at most.
pub const ANSWER_LIMIT_BYTES: usize = 1024 * 1024;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// All of the body.
    pub body: Vec<u8>,
}

/// Sends requests to the hosts that `allowed_outbound_hosts` lists.
#[allow(
    async_fn_in_trait,
    reason = "always dispatched statically; a caller that needs Send has the concrete type"
)]
pub trait Client {
    /// A GET request, whose answer has to begin, and each further part of it to come, within `timeout_ms`.
    ///
    /// # Errors
    /// There is no whole answer, for the reason in the text: the host is not allowed, not reached, or not in time.
    async fn get(&self, url: &str, timeout_ms: u32) -> Result<Answer, String>;

    /// A POST request with a JSON body. The key (`Idempotency-Key`) says that it may be sent again: its receiver does at most
    /// once what is asked under it, and gives the same answer each time.
    ///
    /// # Errors
    /// As [`Client::get`]. The receiver may have done it all the same.
    async fn post(&self, url: &str, key: &str, json: Vec<u8>, timeout_ms: u32) -> Result<Answer, String>;
}
