//! `[component.ID] files`: what a component sees of the file system, read-only, at `/`.
//!
//! As under Spin the files are copied when the component is loaded, so that what a call reads does not change under it:
//! a folder named by its content holds them, and every version of a component that is loaded has its own.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// What a component's manifest says of its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// The manifest's folder, which everything has to be in.
    pub root: PathBuf,
    /// What is given to the component.
    pub mounts: Vec<Mount>,
    /// Patterns of paths, relative to the root, of what is left out.
    pub exclude: Vec<String>,
}

/// One entry of `files`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// A file, a folder with everything below, or a pattern: at the same path for the component.
    Pattern(String),
    /// A file or a folder at another path.
    Placement {
        /// Where it is, relative to the root.
        source: String,
        /// Where the component sees it.
        destination: String,
    },
}

/// Why files cannot be given to a component. `Display` says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A pattern is none.
    #[error("\"{pattern}\" is not a valid pattern: {reason}")]
    Pattern {
        /// As it stands in the manifest.
        pattern: String,
        /// Why the pattern is refused.
        reason: String,
    },
    /// No file or folder has this path.
    #[error("\"{0}\" does not exist; correct files or create it")]
    Missing(String),
    /// It reaches out of the application.
    #[error("\"{0}\" is outside the manifest's folder; move it inside")]
    Outside(String),
    /// A file cannot be read or copied.
    #[error("{}", path.display())]
    Io {
        /// Path of the file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Files by the path that the component sees, without the leading `/`.
type Listing = BTreeMap<PathBuf, PathBuf>;

impl Files {
    /// Copies the files to a folder in `into` that is named by their content, and answers it; nothing where the manifest
    /// names no files.
    ///
    /// # Errors
    /// Something is not there, not inside the application or cannot be copied.
    pub fn stage(&self, into: &Path) -> Result<Option<PathBuf>, Error> {
        if self.mounts.is_empty() {
            return Ok(None);
        }
        let listing = self.list()?;
        let mut hash = Sha256::new();
        let mut contents = Vec::with_capacity(listing.len());
        for (guest, source) in &listing {
            let content = fs::read(source).map_err(at(source))?;
            let name = guest.as_os_str().as_encoded_bytes();
            for part in [name, &content] {
                // With its length, so that no two listings are the same bytes.
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part);
            }
            contents.push((guest, content));
        }
        let name: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let folder = into.join(&name);
        if folder.is_dir() {
            return Ok(Some(folder));
        }
        // Under another name first: a folder under its own name is complete.
        let part = into.join(format!("{name}.{}.part", std::process::id()));
        fs::create_dir_all(&part).map_err(at(&part))?;
        for (guest, content) in contents {
            let path = part.join(guest);
            let parent = path.parent().unwrap_or(&part);
            fs::create_dir_all(parent).and_then(|()| fs::write(&path, content)).map_err(at(&path))?;
        }
        match fs::rename(&part, &folder) {
            // Another load was faster.
            Err(_) if folder.is_dir() => fs::remove_dir_all(&part).map_err(at(&part))?,
            renamed => renamed.map_err(at(&folder))?,
        }
        Ok(Some(folder))
    }

    fn list(&self) -> Result<Listing, Error> {
        let exclude: Vec<glob::Pattern> =
            self.exclude.iter().map(|text| pattern(text)).collect::<Result<_, _>>()?;
        let mut listing = Listing::new();
        for mount in &self.mounts {
            match mount {
                Mount::Pattern(text) => {
                    let path = self.inside(text)?;
                    if path.is_dir() {
                        self.list_folder(&path, Path::new(text), &exclude, &mut listing)?;
                    } else if path.is_file() {
                        listing.insert(guest(text), path);
                    } else if glob::Pattern::escape(text) == *text {
                        return Err(Error::Missing(text.clone()));
                    } else {
                        self.list_pattern(text, &exclude, &mut listing)?;
                    }
                }
                Mount::Placement { source, destination } => {
                    let path = self.inside(source)?;
                    if path.is_dir() {
                        self.list_folder(&path, Path::new(destination), &exclude, &mut listing)?;
                    } else if path.is_file() {
                        listing.insert(guest(destination), path);
                    } else {
                        return Err(Error::Missing(source.clone()));
                    }
                }
            }
        }
        Ok(listing)
    }

    /// A path of the manifest, which stays inside of the root.
    fn inside(&self, text: &str) -> Result<PathBuf, Error> {
        let escapes = |part| !matches!(part, Component::Normal(_) | Component::CurDir);
        if text.is_empty() || Path::new(text).components().any(escapes) {
            return Err(Error::Outside(text.to_owned()));
        }
        Ok(self.root.join(text))
    }

    fn list_folder(
        &self,
        folder: &Path,
        destination: &Path,
        exclude: &[glob::Pattern],
        listing: &mut Listing,
    ) -> Result<(), Error> {
        for path in self.found(&folder.join("**/*"), exclude)? {
            let below = path.strip_prefix(folder).unwrap_or(&path);
            listing.insert(guest(destination.join(below)), path.clone());
        }
        Ok(())
    }

    fn list_pattern(
        &self,
        text: &str,
        exclude: &[glob::Pattern],
        listing: &mut Listing,
    ) -> Result<(), Error> {
        for path in self.found(&self.root.join(text), exclude)? {
            let below = path.strip_prefix(&self.root).unwrap_or(&path);
            listing.insert(guest(below), path.clone());
        }
        Ok(())
    }

    /// Files that match, but for those that are left out.
    fn found(&self, wanted: &Path, exclude: &[glob::Pattern]) -> Result<Vec<PathBuf>, Error> {
        let text = wanted.to_string_lossy();
        let paths = glob::glob(&text).map_err(|error| Error::Pattern {
            pattern: text.clone().into_owned(),
            reason: error.to_string(),
        })?;
        let mut found = Vec::new();
        for path in paths {
            let path =
                path.map_err(|error| Error::Io { path: error.path().to_owned(), source: error.into() })?;
            let below = path.strip_prefix(&self.root).unwrap_or(&path);
            if path.is_file() && !exclude.iter().any(|pattern| pattern.matches_path(below)) {
                found.push(path);
            }
        }
        Ok(found)
    }
}

/// Checks a pattern.
///
/// # Errors
/// It is none.
pub fn pattern(text: &str) -> Result<glob::Pattern, Error> {
    glob::Pattern::new(text)
        .map_err(|error| Error::Pattern { pattern: text.to_owned(), reason: error.to_string() })
}

/// A path below `/` that stays there.
fn guest(path: impl AsRef<Path>) -> PathBuf {
    path.as_ref().components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    move |source| Error::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("fnhost-files-{name}-{}", std::process::id()));
            for file in ["a.txt", "site/index.html", "site/css/x.css", "site/draft.md", "data/one.json"] {
                let path = folder.join("app").join(file);
                fs::create_dir_all(path.parent().expect("a folder")).expect("made");
                fs::write(path, file).expect("written");
            }
            Self(folder)
        }

        fn files(&self, mounts: &[Mount], exclude: &[&str]) -> Files {
            let exclude = exclude.iter().map(|text| (*text).to_owned()).collect();
            Files { root: self.0.join("app"), mounts: mounts.to_vec(), exclude }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn mount(text: &str) -> Mount {
        match text.split_once(" -> ") {
            None => Mount::Pattern(text.to_owned()),
            Some((source, destination)) => {
                Mount::Placement { source: source.to_owned(), destination: destination.to_owned() }
            }
        }
    }

    #[test]
    fn what_the_component_sees() {
        let folder = Folder::new("seen");
        let cases: [(&str, &[&str], &str); 8] = [
            ("a.txt", &[], "a.txt"),
            ("site", &[], "site/css/x.css site/draft.md site/index.html"),
            ("site/*", &[], "site/draft.md site/index.html"),
            ("**/*.json", &[], "data/one.json"),
            ("site -> /", &["**/*.md"], "css/x.css index.html"),
            ("site -> /static", &["site/css/*"], "static/draft.md static/index.html"),
            ("a.txt -> /etc/motd", &[], "etc/motd"),
            ("*.nothing", &[], ""),
        ];
        for (text, exclude, expected) in cases {
            let listing = folder.files(&[mount(text)], exclude).list().expect(text);
            let seen: Vec<_> = listing.keys().map(|path| path.to_string_lossy()).collect();
            assert_eq!(seen.join(" "), expected, "{text}");
        }
    }

    #[test]
    fn what_is_missing_or_outside_is_refused() {
        let folder = Folder::new("refused");
        for (text, part) in [
            ("b.txt", "\"b.txt\" does not exist"),
            ("b -> /", "\"b\" does not exist"),
            ("../secret", "outside the manifest's folder"),
            ("/etc/passwd -> /passwd", "outside the manifest's folder"),
        ] {
            let error = folder.files(&[mount(text)], &[]).list().expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(folder.files(&[mount("a.txt")], &["[x"]).list().is_err());
    }

    #[test]
    fn a_copy_is_named_by_its_content() {
        let folder = Folder::new("staged");
        let files = folder.files(&[mount("site -> /")], &[]);
        let into = folder.0.join("staged");
        let first = files.stage(&into).expect("staged").expect("a folder");
        assert_eq!(fs::read_to_string(first.join("css/x.css")).expect("a copy"), "site/css/x.css");
        assert_eq!(files.stage(&into).expect("staged").as_ref(), Some(&first), "the same once more");
        fs::write(folder.0.join("app/site/index.html"), "new").expect("written");
        let second = files.stage(&into).expect("staged").expect("a folder");
        assert_ne!(first, second);
        assert_eq!(fs::read_to_string(first.join("index.html")).expect("a copy"), "site/index.html");
        assert_eq!(Files::default().stage(&into).expect("nothing to do"), None);
    }
}
