//! Puts the files of `web/` into the component: each with its hash and, where that is smaller, compressed.

use flate2::read::DeflateDecoder;
use flate2::{Compression, GzBuilder};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// What stands in a page for the folder of this very build: `/assets/current/`.
const CURRENT: &str = "current";
/// Of Swagger UI's archive: what is served, and under which name.
const SWAGGER_UI: [(&str, &str); 4] = [
    ("dist/swagger-ui-bundle.js", "swagger-ui-bundle.js"),
    ("dist/swagger-ui.css", "swagger-ui.css"),
    ("LICENSE", "swagger-ui-license.txt"),
    ("NOTICE", "swagger-ui-notice.txt"),
];
/// Of a file in a zip archive that is not compressed; the others are deflated.
const STORED: usize = 0;
/// Hexadecimal digits of a hash that are kept: 64 bits, enough to tell builds apart.
const HASH_DIGITS: usize = 16;
/// A compressed variant is kept where it has at most this many hundredths of the original's bytes.
const COMPRESSED_PERCENT_MAX: usize = 90;

type Files = Vec<(String, Vec<u8>)>;

fn main() -> io::Result<()> {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    let mut shop = read(&web.join("assets"))?;
    println!("cargo::rerun-if-changed={}", web.join("index.html").display());
    shop.push(("index.html".to_owned(), fs::read(web.join("index.html"))?));
    let mut docs = read(&web.join("docs"))?;
    docs.extend(swagger_ui()?);
    let code = [
        site(&out, "SHOP", "assets", shop)?,
        site(&out, "DOCS", "docs", docs)?,
        format!("pub(crate) const API: &[File] = {};\n", list(&out, "api", &read(&web.join("api"))?)?),
    ];
    fs::write(out.join("files.rs"), code.concat())
}

/// The files of a folder.
fn read(folder: &Path) -> io::Result<Files> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files = Files::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.push((name, fs::read(&path)?));
    }
    files.sort();
    Ok(files)
}

/// What of Swagger UI is served.
fn swagger_ui() -> io::Result<Files> {
    let archive = utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
    let file = |(path, name): (&str, &str)| Ok((name.to_owned(), unzip(archive, path)?));
    SWAGGER_UI.into_iter().map(file).collect()
}

/// A file of a zip archive, by its name in the one folder that all is in. Of the format only what this one archive needs: no library is worth its build here.
fn unzip(archive: &[u8], path: &str) -> io::Result<Vec<u8>> {
    let broken = || io::Error::other(format!("{path} is not in the archive"));
    let bytes = |at: usize, len: usize| archive.get(at..at + len).ok_or_else(broken);
    let number = |at: usize, len: usize| -> io::Result<usize> {
        Ok(bytes(at, len)?.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    };
    let end = archive.windows(4).rposition(|window| window == b"PK\x05\x06").ok_or_else(broken)?;
    let mut entry = number(end + 16, 4)?;
    for _ in 0..number(end + 10, 2)? {
        let (size, name_len) = (number(entry + 20, 4)?, number(entry + 28, 2)?);
        let name = bytes(entry + 46, name_len)?;
        let within = name.split(|byte| *byte == b'/').skip(1).collect::<Vec<_>>().join(&b'/');
        if within == path.as_bytes() {
            let local = number(entry + 42, 4)?;
            let data = local + 30 + number(local + 26, 2)? + number(local + 28, 2)?;
            let content = bytes(data, size)?;
            if number(entry + 10, 2)? == STORED {
                return Ok(content.to_vec());
            }
            let mut inflated = Vec::new();
            DeflateDecoder::new(content).read_to_end(&mut inflated)?;
            return Ok(inflated);
        }
        entry += 46 + name_len + number(entry + 30, 2)? + number(entry + 32, 2)?;
    }
    Err(broken())
}

/// The constant of a page, `index.html` among `files`, and of what it loads from `folder`.
fn site(out: &Path, constant: &str, folder: &str, files: Files) -> io::Result<String> {
    let (page, assets): (Files, Files) = files.into_iter().partition(|(name, _)| name == "index.html");
    let page = page.into_iter().next().ok_or(io::ErrorKind::NotFound)?.1;
    // One version for all of them: modules import each other by relative paths, so a page never mixes two builds.
    let mut all = Sha256::new();
    for (name, content) in &assets {
        all.update(hash(name.as_bytes()));
        all.update(hash(content));
    }
    let version = hexadecimal(&all.finalize());
    let page = String::from_utf8(page).map_err(io::Error::other)?;
    let page = page.replace(&format!("/{folder}/{CURRENT}/"), &format!("/{folder}/{version}/"));
    let page = file(out, folder, "index.html", page.as_bytes())?;
    let assets = list(out, folder, &assets)?;
    Ok(format!(
        "pub(crate) const {constant}: Site = Site {{ version: {version:?}, page: {page}, assets: {assets} }};\n"
    ))
}

/// The Rust expression of several files.
fn list(out: &Path, folder: &str, files: &Files) -> io::Result<String> {
    let mut expression = "&[\n".to_owned();
    for (name, content) in files {
        expression += &file(out, folder, name, content)?;
        expression += ",\n";
    }
    Ok(expression + "]")
}

/// The Rust expression of a file, whose variants are written beside it.
fn file(out: &Path, folder: &str, name: &str, content: &[u8]) -> io::Result<String> {
    let plain = out.join(format!("{folder}-{name}"));
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
        let path = out.join(format!("{folder}-{name}.gz"));
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
        Some("json") => Ok("application/json"),
        Some("txt") => Ok("text/plain; charset=utf-8"),
        _ => Err(io::Error::other(format!("{name}: its content type is not known to build.rs"))),
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
