//! What an account may look like. Pure.

use crate::breached;
use unicode_normalization::UnicodeNormalization as _;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

/// Bytes of an e-mail address, by RFC 5321.
pub const EMAIL_BYTES_MAX: usize = 254;
/// Bytes of the part before `@`, by RFC 5321.
pub const LOCAL_PART_BYTES_MAX: usize = 64;
/// Characters of a password at least.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// Bytes of a password at most: the hash takes any length, its time should not depend on a caller's appetite.
pub const PASSWORD_BYTES_MAX: usize = 256;
/// Different characters of a password at least.
pub const PASSWORD_DISTINCT_CHARS_MIN: usize = 4;
/// Characters of a name at most.
pub const NAME_CHARS_MAX: usize = 100;

/// Characters that are kept of what a client calls itself.
pub const DEVICE_CHARS_MAX: usize = 200;
/// How long an account's activity is kept, in seconds.
pub const ACTIVITY_SECONDS: i64 = 90 * 24 * 60 * 60;
/// Entries of an account's activity that are kept.
pub const ACTIVITY_ROWS_MAX: i64 = 200;

/// What an account's activity tells.
pub const ACTIVITIES: [&str; 10] = [
    "SIGNED_IN",
    "SIGNED_IN_WITH_PASSKEY",
    "SIGN_IN_FAILED",
    "TOKEN_REUSED",
    "PASSWORD_CHANGED",
    "PASSWORD_RESET",
    "ADDRESS_CONFIRMED",
    "SESSIONS_ENDED",
    "PASSKEY_ADDED",
    "PASSKEY_REMOVED",
];

/// What a login was begun with.
pub const METHODS: [&str; 2] = ["password", "passkey"];

/// An input that is not acceptable, and what would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The name of the input.
    pub field: &'static str,
    /// What is wrong with the input, shown to the caller.
    pub detail: String,
}

impl Invalid {
    fn new(field: &'static str, detail: impl Into<String>) -> Self {
        Self { field, detail: detail.into() }
    }
}

/// The form in which addresses are stored and compared: NFKC in lower case, so that one address has one account however its
/// letters are encoded.
#[must_use]
pub fn normalise_email(email: &str) -> String {
    let composed: String = email.trim().nfkc().collect();
    // A letter in lower case may compose with the one after it again.
    composed.to_lowercase().nfkc().collect()
}

/// The form in which passwords are checked and hashed: NFC, so that the same keys give the same password on every system.
#[must_use]
pub fn normalise_password(password: &str) -> String {
    password.nfc().collect()
}

/// Checks a normalised address. Whether it exists, only a message to it could tell.
///
/// # Errors
/// It has not the form of an address.
pub fn check_email(email: &str) -> Result<(), Invalid> {
    let refused = Err(Invalid::new("email", "an address of the form name@example.com"));
    let Some((local, domain)) = email.rsplit_once('@') else {
        return refused;
    };
    // Nobody sees a format character, a zero-width space say: two addresses would look the same.
    let is_seen =
        |c: char| !c.is_whitespace() && !c.is_control() && c.general_category() != GeneralCategory::Format;
    let letters_fit = |c: char| is_seen(c) && !matches!(c, '@' | ',' | ';' | '<' | '>' | '"');
    let local_fits = (1..=LOCAL_PART_BYTES_MAX).contains(&local.len()) && local.chars().all(letters_fit);
    let label_fits = |label: &str| {
        let ends_fit = !label.starts_with('-') && !label.ends_with('-');
        !label.is_empty() && ends_fit && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    let domain_fits = domain.contains('.') && domain.split('.').all(label_fits);
    if email.len() > EMAIL_BYTES_MAX || !local_fits || !domain_fits {
        return refused;
    }
    Ok(())
}

/// Checks a new password in its normal form: its length, and that it is not among the first to be tried.
///
/// # Errors
/// Why it is too weak.
pub fn check_password(password: &str, email: &str) -> Result<(), Invalid> {
    let refused = |detail: String| Err(Invalid::new("password", detail));
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return refused(format!("at least {PASSWORD_CHARS_MIN} characters"));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return refused(format!("at most {PASSWORD_BYTES_MAX} bytes"));
    }
    let lower = password.to_lowercase();
    let distinct = lower.chars().collect::<std::collections::BTreeSet<_>>().len();
    if distinct < PASSWORD_DISTINCT_CHARS_MIN {
        return refused(format!("at least {PASSWORD_DISTINCT_CHARS_MIN} different characters"));
    }
    let local = email.split('@').next().unwrap_or_default();
    if lower == email || lower == local {
        return refused("one that is not the first to be guessed".to_owned());
    }
    if breached::contains(password) || breached::contains(&lower) {
        return refused("one that is not known from a breach".to_owned());
    }
    Ok(())
}

/// What a client calls itself, as it is shown to the account's owner.
#[must_use]
pub fn device(user_agent: &str) -> String {
    let shown = |c: &char| !c.is_control() && c.general_category() != GeneralCategory::Format;
    user_agent.trim().chars().filter(shown).take(DEVICE_CHARS_MAX).collect()
}

/// Trims a name; empty is none.
///
/// # Errors
/// It is too long or contains control characters.
pub fn check_name(name: Option<&str>) -> Result<Option<&str>, Invalid> {
    let Some(name) = name.map(str::trim).filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    if name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(Invalid::new(
            "name",
            format!("at most {NAME_CHARS_MAX} characters, none of them a control"),
        ));
    }
    Ok(Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_normalised_and_checked() {
        assert_eq!(normalise_email("  Ada.Lovelace@Example.COM\n"), "ada.lovelace@example.com");
        for (written, normal) in [
            ("\u{ff21}da\u{ff20}b.c", "ada@b.c"),
            ("u\u{308}@bu\u{308}cher.example", "\u{fc}@b\u{fc}cher.example"),
            ("\u{130}@b.c", "i\u{307}@b.c"),
            ("\u{fb01}x@b.c", "fix@b.c"),
        ] {
            assert_eq!(normalise_email(written), normal);
            assert_eq!(normalise_email(normal), normal, "once is enough");
        }
        let long_local = format!("{}@example.com", "x".repeat(LOCAL_PART_BYTES_MAX + 1));
        let long = format!("x@{}.com", "x.".repeat(EMAIL_BYTES_MAX / 2));
        for good in ["a@b.c", "ada+orders@mail.example.com", "o'hara@example.org", "ü@bücher.example"] {
            assert_eq!(check_email(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "@",
            "a@",
            "@b.c",
            "a.b.c",
            "a@b",
            "a b@c.d",
            "a@b@c.d",
            "a@b..c",
            "a@.b.c",
            "a@-b.c",
            "a@b-.c",
            "a\u{7}@b.c",
            "a\u{200b}@b.c",
            "a\u{ad}b@b.c",
            "\u{202e}a@b.c",
            "a@b\u{200d}.c",
            "\u{feff}a@b.c",
            "a@b.c>",
            "<a@b.c",
            &long_local,
            &long,
        ] {
            assert_eq!(check_email(bad).unwrap_err().field, "email", "{bad}");
        }
    }

    #[test]
    fn a_password_is_the_same_from_every_keyboard() {
        assert_eq!(normalise_password("pa\u{308}sswo\u{308}rter"), "p\u{e4}ssw\u{f6}rter");
        assert_eq!(
            normalise_password("\u{fb01}\u{ff21} 1"),
            "\u{fb01}\u{ff21} 1",
            "other letters stay others"
        );
    }

    #[test]
    fn weak_passwords_are_refused() {
        let email = "ada.lovelace@example.com";
        for good in ["correct horse", "8 chars!", "ünïcødé!", &"xyz1".repeat(PASSWORD_BYTES_MAX / 4)] {
            assert_eq!(check_password(good, email), Ok(()), "{good}");
        }
        for bad in [
            "",
            "short",
            "1234567",
            "12345678",
            "PassWord",
            "aaaaaaaaaa",
            "abababab",
            email,
            "ADA.LOVELACE",
            &"xyz1".repeat(PASSWORD_BYTES_MAX / 4 + 1),
        ] {
            assert_eq!(check_password(bad, email).unwrap_err().field, "password", "{bad}");
        }
    }

    #[test]
    fn what_a_client_calls_itself_is_shown_and_does_nothing() {
        assert_eq!(device(" Mozilla/5.0 (X11)\r\n"), "Mozilla/5.0 (X11)");
        assert_eq!(device("a\u{202e}b\u{0}c\u{200b}"), "abc");
        assert_eq!(device(&"x".repeat(DEVICE_CHARS_MAX + 1)).len(), DEVICE_CHARS_MAX);
    }

    #[test]
    fn a_name_is_trimmed_or_none() {
        for (name, expected) in [
            (None, Ok(None)),
            (Some("  "), Ok(None)),
            (Some(" Ada "), Ok(Some("Ada"))),
            (Some("a\nb"), Err("name")),
            (Some(&*"x".repeat(NAME_CHARS_MAX + 1)), Err("name")),
        ] {
            assert_eq!(check_name(name).map_err(|invalid| invalid.field), expected);
        }
    }
}
