//! Which statements leave a session as it was, so that it need not be reset after them.
//!
//! A reset costs the server as much as a small statement. What it undoes are settings, advisory locks, temporary tables and the
//! memory of sequences, and a statement on rows comes by those through a function, or `SELECT INTO`. So a statement that calls
//! nothing but well-known functions of Postgres leaves the session alone; of any other it is not known. What functions of
//! the application's own do, in triggers say, the session itself knows: see `fnhost_db::session::Session`.

use super::guard::{is_row_statement, skip_comments};
use std::collections::HashMap;
use std::sync::{LazyLock, PoisonError, RwLock};

/// What may stand before a parenthesis, in order: words of SQL and types with a length, which are no functions, and functions of
/// `pg_catalog` that read and change nothing but their arguments. Beside them what begins with [`PREFIXES`].
#[rustfmt::skip]
const HARMLESS: &[&str] = &[
    "abs", "all", "and", "any", "array", "array_agg", "array_append", "array_cat", "array_length",
    "array_position", "array_prepend", "array_remove", "array_replace", "array_to_string", "as", "avg",
    "between", "bit_and", "bit_or", "bool_and", "bool_or", "btrim", "by", "cardinality", "case", "cast",
    "ceil", "ceiling", "char", "char_length", "character", "chr", "clock_timestamp", "coalesce", "concat",
    "concat_ws", "conflict", "convert_from", "convert_to", "count", "cume_dist", "date_bin", "date_part",
    "date_trunc", "decimal", "decode", "dense_rank", "distinct", "else", "encode", "every", "except",
    "exists", "exp", "extract", "filter", "first_value", "floor", "format", "from", "gen_random_uuid",
    "generate_series", "greatest", "group", "grouping", "having", "ilike", "in", "initcap", "intersect",
    "interval", "is", "isfinite", "join", "lag", "last_value", "lateral", "lead", "least", "left", "length",
    "like", "limit", "ln", "log", "lower", "lpad", "ltrim", "make_date", "make_interval",
    "make_timestamptz", "materialized", "max", "md5", "min", "mod", "not", "now", "ntile", "nullif",
    "numeric", "octet_length", "offset", "on", "or", "order", "over", "overlay", "partition",
    "percent_rank", "percentile_cont", "percentile_disc", "position", "power", "random", "rank", "repeat",
    "replace", "returning", "reverse", "right", "round", "row", "row_number", "row_to_json", "rows", "rpad",
    "rtrim", "select", "set", "sets", "sha256", "sign", "some", "split_part", "sqrt", "starts_with",
    "statement_timestamp", "string_agg", "string_to_array", "strpos", "substr", "substring", "sum", "then",
    "time", "timestamp", "timestamptz", "translate", "trim", "trunc", "union", "unnest", "upper", "using",
    "values", "varchar", "when", "width_bucket",
];

/// Families of such functions: JSON, regular expressions, ranges, conversions.
const PREFIXES: [&str; 5] = ["json_", "jsonb_", "regexp_", "range_", "to_"];

/// Statements whose answer is remembered at most, and bytes of one: functions send the same few all the time, and to read one anew costs
/// a hundredth of the request that sends it.
const REMEMBERED: usize = 1_024;
const REMEMBERED_BYTES: usize = 8 << 10;

/// True where the statement surely leaves its session as it was.
pub(super) fn leaves_session_alone(sql: &str) -> bool {
    static KNOWN: LazyLock<RwLock<HashMap<Box<str>, bool>>> = LazyLock::new(RwLock::default);
    if sql.len() > REMEMBERED_BYTES {
        return is_harmless_text(sql);
    }
    // Nothing panics while it is held.
    if let Some(known) = KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(sql) {
        return *known;
    }
    let answer = is_harmless_text(sql);
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    // Statements with their values in the text are soon more than can be remembered.
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.insert(sql.into(), answer);
    answer
}

fn is_harmless_text(sql: &str) -> bool {
    // What a backslash means in a string depends on the session.
    !sql.contains('\\') && is_row_statement(sql) && Tokens { rest: sql }.are_harmless()
}

/// What matters of a statement's text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token<'s> {
    /// A word without quotes: a keyword or a name.
    Word(&'s str),
    /// A name in quotes.
    Quoted,
    /// `(`
    Opening,
    /// `.`, of a qualified name.
    Dot,
    /// Values and all other signs.
    Other,
}

struct Tokens<'s> {
    rest: &'s str,
}

impl<'s> Tokens<'s> {
    fn are_harmless(mut self) -> bool {
        let mut before = [Token::Other; 2];
        while let Some(token) = self.next() {
            let Some(token) = token else { return false };
            let [earlier, last] = before;
            let named =
                |keyword: &str| matches!(earlier, Token::Word(word) if word.eq_ignore_ascii_case(keyword));
            let harmless = match (last, token) {
                // The columns of an alias or of a table are no arguments. A qualified name may be anything's.
                (Token::Word(name), Token::Opening) => {
                    named("as") || named("into") || (earlier != Token::Dot && is_harmless(name))
                }
                (Token::Quoted, Token::Opening) => named("as") || named("into"),
                (_, Token::Word(word)) if word.eq_ignore_ascii_case("into") => {
                    matches!(last, Token::Word(word) if ["insert", "merge"].iter().any(|into| word.eq_ignore_ascii_case(into)))
                }
                _ => true,
            };
            if !harmless {
                return false;
            }
            before = [last, token];
        }
        true
    }

    /// The next token; none at the end, and none within where the text cannot be read.
    fn next(&mut self) -> Option<Option<Token<'s>>> {
        self.rest = skip_comments(self.rest);
        let first = self.rest.chars().next()?;
        let token = match first {
            '\'' => self.until_quote('\'').then_some(Token::Other),
            '"' => self.until_quote('"').then_some(Token::Quoted),
            '$' => self.dollar().then_some(Token::Other),
            '(' => self.skip(1, Token::Opening),
            '.' => self.skip(1, Token::Dot),
            _ if is_word(first) && !first.is_ascii_digit() => {
                let length = self.rest.find(|next| !is_word(next) && next != '$').unwrap_or(self.rest.len());
                let (word, rest) = self.rest.split_at(length);
                self.rest = rest;
                Some(Token::Word(word))
            }
            _ => self.skip(first.len_utf8(), Token::Other),
        };
        Some(token)
    }

    fn skip(&mut self, bytes: usize, token: Token<'s>) -> Option<Token<'s>> {
        self.rest = &self.rest[bytes..];
        Some(token)
    }

    /// Skips what stands in quotes, where they end.
    fn until_quote(&mut self, quote: char) -> bool {
        let mut characters = self.rest.char_indices().skip(1).peekable();
        while let Some((at, next)) = characters.next() {
            if next == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
                self.rest = &self.rest[at + quote.len_utf8()..];
                return true;
            }
        }
        false
    }

    /// Skips a parameter, or what stands between dollar quotes.
    fn dollar(&mut self) -> bool {
        let inner = &self.rest[1..];
        let length = inner.find(|next| !is_word(next)).unwrap_or(inner.len());
        let (tag, after) = inner.split_at(length);
        if tag.starts_with(|first: char| first.is_ascii_digit()) {
            self.rest = after;
            return true;
        }
        let Some(text) = after.strip_prefix('$') else { return false };
        let quote = &self.rest[..length + 2];
        let Some(end) = text.find(quote) else { return false };
        self.rest = &text[end + quote.len()..];
        true
    }
}

fn is_word(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

fn is_harmless(name: &str) -> bool {
    let lower = || name.bytes().map(|byte| byte.to_ascii_lowercase());
    HARMLESS.binary_search_by(|known| known.bytes().cmp(lower())).is_ok()
        || PREFIXES.iter().any(|prefix| lower().take(prefix.len()).eq(prefix.bytes()))
}

#[cfg(test)]
mod tests {
    use super::{HARMLESS, leaves_session_alone};

    #[test]
    fn what_is_harmless_is_found_in_its_order() {
        assert!(HARMLESS.is_sorted(), "the search needs it");
    }

    #[test]
    fn what_calls_nothing_unknown_leaves_it_alone() {
        for sql in [
            "SELECT id, lower(name) FROM t WHERE id = $1 AND at > now() - interval '1 day'",
            "INSERT INTO t (id, name) SELECT a.id, 'set_config(' FROM unnest($1::int8[], $2::text[]) AS a (id, name)",
            "WITH done AS (UPDATE t SET n = n + 1 WHERE id = ANY ($1) RETURNING id) SELECT count(*) FROM done",
            "INSERT INTO \"T\" (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET n = (t.n)",
            "SELECT /* set_config( */ $$pg_advisory_lock(1)$$, $q$ $$ set_config( $q$ -- set_config(",
            "SELECT CASE WHEN (a) THEN (b) ELSE (c) END, numeric(10, 2) '1' FROM t",
            "SELECT 'it''s', 1.5, jsonb_build_object('a', 1)",
            "MERGE INTO t USING s ON (t.id = s.id) WHEN MATCHED THEN DELETE",
        ] {
            assert!(leaves_session_alone(sql), "{sql}");
        }
    }

    #[test]
    fn of_everything_else_it_is_not_known() {
        for sql in [
            "SELECT set_config('a.b', '1', false)",
            "SELECT SET_CONFIG ('a.b', '1', false)",
            "SELECT pg_catalog.set_config('a.b', '1', false)",
            "SELECT pg_catalog . \"set_config\" ('a.b', '1', false)",
            "SELECT \"set_config\"('a.b', '1', false)",
            "SELECT set_config/* */('a.b', '1', false)",
            "SELECT set_config--\n('a.b', '1', false)",
            "SELECT pg_advisory_lock(1)",
            "SELECT own.lower('x')",
            "SELECT id INTO TEMP other FROM t",
            "SELECT id into other FROM t",
            "SELECT nextval('s')",
            "SELECT currval('s')",
            "SELECT query_to_xml('SELECT 1', true, true, '')",
            "SELECT '\\'', set_config('a.b', '1', false), '\\''",
            "SELECT 'open",
            "SELECT $$open",
            "SELECT $a$open$b$",
            "SELECT $",
            "SET search_path = other",
            "WITH x (a) AS (SELECT 1) SELECT a FROM x",
            "SELECT únnest(1)",
        ] {
            assert!(!leaves_session_alone(sql), "{sql}");
        }
    }
}
