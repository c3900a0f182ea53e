//! How a test ends.

/// What a test returns: an error panics where it is met with `?`, so that everything the test holds knows in its
/// `Drop` that the test has failed, and prints its log.
pub type Outcome = Result<(), Failed>;

/// Never made: see [`Outcome`].
#[derive(Debug)]
pub enum Failed {}

impl<E: Into<anyhow::Error>> From<E> for Failed {
    #[track_caller]
    fn from(error: E) -> Self {
        panic!("{:#}", error.into())
    }
}
