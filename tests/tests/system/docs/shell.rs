//! The commands of a shell script, cut into words as far as documents need it.

use std::iter::Peekable;
use std::str::Chars;

/// What a variable or another command puts in a word.
const UNKNOWN: &str = "VALUE";

/// The commands of a script in their order, those of `$(…)` included: each is its words, without redirections and
/// assignments.
pub fn commands(script: &str) -> Vec<Vec<String>> {
    let joined = script.replace("\\\n", " ");
    let mut reader = Reader { rest: joined.chars().peekable(), commands: Vec::new() };
    reader.read(None);
    reader.commands
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    commands: Vec<Vec<String>>,
}

/// A command under way.
#[derive(Default)]
struct Command {
    words: Vec<String>,
    word: Option<String>,
    /// The next word is the file of a redirection.
    redirected: bool,
}

impl Command {
    fn push(&mut self, text: &str) {
        self.word.get_or_insert_default().push_str(text);
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        let name = word.split('=').next().unwrap_or_default();
        let variable = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let assigns = word.contains('=') && !name.is_empty() && name.chars().all(variable);
        let assignment = assigns && self.words.is_empty();
        if !std::mem::take(&mut self.redirected) && !assignment {
            self.words.push(word);
        }
    }
}

impl Reader<'_> {
    /// Reads commands up to `end`, or to the end of the script.
    fn read(&mut self, end: Option<char>) {
        let mut command = Command::default();
        while let Some(c) = self.rest.next() {
            match c {
                _ if Some(c) == end => break,
                '#' if command.word.is_none() => while self.rest.next_if(|c| *c != '\n').is_some() {},
                '\n' | ';' | '&' | '|' | '(' | ')' => self.end(&mut command),
                ' ' | '\t' => command.end_word(),
                '<' | '>' => {
                    if command.word.as_ref().is_some_and(|word| word.chars().all(|c| c.is_ascii_digit())) {
                        command.word = None;
                    }
                    command.end_word();
                    command.redirected = true;
                }
                '\'' => {
                    command.push("");
                    while let Some(c) = self.rest.next_if(|c| *c != '\'') {
                        command.push(&c.to_string());
                    }
                    self.rest.next();
                }
                '"' => self.quoted(&mut command),
                '\\' => command.push(&self.rest.next().map(String::from).unwrap_or_default()),
                '$' => self.value(&mut command),
                _ => command.push(&c.to_string()),
            }
        }
        self.end(&mut command);
    }

    fn quoted(&mut self, command: &mut Command) {
        command.push("");
        while let Some(c) = self.rest.next() {
            match c {
                '"' => return,
                '\\' => command.push(&self.rest.next().map(String::from).unwrap_or_default()),
                '$' => self.value(command),
                _ => command.push(&c.to_string()),
            }
        }
    }

    /// What stands behind `$`.
    fn value(&mut self, command: &mut Command) {
        command.push(UNKNOWN);
        if self.rest.next_if_eq(&'(').is_some() {
            self.read(Some(')'));
        } else if self.rest.next_if_eq(&'{').is_some() {
            while self.rest.next().is_some_and(|c| c != '}') {}
        } else {
            while self.rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_').is_some() {}
        }
    }

    fn end(&mut self, command: &mut Command) {
        command.end_word();
        let command = std::mem::take(command);
        if !command.words.is_empty() {
            self.commands.push(command.words);
        }
    }
}

#[test]
fn commands_are_told_apart() {
    for (script, expected) in [
        ("fnhost up # starts\nls", &[&["fnhost", "up"][..], &["ls"]][..]),
        ("A=1 B=$(cat x) fnhost up", &[&["cat", "x"], &["fnhost", "up"]]),
        (
            "eval \"$(a/fnhost env --f 'x y')\" && spin up",
            &[&["a/fnhost", "env", "--f", "x y"], &["eval", "VALUE"], &["spin", "up"]],
        ),
        ("fnhost up 2> log.json | jq '.a | .b' <in", &[&["fnhost", "up"], &["jq", ".a | .b"]]),
        ("curl a \\\n  -d '{}' \"b;$C\"; echo", &[&["curl", "a", "-d", "{}", "b;VALUE"], &["echo"]]),
    ] {
        assert_eq!(commands(script), expected, "{script}");
    }
}
