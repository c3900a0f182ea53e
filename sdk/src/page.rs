//! Lists in pages: as many entries as the caller asks for, and an opaque cursor for what comes after them.
//!
//! A cursor stands for the last entry of its page, so what was written meanwhile moves no entry to another page. The statement
//! reads what comes after it, in a fixed order, and one entry more than the page has:
//!
//! ```
//! use fnhost_sdk::http::{Request, Response};
//! use fnhost_sdk::page::Paging;
//! use fnhost_sdk::problem::Problem;
//! use fnhost_sdk::{Row, Sql, SqlError};
//! use serde::Serialize;
//!
//! const NOTES: &str = "
//!     SELECT id, text FROM note WHERE id < $1::int8 ORDER BY id DESC LIMIT $2::int8";
//!
//! #[derive(Serialize)]
//! struct Note {
//!     id: i64,
//!     text: String,
//! }
//!
//! #[derive(Serialize)]
//! struct Notes {
//!     notes: Vec<Note>,
//!     next_cursor: Option<String>,
//! }
//!
//! async fn list(db: &impl Sql, request: &Request) -> Result<Response, Problem> {
//!     let paging = Paging::<i64>::of(request, 20, 100)?;
//!     let params = vec![paging.after.unwrap_or(i64::MAX).into(), paging.rows().into()];
//!     let rows = db.query(NOTES, params).await?;
//!     let read = |row: &Row| Ok(Note { id: row.int64(0)?, text: row.text(1)?.to_owned() });
//!     let found = rows.iter().map(read).collect::<Result<Vec<_>, SqlError>>()?;
//!     let (notes, next_cursor) = paging.page(found, |last| last.id);
//!     Ok(Response::json(200, &Notes { notes, next_cursor }))
//! }
//! ```

use crate::http::Request;
use crate::problem::Problem;
use base64ct::{Base64UrlUnpadded, Encoding};
use uuid::Uuid;

/// What a cursor stands for: the place of an entry in the order of the list. To callers its text is opaque.
pub trait Cursor: Sized {
    /// The cursor behind this entry. It stands in a URL.
    fn write(&self) -> String;

    /// The entry that a cursor stands behind; `None` where it is no cursor.
    fn read(text: &str) -> Option<Self>;
}

/// Written in decimal.
impl Cursor for i64 {
    fn write(&self) -> String {
        self.to_string()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// Written as it is: for names of characters that need no escape in a URL. Any text is read.
impl Cursor for String {
    fn write(&self) -> String {
        self.clone()
    }

    fn read(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

/// Written in base64url, behind a byte by which another form could be told.
impl Cursor for Uuid {
    fn write(&self) -> String {
        let mut bytes = vec![UUID_FORMAT];
        bytes.extend_from_slice(self.as_bytes());
        Base64UrlUnpadded::encode_string(&bytes)
    }

    fn read(text: &str) -> Option<Self> {
        match Base64UrlUnpadded::decode_vec(text).ok()?.split_first()? {
            (&UUID_FORMAT, id) => Self::from_slice(id).ok(),
            _ => None,
        }
    }
}

const UUID_FORMAT: u8 = 1;

/// What page of a list is asked for, by the query parameters `limit` and `cursor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging<C> {
    /// Entries of the page at most.
    pub limit: i64,
    /// The last entry of the page before; `None` for the first page.
    pub after: Option<C>,
}

impl<C: Cursor> Paging<C> {
    /// What this request asks for; without `limit` a page has `default` entries.
    ///
    /// # Errors
    /// 422 where `limit` is not a number from 1 to `max`, or `cursor` none; 400 where they cannot be read.
    pub fn of(request: &Request, default: i64, max: i64) -> Result<Self, Problem> {
        let limit = request.limit(default, max)?;
        let after = match request.parameter("cursor")? {
            None => None,
            Some(text) => {
                let read = C::read(&text);
                Some(read.ok_or_else(|| Problem::invalid("cursor", "the next_cursor of a page"))?)
            }
        };
        Ok(Self { limit, after })
    }

    /// How many rows the statement reads: one more than the page has tells whether there is a further page.
    #[must_use]
    pub fn rows(&self) -> i64 {
        self.limit.saturating_add(1)
    }

    /// The page's entries, of the rows that were read, and the cursor of the next page where there is one. `place` is an entry's
    /// place in the list.
    pub fn page<T>(&self, mut found: Vec<T>, place: impl FnOnce(&T) -> C) -> (Vec<T>, Option<String>) {
        let len = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = found.len() > len;
        found.truncate(len);
        let next = found.last().filter(|_| more).map(|last| place(last).write());
        (found, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Body;

    fn request(query: &str) -> Request {
        let (method, path, query) = ("GET".to_owned(), "/notes".to_owned(), query.to_owned());
        Request { method, path, query, headers: Vec::new(), body: Body::Read(Vec::new()) }
    }

    #[test]
    fn limit_and_cursor_say_which_page() {
        let paging = |query: &str| {
            let paging = Paging::<i64>::of(&request(query), 20, 100);
            paging.map(|Paging { limit, after }| (limit, after)).map_err(|problem| problem.field.unwrap())
        };
        for (query, expected) in [
            ("", Ok((20, None))),
            ("limit=1", Ok((1, None))),
            ("limit=100&cursor=7", Ok((100, Some(7)))),
            ("cursor=-1", Ok((20, Some(-1)))),
            ("limit=0", Err("limit")),
            ("limit=101", Err("limit")),
            ("cursor=", Err("cursor")),
            ("cursor=x", Err("cursor")),
            ("cursor=%zz", Err("cursor")),
        ] {
            assert_eq!(paging(query), expected.map_err(str::to_owned), "{query}");
        }
    }

    #[test]
    fn a_page_has_a_next_one_where_more_was_read() {
        let of = |limit: i64, read: std::ops::Range<i64>| {
            let paging = Paging { limit, after: None };
            paging.page(read.collect(), |last| *last)
        };
        assert_eq!(Paging::<i64> { limit: 2, after: None }.rows(), 3);
        assert_eq!(of(2, 0..0), (vec![], None));
        assert_eq!(of(2, 0..1), (vec![0], None));
        assert_eq!(of(2, 0..2), (vec![0, 1], None));
        assert_eq!(of(2, 0..3), (vec![0, 1], Some("1".to_owned())));
    }

    #[test]
    fn pages_follow_on_each_other_to_the_end() {
        let all: Vec<i64> = (1..=7).rev().collect();
        let (mut seen, mut query) = (Vec::new(), "limit=3".to_owned());
        loop {
            let paging = Paging::<i64>::of(&request(&query), 20, 100).unwrap();
            let after = paging.after.unwrap_or(i64::MAX);
            let read = all.iter().copied().filter(|id| *id < after).take(paging.rows() as usize).collect();
            let (page, next) = paging.page(read, |last| *last);
            assert!(page.len() <= 3);
            seen.extend(page);
            let Some(next) = next else { break };
            query = format!("limit=3&cursor={next}");
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is_one() {
        let id = Uuid::from_u128(7);
        let cursor = id.write();
        assert_eq!(Uuid::read(&cursor), Some(id));
        for other in [
            "",
            "x",
            &cursor[1..],
            &cursor[..22],
            &format!("{cursor}AA"),
            &cursor.replacen('A', "B", 1),
            &id.to_string(),
        ] {
            assert_eq!(Uuid::read(other), None, "{other}");
        }
        for number in [i64::MIN, 0, i64::MAX] {
            assert_eq!(i64::read(&number.write()), Some(number));
        }
        let sku = "LAMP-1.x_y".to_owned();
        assert_eq!(String::read(&sku.write()), Some(sku));
    }
}
