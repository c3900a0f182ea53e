//! SQL as the functions see it: one trait, so that the same statements run as a component over Spin's Postgres
//! interface and natively over any driver.

mod unnest;

pub use unnest::{Cell, Cells, unnest};

use std::fmt;

/// A database connection, or what stands for one.
///
/// Inside a Kafka handler every call belongs to the batch's one transaction. Inside an HTTP handler every statement is
/// its own transaction, and there is no `BEGIN`: what must happen together is one statement.
///
/// The server alone decides the type of a parameter, so a statement says what it is given: `$1::text::uuid`,
/// `$2::text[]::uuid[]`.
#[allow(
    async_fn_in_trait,
    reason = "always dispatched statically; a caller that needs Send has the concrete type"
)]
pub trait Sql {
    /// Runs a statement and returns all its rows.
    ///
    /// # Errors
    /// What the connection or the database refused.
    async fn query(&self, statement: &'static str, params: Vec<Value>) -> Result<Vec<Row>, SqlError>;

    /// Runs a statement and returns how many rows it affected.
    ///
    /// # Errors
    /// What the connection or the database refused.
    async fn execute(&self, statement: &'static str, params: Vec<Value>) -> Result<u64, SqlError>;
}

/// A parameter, or one cell of a row.
///
/// These are the types that every host carries both ways. A `uuid` column is read as [`Value::Text`] and written
/// through `$n::text::uuid`; times travel as text or as epoch numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// SQL `NULL`, of any type.
    Null,
    /// `boolean`
    Bool(bool),
    /// `int4`
    Int32(i32),
    /// `int8`
    Int64(i64),
    /// `text`, and `uuid` when read
    Text(String),
    /// `bytea`
    Bytes(Vec<u8>),
    /// `jsonb`, as its JSON text
    Json(Vec<u8>),
    /// `int4[]`
    Int32Array(Vec<Option<i32>>),
    /// `int8[]`
    Int64Array(Vec<Option<i64>>),
    /// `text[]`
    TextArray(Vec<Option<String>>),
    /// A cell of any other type, described for the error of the accessor that meets it; never a parameter.
    Unsupported(String),
}

macro_rules! value_from {
    ($($from:ty => $variant:ident),* $(,)?) => {$(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$variant(value)
            }
        }
    )*};
}

value_from! {
    bool => Bool,
    i32 => Int32,
    i64 => Int64,
    String => Text,
    Vec<u8> => Bytes,
    Vec<Option<i32>> => Int32Array,
    Vec<Option<i64>> => Int64Array,
    Vec<Option<String>> => TextArray,
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl FromIterator<String> for Value {
    fn from_iter<I: IntoIterator<Item = String>>(values: I) -> Self {
        Self::TextArray(values.into_iter().map(Some).collect())
    }
}

impl FromIterator<i32> for Value {
    fn from_iter<I: IntoIterator<Item = i32>>(values: I) -> Self {
        Self::Int32Array(values.into_iter().map(Some).collect())
    }
}

impl FromIterator<i64> for Value {
    fn from_iter<I: IntoIterator<Item = i64>>(values: I) -> Self {
        Self::Int64Array(values.into_iter().map(Some).collect())
    }
}

impl FromIterator<Option<String>> for Value {
    fn from_iter<I: IntoIterator<Item = Option<String>>>(values: I) -> Self {
        Self::TextArray(values.into_iter().collect())
    }
}

/// One row; its cells are read by index, in the order of the select list.
#[derive(Clone, Debug, PartialEq)]
pub struct Row(Vec<Value>);

macro_rules! cell {
    ($(#[$doc:meta])* $get:ident, $nullable:ident, $variant:ident, $type:ty, $name:literal) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// The cell is absent, null or of another type.
        pub fn $get(&self, index: usize) -> Result<$type, SqlError> {
            self.$nullable(index)?.ok_or_else(|| SqlError::decode(index, $name, &Value::Null))
        }

        $(#[$doc])*
        /// `None` for null.
        ///
        /// # Errors
        /// The cell is absent or of another type.
        pub fn $nullable(&self, index: usize) -> Result<Option<$type>, SqlError> {
            match self.cell(index)? {
                Value::Null => Ok(None),
                Value::$variant(value) => Ok(Some(value.to_owned())),
                other => Err(SqlError::decode(index, $name, other)),
            }
        }
    };
}

impl Row {
    /// A row of these cells.
    #[must_use]
    pub fn new(cells: Vec<Value>) -> Self {
        Self(cells)
    }

    cell!(
        /// The `boolean` in this column.
        bool, bool_or_null, Bool, bool, "boolean"
    );
    cell!(
        /// The `int4` in this column.
        int32, int32_or_null, Int32, i32, "int4"
    );
    cell!(
        /// The `int8` in this column.
        int64, int64_or_null, Int64, i64, "int8"
    );

    /// The `text` or `uuid` in this column.
    ///
    /// # Errors
    /// The cell is absent, null or of another type.
    pub fn text(&self, index: usize) -> Result<&str, SqlError> {
        self.text_or_null(index)?.ok_or_else(|| SqlError::decode(index, "text", &Value::Null))
    }

    /// The `text` or `uuid` in this column; `None` for null.
    ///
    /// # Errors
    /// The cell is absent or of another type.
    pub fn text_or_null(&self, index: usize) -> Result<Option<&str>, SqlError> {
        match self.cell(index)? {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text)),
            other => Err(SqlError::decode(index, "text", other)),
        }
    }

    /// The `uuid` in this column.
    ///
    /// # Errors
    /// The cell is absent, null or no UUID.
    pub fn uuid(&self, index: usize) -> Result<uuid::Uuid, SqlError> {
        let text = self.text(index)?;
        text.parse().map_err(|_| SqlError::decode(index, "uuid", &Value::from(text)))
    }

    /// The bytes of the `bytea` in this column, or the text of the `jsonb`.
    ///
    /// # Errors
    /// The cell is absent, null or of another type.
    pub fn bytes(&self, index: usize) -> Result<&[u8], SqlError> {
        match self.cell(index)? {
            Value::Bytes(bytes) | Value::Json(bytes) => Ok(bytes),
            other => Err(SqlError::decode(index, "bytea or jsonb", other)),
        }
    }

    /// The `jsonb` in this column as `T`.
    ///
    /// # Errors
    /// The cell is absent, null, of another type, or does not hold a `T`.
    pub fn json<T: serde::de::DeserializeOwned>(&self, index: usize) -> Result<T, SqlError> {
        serde_json::from_slice(self.bytes(index)?)
            .map_err(|error| SqlError::new(None, format!("column {index}: {error}")))
    }

    /// The `jsonb` in this column as `T`; `None` for null.
    ///
    /// # Errors
    /// The cell is absent, of another type, or does not hold a `T`.
    pub fn json_or_null<T: serde::de::DeserializeOwned>(&self, index: usize) -> Result<Option<T>, SqlError> {
        match self.cell(index)? {
            Value::Null => Ok(None),
            _ => self.json(index).map(Some),
        }
    }

    fn cell(&self, index: usize) -> Result<&Value, SqlError> {
        self.0.get(index).ok_or_else(|| SqlError::new(None, format!("no column {index} of {}", self.0.len())))
    }
}

/// What went wrong between a function and its database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    /// Five characters, where the server itself refused; absent where it was not reached or the answer was not what
    /// the function expects.
    pub sqlstate: Option<String>,
    /// For the log, never for a caller.
    pub message: String,
}

impl SqlError {
    /// An error with the server's code, where it has one.
    #[must_use]
    pub fn new(sqlstate: Option<String>, message: impl Into<String>) -> Self {
        Self { sqlstate, message: message.into() }
    }

    fn decode(index: usize, wanted: &str, found: &Value) -> Self {
        Self::new(None, format!("column {index} is no {wanted}: {found:?}"))
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sqlstate {
            Some(state) => write!(f, "{} ({state})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for SqlError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_typed_and_never_panic() {
        let row = Row::new(vec![7i64.into(), Value::Null, "x".into(), Value::Json(b"[1]".to_vec())]);
        assert_eq!(row.int64(0), Ok(7));
        assert_eq!(row.int64_or_null(1), Ok(None));
        assert_eq!(row.text(2), Ok("x"));
        assert_eq!(row.json::<Vec<u8>>(3), Ok(vec![1]));
        assert_eq!(row.json_or_null::<Vec<u8>>(1), Ok(None));
        for wrong in
            [row.int64(1).is_err(), row.int64(2).is_err(), row.int32(0).is_err(), row.bool(9).is_err()]
        {
            assert!(wrong);
        }
        assert!(row.uuid(2).is_err());
    }
}
