//! Whose fault a failed call is.

/// What kind of failure it is, which decides what becomes of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// The database cannot serve at the moment: no attempt is charged.
    Infrastructure,
    /// Two transactions met, or a prepared statement went stale: rerun at once.
    Conflict,
    /// The database's as a whole or this record's alone, which its neighbours tell: no attempt is charged unless they succeed.
    Unclear,
    /// The function's own: an attempt is charged.
    Function,
}

impl FailureClass {
    /// Whether it may be the database's, so that no version is blamed for it.
    pub fn is_database(self) -> bool {
        matches!(self, Self::Infrastructure | Self::Unclear)
    }
}
