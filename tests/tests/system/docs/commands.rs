//! Command lines of documents are those of the real programs.

use super::checkout::{blocks, documents, refuse, root, sources};
use super::shell::commands;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tests::system::program;

/// Commands that a document names because they are not there.
const ABSENT: [&str; 1] = ["fnhost keys"];
/// Exit code of a command line that the program does not take.
const USAGE_ERROR: i32 = 2;
/// Words by which a text names any argument; the rest of a command line is held against the program without them.
const ANYTHING: [&str; 4] = ["FLAGS", "ARGS", "SHELL", "…"];

/// The commands of `./dev`, as its help names them.
fn dev_commands() -> BTreeSet<String> {
    let output = Command::new("bash").arg("dev").arg("help").current_dir(root()).output().expect("bash");
    let help = String::from_utf8(output.stdout).expect("text");
    let named = |line: &str| {
        let name = line.strip_prefix("  ")?.split(' ').next()?;
        name.starts_with(|c: char| c.is_ascii_lowercase()).then(|| name.to_owned())
    };
    let names: BTreeSet<String> = help.lines().filter_map(named).chain(["help".to_owned()]).collect();
    assert!(names.contains("up") && names.contains("test"), "{help}");
    names
}

/// What is wrong with a command line, if anything.
fn fault(words: &[String], dev: &BTreeSet<String>) -> Option<String> {
    let words: Vec<&str> = words.iter().map(String::as_str).filter(|word| !ANYTHING.contains(word)).collect();
    let (program, arguments) = words.split_first()?;
    match Path::new(program).file_name()?.to_str()? {
        "dev" => {
            let name = arguments.first()?;
            if !dev.contains(*name) {
                return Some(format!("./dev has no command {name}"));
            }
            (*name == "up").then(|| fnhost_fault(arguments))?
        }
        "fnhost" => fnhost_fault(arguments),
        "cargo" => cargo_fault(arguments),
        _ => None,
    }
}

/// Runs fnhost where it finds no manifest and no running host, so that it only reads its arguments.
fn fnhost(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(program().expect("fnhost is built"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FNHOST_")) {
        command.env_remove(name);
    }
    command.env("FNHOST_MANIFEST", "/nowhere/spin.toml").env("FNHOST_ADMIN", "127.0.0.1:1");
    command.output().expect("fnhost runs")
}

/// An empty folder, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("fnhost-docs-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&path).expect("a temporary folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn fnhost_fault(arguments: &[&str]) -> Option<String> {
    if arguments.contains(&"COMMAND") {
        return None;
    }
    let folder = Folder::new();
    // A command that is only named may need arguments.
    let named = if let [name] = arguments { vec![*name, "--help"] } else { arguments.to_vec() };
    let output = fnhost(&named, &folder.0);
    let refused = output.status.code() == Some(USAGE_ERROR);
    refused.then(|| format!("fnhost {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)))
}

/// Packages and test programs that `cargo` is told exist.
fn cargo_fault(arguments: &[&str]) -> Option<String> {
    let after = |flag: &str| arguments.windows(2).find(|two| two[0] == flag).map(|two| two[1]);
    let package = after("-p")?;
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let Some(found) = packages.iter().find(|found| found["name"] == package) else {
        return Some(format!("there is no package {package}"));
    };
    let test = after("--test")?;
    let known = found["targets"].as_array().expect("targets").iter().any(|target| target["name"] == test);
    (!known).then(|| format!("{package} has no test {test}"))
}

#[test]
fn scripts_parse_and_their_commands_exist() {
    let dev = dev_commands();
    let mut faults = Vec::new();
    let mut checked = 0;
    for block in blocks("sh") {
        let output = Command::new("bash").args(["-n", "-c", &block.text]).output().expect("bash");
        if !output.status.success() {
            faults.push(format!("{}: {}", block.place, String::from_utf8_lossy(&output.stderr)));
        }
        let commands = commands(&block.text);
        checked += commands.len();
        faults.extend(
            commands.iter().filter_map(|words| fault(words, &dev)).map(|f| format!("{}: {f}", block.place)),
        );
    }
    assert!(checked > 50, "only {checked} commands were found");
    refuse("commands in blocks of the documents", &faults);
}

#[test]
fn commands_named_in_a_sentence_exist() {
    let dev = dev_commands();
    let mut faults = Vec::new();
    let mut checked = 0;
    for document in documents() {
        let starts = |span: &String| ["fnhost ", "./dev ", "cargo test"].iter().any(|s| span.starts_with(s));
        let spans = document.spans().into_iter().filter(|(_, span)| starts(span));
        for (number, span) in spans.filter(|(_, span)| !ABSENT.contains(&span.as_str())) {
            checked += 1;
            let found = commands(&span).into_iter().filter_map(|words| fault(&words, &dev));
            faults.extend(found.map(|fault| format!("{}:{number}: {fault}", document.name)));
        }
    }
    assert!(checked > 50, "only {checked} commands were found");
    refuse("commands in sentences of the documents", &faults);
}

#[test]
fn flags_named_in_a_sentence_exist() {
    let folder = Folder::new();
    let help = |arguments: &[&str]| String::from_utf8(fnhost(arguments, &folder.0).stdout).expect("text");
    let main = help(&["--help"]);
    let names = main.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let pages: Vec<String> =
        names.filter(|name| !name.is_empty()).map(|name| help(&[name, "--help"])).collect();
    let flag = |word: &str| word.trim_end_matches([',', '.', ']', ')', ':', ';']).to_owned();
    let words = pages.iter().chain([&main]).flat_map(|page| page.split_whitespace());
    let known: BTreeSet<String> = words.filter(|word| word.starts_with("--")).map(flag).collect();
    assert!(known.contains("--drain-timeout"), "{known:?}");
    let sources = sources();
    let mut faults = Vec::new();
    for document in documents() {
        for (number, span) in document.spans().into_iter().filter(|(_, span)| span.starts_with("--")) {
            let flag = span.split([' ', '=']).next().unwrap_or_default();
            let elsewhere = || sources.iter().any(|(_, text)| text.contains(flag));
            if !known.contains(flag) && !elsewhere() {
                faults.push(format!("{}:{number}: {flag}", document.name));
            }
        }
    }
    refuse("flags that no program has", &faults);
}
