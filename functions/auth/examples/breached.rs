//! Makes `src/breached.bin` of lists with one password a line: those that the other rules would let pass.

use auth::breached::filter;
use auth::domain::{PASSWORD_CHARS_MIN, PASSWORD_DISTINCT_CHARS_MIN, normalise_password};
use std::collections::BTreeSet;

fn main() -> std::io::Result<()> {
    let mut passwords = BTreeSet::new();
    for file in std::env::args().skip(1) {
        let list = std::fs::read(&file)?;
        let lower = |line: &str| normalise_password(line).to_lowercase();
        passwords.extend(String::from_utf8_lossy(&list).lines().map(lower));
    }
    passwords.retain(|password| {
        let distinct = password.chars().collect::<BTreeSet<_>>().len();
        password.chars().count() >= PASSWORD_CHARS_MIN && distinct >= PASSWORD_DISTINCT_CHARS_MIN
    });
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/breached.bin");
    std::fs::write(file, filter(passwords.iter().map(String::as_str)))?;
    println!("{} passwords in {file}", passwords.len());
    Ok(())
}
