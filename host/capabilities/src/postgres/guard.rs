//! Which statements a call may send.

/// The first words of the statements that work on rows and leave transaction and session alone.
const ROW_STATEMENTS: [&str; 7] = ["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "VALUES"];

/// True where the statement begins, after comments and white space, with one of `SELECT`, `INSERT`, `UPDATE`,
/// `DELETE`, `MERGE`, `WITH` or `VALUES`. The server itself refuses several statements in one text.
pub fn is_row_statement(sql: &str) -> bool {
    let start = skip_comments(sql);
    let length = start.bytes().take_while(u8::is_ascii_alphabetic).count();
    let (word, rest) = start.split_at(length);
    let whole_word = !rest.starts_with(|next: char| next == '_' || next == '$' || next.is_alphanumeric());
    whole_word && ROW_STATEMENTS.iter().any(|allowed| word.eq_ignore_ascii_case(allowed))
}

/// The text from its first character on that is neither white space nor part of a comment.
pub(super) fn skip_comments(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        rest = rest.trim_start();
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.find(['\n', '\r']).map_or("", |end| &comment[end..]);
        } else if rest.starts_with("/*") {
            rest = skip_block_comment(rest);
        } else {
            return rest;
        }
    }
}

/// What follows the block comment at the start of the text; Postgres lets them nest.
fn skip_block_comment(sql: &str) -> &str {
    let mut depth = 0_usize;
    let mut rest = sql;
    loop {
        if let Some(inner) = rest.strip_prefix("/*") {
            (depth, rest) = (depth + 1, inner);
        } else if let Some(outer) = rest.strip_prefix("*/") {
            (depth, rest) = (depth - 1, outer);
            if depth == 0 {
                return rest;
            }
        } else {
            let mut characters = rest.chars();
            if characters.next().is_none() {
                return "";
            }
            rest = characters.as_str();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_row_statement;

    #[test]
    fn only_statements_on_rows_pass() {
        let cases = [
            ("SELECT 1", true),
            ("select(1)", true),
            ("values (1)", true),
            ("  \n\t-- a note\n/* another /* nested */ still */ With x as (select 1) select * from x", true),
            ("MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE", true),
            ("", false),
            ("-- SELECT 1", false),
            ("/* SELECT 1", false),
            ("/* /* */ SELECT 1", false),
            ("SELECTED", false),
            ("select_1", false),
            ("COMMIT", false),
            ("begin", false),
            ("SET search_path = other", false),
            ("/* */ ROLLBACK", false),
            ("SAVEPOINT s", false),
            ("COPY t FROM STDIN", false),
            ("LISTEN x", false),
            ("DO $$ begin end $$", false),
            ("CALL p()", false),
            ("PREPARE TRANSACTION 'x'", false),
            ("(SELECT 1)", false),
        ];
        for (sql, expected) in cases {
            assert_eq!(is_row_statement(sql), expected, "{sql:?}");
        }
    }
}
