//! Where a page of orders ended, as an opaque text.

use base64ct::{Base64UrlUnpadded, Encoding};
use uuid::Uuid;

/// The first byte of every cursor written here, so that another form can be told.
const FORMAT: u8 = 1;

/// The cursor behind this order.
pub fn write(last: Uuid) -> String {
    let mut bytes = vec![FORMAT];
    bytes.extend_from_slice(last.as_bytes());
    Base64UrlUnpadded::encode_string(&bytes)
}

/// The order that a cursor stands behind; `None` where it is none of ours.
pub fn read(cursor: &str) -> Option<Uuid> {
    match Base64UrlUnpadded::decode_vec(cursor).ok()?.split_first()? {
        (&FORMAT, id) => Uuid::from_slice(id).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is_one() {
        let id = Uuid::from_u128(7);
        let cursor = write(id);
        assert_eq!(read(&cursor), Some(id));
        for other in [
            "",
            "x",
            &cursor[1..],
            &cursor[..22],
            &format!("{cursor}AA"),
            &cursor.replacen('A', "B", 1),
            &id.to_string(),
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
