//! Calls of the host's SQL functions by named arguments: each name stands beside its value, so that two counters that are
//! swapped are seen in the line where that happens, and a name that the function does not have is refused by Postgres.

use super::session::{Bounded, Last};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::{Arguments as _, Encode, Type};
use std::fmt::Write as _;
use uuid::Uuid;

/// A call that is being put together. Its text is the same for every call of a function, so that it is prepared once.
pub(super) struct Call {
    sql: String,
    arguments: PgArguments,
    /// The first value that could not be encoded.
    failed: Option<BoxDynError>,
}

impl Call {
    /// A call of `function`, whose name is part of the statement.
    pub(super) fn of(function: &'static str) -> Self {
        Self { sql: format!("SELECT {function}("), arguments: PgArguments::default(), failed: None }
    }

    /// With this value for the argument of that name.
    pub(super) fn with<'v, T>(mut self, name: &'static str, value: T) -> Self
    where
        T: Encode<'v, Postgres> + Type<Postgres>,
    {
        if let Err(error) = self.arguments.add(value) {
            self.failed.get_or_insert(error);
        }
        let comma = if self.arguments.len() > 1 { ", " } else { "" };
        // A string takes everything.
        let _ = write!(self.sql, "{comma}{name} => ${}", self.arguments.len());
        self
    }

    /// Runs it.
    ///
    /// # Errors
    /// A value cannot be encoded, the function refuses, or the database failed.
    pub(super) async fn run(mut self, connection: &mut Bounded) -> Result<(), sqlx::Error> {
        if let Some(error) = self.failed {
            return Err(sqlx::Error::Encode(error));
        }
        self.sql.push(')');
        sqlx::query_with(sqlx::AssertSqlSafe(self.sql), self.arguments).execute(connection).await.map(drop)
    }
}

/// Such a call as text: for a message of several statements, which has no parameters. Its values stand where the call is executed; it
/// is prepared without them.
pub(super) struct TextCall {
    types: String,
    call: String,
    values: String,
    count: usize,
}

impl TextCall {
    /// A call of `function`, whose name is part of the statement.
    pub(super) fn of(function: &'static str) -> Self {
        Self { types: String::new(), call: format!("SELECT {function}("), values: String::new(), count: 0 }
    }

    /// With this value for the argument of that name.
    pub(super) fn with<V: Literal>(mut self, name: &'static str, value: V) -> Self {
        let comma = if self.count > 0 { ", " } else { "" };
        self.count += 1;
        // A string takes everything.
        let _ = write!(self.types, "{comma}{}", V::TYPE);
        let _ = write!(self.call, "{comma}{name} => ${}", self.count);
        self.values.push_str(comma);
        value.write(&mut self.values);
        self
    }

    /// The statement, to be prepared under that name.
    pub(super) fn prepared_as(self, name: &'static str) -> Last {
        let execute = format!("EXECUTE {name} ({})", self.values);
        Last { name, types: self.types, prepared: self.call + ")", execute }
    }
}

/// A value as it stands in a statement's text. Nothing of text or bytes is written as it is, so it reads the same under any setting
/// that a function may have made, and ends no string.
pub(super) trait Literal {
    /// The type of the argument.
    const TYPE: &'static str;

    /// Appends it.
    fn write(&self, sql: &mut String);
}

impl Literal for i64 {
    const TYPE: &'static str = "bigint";

    fn write(&self, sql: &mut String) {
        let _ = write!(sql, "{self}");
    }
}

impl Literal for i32 {
    const TYPE: &'static str = "int";

    fn write(&self, sql: &mut String) {
        let _ = write!(sql, "{self}");
    }
}

impl Literal for Option<i64> {
    const TYPE: &'static str = i64::TYPE;

    fn write(&self, sql: &mut String) {
        match self {
            Some(value) => value.write(sql),
            None => sql.push_str("NULL"),
        }
    }
}

impl Literal for Uuid {
    const TYPE: &'static str = "uuid";

    fn write(&self, sql: &mut String) {
        let _ = write!(sql, "'{self}'");
    }
}

impl Literal for &[u8] {
    const TYPE: &'static str = "bytea";

    fn write(&self, sql: &mut String) {
        sql.push_str("pg_catalog.decode('");
        BASE64_STANDARD.encode_string(self, sql);
        sql.push_str("', 'base64')");
    }
}

impl Literal for Option<&[u8]> {
    const TYPE: &'static str = <&[u8]>::TYPE;

    fn write(&self, sql: &mut String) {
        match self {
            Some(value) => value.write(sql),
            None => sql.push_str("NULL"),
        }
    }
}

impl Literal for &str {
    const TYPE: &'static str = "text";

    fn write(&self, sql: &mut String) {
        sql.push_str("pg_catalog.convert_from(");
        self.as_bytes().write(sql);
        sql.push_str(", 'UTF8')");
    }
}

impl Literal for &[&str] {
    const TYPE: &'static str = "text[]";

    fn write(&self, sql: &mut String) {
        write_array(self, sql);
    }
}

impl Literal for &[i64] {
    const TYPE: &'static str = "bigint[]";

    fn write(&self, sql: &mut String) {
        write_array(self, sql);
    }
}

fn write_array(values: &[impl Literal], sql: &mut String) {
    if values.is_empty() {
        // Of no type, so that it takes the argument's.
        sql.push_str("'{}'");
        return;
    }
    sql.push_str("ARRAY[");
    for (place, value) in values.iter().enumerate() {
        if place > 0 {
            sql.push(',');
        }
        value.write(sql);
    }
    sql.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_beside_their_values_and_the_text_depends_on_no_value() {
        let call = |position: i64| Call::of("fnhost.move").with("p_topic", "t").with("p_position", position);
        assert_eq!(call(1).sql, "SELECT fnhost.move(p_topic => $1, p_position => $2");
        assert_eq!(call(1).sql, call(2).sql);
    }

    #[test]
    fn as_text_no_value_can_end_its_string() {
        let call = TextCall::of("fnhost.f")
            .with("p_number", -1_i64)
            .with("p_absent", None::<i64>)
            .with("p_text", "it's \\' $$ ; --")
            .with("p_bytes", Some(&b"\0'"[..]))
            .with("p_texts", &["'"][..])
            .with("p_none", &[] as &[i64])
            .prepared_as("f");
        assert_eq!(call.types, "bigint, bigint, text, bytea, text[], bigint[]");
        let names =
            "p_number => $1, p_absent => $2, p_text => $3, p_bytes => $4, p_texts => $5, p_none => $6";
        assert_eq!(call.prepared, format!("SELECT fnhost.f({names})"));
        let text = |base64: &str| {
            format!("pg_catalog.convert_from(pg_catalog.decode('{base64}', 'base64'), 'UTF8')")
        };
        let values = format!(
            "-1, NULL, {}, pg_catalog.decode('ACc=', 'base64'), ARRAY[{}], '{{}}'",
            text("aXQncyBcJyAkJCA7IC0t"),
            text("Jw==")
        );
        assert_eq!(call.execute, format!("EXECUTE f ({values})"));
    }
}
