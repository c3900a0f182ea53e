//! Finds the one character that JSON can carry and a Postgres text column cannot.

use serde_json::Value;

const ESCAPE: &[u8] = br"\u0000";

/// The path (`items[0].sku`) of the first string in `json` that contains NUL; a name that contains it counts too.
///
/// `json` is valid JSON, so NUL can only appear in its escaped form, and the slow look happens only where that is.
#[must_use]
pub fn find(json: &[u8]) -> Option<String> {
    // The search for one byte is fast, and hardly any payload has an escape at all.
    if !json.contains(&ESCAPE[0]) || !json.windows(ESCAPE.len()).any(|window| window == ESCAPE) {
        return None;
    }
    let value = serde_json::from_slice(json).ok()?;
    search(&value, String::new())
}

fn search(value: &Value, path: String) -> Option<String> {
    match value {
        Value::String(text) if text.contains('\0') => Some(path),
        Value::Array(values) => {
            (0..).zip(values).find_map(|(i, value)| search(value, format!("{path}[{i}]")))
        }
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            if name.contains('\0') {
                return Some(path.clone());
            }
            let separator = if path.is_empty() { "" } else { "." };
            search(value, format!("{path}{separator}{name}"))
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn names_the_field() {
        for (json, expected) in [
            (r#"{"a":"b"}"#, None),
            (r#"{"a":"\\u0000"}"#, None),
            (r#"{"a":"\u0000"}"#, Some("a")),
            (r#"{"items":[{"sku":"x"},{"sku":"x\u0000"}]}"#, Some("items[1].sku")),
            (r#"{"a":{"b\u0000":1}}"#, Some("a")),
        ] {
            assert_eq!(find(json.as_bytes()).as_deref(), expected, "{json}");
        }
    }
}
