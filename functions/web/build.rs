//! Puts the files of `web/` into the component: each with its hash and, where that is smaller, compressed.

use flate2::{Compression, GzBuilder};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// What stands in `index.html` for the folder of this very build.
const CURRENT: &str = "/assets/current/";
/// Hexadecimal digits of a hash that are kept: 64 bits, enough to tell builds apart.
const HASH_DIGITS: usize = 16;
/// A compressed variant is kept where it has at most this many hundredths of the original's bytes.
const COMPRESSED_PERCENT_MAX: usize = 90;

fn main() -> io::Result<()> {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    println!("cargo::rerun-if-changed={}", web.join("assets").display());
    println!("cargo::rerun-if-changed={}", web.join("index.html").display());

    let mut assets = Vec::new();
    for entry in fs::read_dir(web.join("assets"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        assets.push((name, fs::read(&path)?));
    }
    assets.sort();
    let page = fs::read_to_string(web.join("index.html"))?;

    // One version for all of them: modules import each other by relative paths, so a page never mixes two builds.
    let mut all = Sha256::new();
    for (name, content) in &assets {
        all.update(hash(name.as_bytes()));
        all.update(hash(content));
    }
    let version = hexadecimal(&all.finalize());
    let page = page.replace(CURRENT, &format!("/assets/{version}/"));

    let mut code = format!("pub(crate) const VERSION: &str = {version:?};\npub(crate) const PAGE: File = ");
    code += &file(&out, "index.html", page.as_bytes())?;
    code += ";\npub(crate) const ASSETS: &[File] = &[\n";
    for (name, content) in &assets {
        code += &file(&out, name, content)?;
        code += ",\n";
    }
    code += "];\n";
    fs::write(out.join("files.rs"), code)
}

/// The Rust expression of a file, whose variants are written beside it.
fn file(out: &Path, name: &str, content: &[u8]) -> io::Result<String> {
    let plain = out.join(name);
    fs::write(&plain, content)?;
    // Neither name nor time: the same content gives the same bytes.
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    let compressed = encoder.finish()?;
    let mut expression = format!(
        "File {{ name: {name:?}, content_type: {:?}, hash: {:?}, plain: include_bytes!({plain:?}), gzip: ",
        content_type(name)?,
        hexadecimal(&hash(content)),
    );
    if compressed.len() * 100 <= content.len() * COMPRESSED_PERCENT_MAX {
        let path = out.join(format!("{name}.gz"));
        fs::write(&path, compressed)?;
        let _ = write!(expression, "Some(include_bytes!({path:?}))");
    } else {
        expression += "None";
    }
    Ok(expression + " }")
}

fn content_type(name: &str) -> io::Result<&'static str> {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => Ok("text/html; charset=utf-8"),
        Some("css") => Ok("text/css; charset=utf-8"),
        Some("js") => Ok("text/javascript; charset=utf-8"),
        Some("svg") => Ok("image/svg+xml"),
        Some("txt") => Ok("text/plain; charset=utf-8"),
        _ => Err(io::Error::other(format!("web/assets/{name}: its content type is not known to build.rs"))),
    }
}

fn hash(content: &[u8]) -> Vec<u8> {
    Sha256::digest(content).to_vec()
}

fn hexadecimal(hash: &[u8]) -> String {
    let mut text = String::new();
    for byte in hash.iter().take(HASH_DIGITS / 2) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
