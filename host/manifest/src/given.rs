//! What `--variable` gives: `name=value`, `name=@file`, or a file of names and values. The forms are Spin's, since what is
//! given to `spin up` reaches Spin's own triggers and fnhost alike.

use std::collections::BTreeMap;
use std::path::Path;

use super::variables::Secret;

/// The variables of one `--variable`. The content of `name=@file` is taken as it is, its last line break included.
///
/// # Errors
/// What is wrong with it, without any value: values may be secret.
pub fn variables(argument: &str) -> Result<Vec<(String, Secret)>, String> {
    if let Some(path) = argument.strip_prefix('@') {
        let values = file_of_values(Path::new(path))?;
        return Ok(values.into_iter().map(|(name, value)| (name, Secret::new(value))).collect());
    }
    let Some((name, value)) = argument.split_once('=') else {
        // What was typed may be a value without its name.
        return Err("--variable takes NAME=VALUE, NAME=@FILE, @FILE.json or @FILE.toml".to_owned());
    };
    let value = match value.strip_prefix('@') {
        Some(path) => read(Path::new(path)).map_err(|error| format!("--variable {name}=@…: {error}"))?,
        None => value.to_owned(),
    };
    Ok(vec![(name.to_owned(), Secret::new(value))])
}

fn file_of_values(path: &Path) -> Result<BTreeMap<String, String>, String> {
    // The parsers' own messages quote what they read.
    let unfit =
        |kind: &str| format!("--variable @{}: it is not a {kind} with strings as values", path.display());
    let text = || read(path).map_err(|error| format!("--variable @…: {error}"));
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => serde_json::from_str(&text()?).map_err(|_| unfit("JSON object")),
        Some("toml") => toml::from_str(&text()?).map_err(|_| unfit("TOML table")),
        _ => Err("--variable @FILE: the file's name ends in .json or .toml".to_owned()),
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is given, its values shown.
    fn given(argument: &str) -> Result<Vec<(String, String)>, String> {
        let shown = |(name, value): (String, Secret)| (name, value.expose().to_owned());
        variables(argument).map(|given| given.into_iter().map(shown).collect())
    }

    #[test]
    fn all_forms_of_spin_are_read() {
        let folder = std::env::temp_dir().join(format!("fnhost-given-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = |name: &str, text: &str| {
            std::fs::write(folder.join(name), text).unwrap();
            folder.join(name).display().to_string()
        };
        let one = |name: &str, value: &str| Ok(vec![(name.to_owned(), value.to_owned())]);
        let key = file("key.pem", "hush\n");
        let json = file("a.json", r#"{"a":"1"}"#);
        let toml = file("a.toml", "a = '1'");
        assert_eq!(given("a=b=c"), one("a", "b=c"));
        assert_eq!(given("a="), one("a", ""));
        assert_eq!(given(&format!("a=@{key}")), one("a", "hush\n"));
        assert_eq!(given(&format!("@{json}")), one("a", "1"));
        assert_eq!(given(&format!("@{toml}")), one("a", "1"));
        let wrong = file("wrong.json", r#"{"a":"hush", "b":99182}"#);
        for (argument, part) in [
            ("hush".to_owned(), "takes NAME=VALUE"),
            ("a=@/nowhere".to_owned(), "--variable a=@…: cannot read /nowhere"),
            ("@/nowhere.json".to_owned(), "cannot read /nowhere.json"),
            (format!("@{key}"), "ends in .json or .toml"),
            (format!("@{wrong}"), "not a JSON object with strings"),
        ] {
            let error = given(&argument).unwrap_err();
            assert!(error.contains(part), "{error}");
            assert!(!error.contains("hush") && !error.contains("99182"), "{error}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
