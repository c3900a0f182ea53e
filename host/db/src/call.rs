//! Calls of the host's SQL functions by named arguments: each name stands beside its value, so that two counters that are
//! swapped are seen in the line where that happens, and a name that the function does not have is refused by Postgres.

use super::session::Bounded;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::{Arguments as _, Encode, Type};
use std::fmt::Write as _;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_beside_their_values_and_the_text_depends_on_no_value() {
        let call = |position: i64| Call::of("fnhost.move").with("p_topic", "t").with("p_position", position);
        assert_eq!(call(1).sql, "SELECT fnhost.move(p_topic => $1, p_position => $2");
        assert_eq!(call(1).sql, call(2).sql);
    }
}
