//! Rows as arrays of their columns, so that a set-based statement is one call.

use super::Value;
use uuid::Uuid;

/// The columns of `rows` as the parameters of `unnest`: one array for each element of the tuple, in the order of the rows.
///
/// A set-based statement reads them again as rows, whatever their number; without rows the arrays are empty. Arrays of int4,
/// int8 and text are what hosts carry, so a UUID travels as text (`$1::text[]::uuid[]`) and a `bool` as int4 (`i32::from`).
///
/// ```
/// use fnhost_sdk::sql::{Sql, SqlError, unnest};
/// use uuid::Uuid;
///
/// struct Visit {
///     user_id: Uuid,
///     page: String,
///     seconds: Option<i64>,
/// }
///
/// const ADD: &str = "
///     INSERT INTO visit (user_id, page, seconds)
///     SELECT * FROM unnest($1::text[]::uuid[], $2::text[], $3::int8[])";
///
/// async fn add(db: &impl Sql, visits: &[Visit]) -> Result<u64, SqlError> {
///     let rows = visits.iter().map(|visit| (visit.user_id, &visit.page, visit.seconds));
///     db.execute(ADD, unnest(rows)).await
/// }
/// ```
#[must_use]
pub fn unnest<R: Cells>(rows: impl IntoIterator<Item = R>) -> Vec<Value> {
    let mut columns = R::Columns::default();
    for row in rows {
        row.push(&mut columns);
    }
    R::parameters(columns)
}

/// A row: a tuple of up to twelve [`Cell`]s.
pub trait Cells {
    /// A column for each of them.
    type Columns: Default;

    /// Adds a row to the columns.
    fn push(self, columns: &mut Self::Columns);

    /// The columns as parameters.
    fn parameters(columns: Self::Columns) -> Vec<Value>;
}

/// What stands in a column of an array.
pub trait Cell {
    /// The element of the array.
    type Element;

    /// As an element of the array; `None` is null.
    fn element(self) -> Option<Self::Element>;
}

macro_rules! cell {
    ($($type:ty => $element:ty, $value:ident => $convert:expr;)*) => {$(
        impl Cell for $type {
            type Element = $element;

            fn element(self) -> Option<$element> {
                let $value = self;
                Some($convert)
            }
        }
    )*};
}

cell! {
    i32 => i32, value => value;
    i64 => i64, value => value;
    String => String, value => value;
    &String => String, value => value.clone();
    &str => String, value => value.to_owned();
    Uuid => String, value => value.to_string();
}

impl<T: Cell> Cell for Option<T> {
    type Element = T::Element;

    fn element(self) -> Option<T::Element> {
        self?.element()
    }
}

macro_rules! cells {
    ($(($($type:ident $index:tt),+);)*) => {$(
        impl<$($type: Cell),+> Cells for ($($type,)+)
        where
            $(Vec<Option<$type::Element>>: Into<Value>,)+
        {
            type Columns = ($(Vec<Option<$type::Element>>,)+);

            fn push(self, columns: &mut Self::Columns) {
                $(columns.$index.push(self.$index.element());)+
            }

            fn parameters(columns: Self::Columns) -> Vec<Value> {
                vec![$(columns.$index.into()),+]
            }
        }
    )*};
}

cells! {
    (A 0);
    (A 0, B 1);
    (A 0, B 1, C 2);
    (A 0, B 1, C 2, D 3);
    (A 0, B 1, C 2, D 3, E 4);
    (A 0, B 1, C 2, D 3, E 4, F 5);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns_in_their_order() {
        let id = Uuid::from_u128(7);
        let rows = [(id, "a", 1_i32, Some(10_i64), None), (Uuid::nil(), "b", 2, None, Some("x".to_owned()))];
        let text = |text: &str| Some(text.to_owned());
        let expected = [
            Value::TextArray(vec![Some(id.to_string()), Some(Uuid::nil().to_string())]),
            Value::TextArray(vec![text("a"), text("b")]),
            Value::Int32Array(vec![Some(1), Some(2)]),
            Value::Int64Array(vec![Some(10), None]),
            Value::TextArray(vec![None, text("x")]),
        ];
        assert_eq!(unnest(rows), expected);
    }

    #[test]
    fn without_rows_there_are_empty_arrays_of_their_types() {
        let none: [(i32, i64, &String); 0] = [];
        let expected = [Value::Int32Array(vec![]), Value::Int64Array(vec![]), Value::TextArray(vec![])];
        assert_eq!(unnest(none), expected);
    }

    #[test]
    fn a_column_may_stand_alone() {
        assert_eq!(
            unnest(["a", "b"].map(|word| (word,))),
            [["a", "b"].map(str::to_owned).into_iter().collect()]
        );
    }
}
