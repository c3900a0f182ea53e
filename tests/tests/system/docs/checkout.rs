//! The checkout: its documents, cut into blocks and text, and all other sources.

use std::path::{Path, PathBuf};

/// Folders that hold what is built or fetched, and nothing that is written by hand.
const FOLDERS_BUILT: [&str; 2] = ["target", "node_modules"];
/// Sources in which a name that a document uses may stand.
const SOURCES: [&str; 14] =
    ["rs", "toml", "sql", "wit", "py", "js", "mjs", "yml", "json", "sh", "xml", "html", "properties", "css"];

/// The folder of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

/// A Markdown file.
pub struct Document {
    /// Its path in the checkout.
    pub name: String,
    /// Content of the file.
    pub text: String,
}

/// A fenced block of a document.
pub struct Block {
    /// The document's path and the block's first line, counted from 1: `README.md:16`.
    pub place: String,
    /// Path of the document in the checkout.
    pub document: String,
    /// What stands behind the fence.
    pub language: String,
    /// The lines between the fences, without the fence's indentation.
    pub text: String,
}

impl Block {
    /// Its first line, by which exceptions name it.
    pub fn first_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }
}

/// All documents of the checkout.
pub fn documents() -> Vec<Document> {
    let documents: Vec<Document> =
        files(&["md"]).into_iter().map(|(name, text)| Document { name, text }).collect();
    assert!(documents.len() > 30, "only {} documents", documents.len());
    documents
}

/// All blocks of the documents in this language.
pub fn blocks(language: &str) -> Vec<Block> {
    let blocks: Vec<Block> = all_blocks().into_iter().filter(|block| block.language == language).collect();
    assert!(!blocks.is_empty(), "no document has a block of {language}");
    blocks
}

/// All blocks of the documents.
pub fn all_blocks() -> Vec<Block> {
    documents().iter().flat_map(Document::blocks).collect()
}

/// Every hand-written file but the documents: path and text.
pub fn sources() -> Vec<(String, String)> {
    let mut sources = files(&SOURCES);
    for name in ["dev", "Dockerfile"] {
        sources.push((name.to_owned(), std::fs::read_to_string(root().join(name)).expect(name)));
    }
    sources
}

/// Refuses a list of faults.
pub fn refuse(rule: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}

fn files(extensions: &[&str]) -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the checkout") {
            let entry = entry.expect("an entry");
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if entry.file_type().expect("a type").is_dir() {
                if !name.starts_with('.') && !FOLDERS_BUILT.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| extensions.iter().any(|wanted| e == *wanted)) {
                let name =
                    path.strip_prefix(&root).expect("below the checkout").to_string_lossy().into_owned();
                found.push((name, std::fs::read_to_string(&path).expect("a text")));
            }
        }
    }
    found.sort();
    found
}

impl Document {
    /// Fenced blocks of the document, in order.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<(usize, Block)> = None;
        for (number, line) in (1..).zip(self.text.lines()) {
            let bare = line.trim_start();
            match (&mut open, bare.strip_prefix("```")) {
                (None, Some(language)) => {
                    let place = format!("{}:{number}", self.name);
                    let (document, language) = (self.name.clone(), language.trim().to_owned());
                    let block = Block { place, document, language, text: String::new() };
                    open = Some((line.len() - bare.len(), block));
                }
                (Some(_), Some(_)) => blocks.extend(open.take().map(|(_, block)| block)),
                (Some((indent, block)), None) => {
                    block.text.push_str(line.get(*indent..).unwrap_or_default());
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block is not closed", self.name);
        blocks
    }

    /// Its lines outside of blocks, with their numbers.
    pub fn prose(&self) -> Vec<(usize, &str)> {
        let mut inside = false;
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(self.text.lines()) {
            if line.trim_start().starts_with("```") {
                inside = !inside;
            } else if !inside {
                lines.push((number, line));
            }
        }
        lines
    }

    /// What stands between single backticks in its prose, with the number of its line. A table's `\|` is given as `|`.
    pub fn spans(&self) -> Vec<(usize, String)> {
        let mut spans = Vec::new();
        for (number, line) in self.prose() {
            let parts: Vec<&str> = line.split('`').collect();
            assert!(parts.len() % 2 == 1, "{}:{number}: a backtick is alone on its line", self.name);
            spans.extend(parts.iter().skip(1).step_by(2).map(|span| (number, span.replace("\\|", "|"))));
        }
        spans
    }
}
