//! What commands say while they take long: on stderr alone, and on a terminal in one line that is gone at the end.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;

const ANSWER: &str = r#"{"behind":[],"component":"f","digest":"00","version":2}"#;

/// An admin address that answers one request, once it is told to.
fn slow_admin() -> (String, mpsc::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let (answer, told) = mpsc::channel();
    thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a request");
        let mut request = BufReader::new(stream);
        let mut line = String::new();
        while request.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
            line.clear();
        }
        // Also where the test has failed meanwhile.
        let _ = told.recv();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", ANSWER.len());
        request.get_mut().write_all(format!("{head}{ANSWER}").as_bytes()).expect("answered");
    });
    (address, answer)
}

/// Runs a command whose `watched` output is read until it has `part`; the answer comes then.
fn run(mut command: Command, answer: &mpsc::Sender<()>, on_stdout: bool, part: &str) -> (String, Output) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    let mut watched: Box<dyn std::io::Read> = if on_stdout {
        Box::new(child.stdout.take().expect("stdout"))
    } else {
        Box::new(child.stderr.take().expect("stderr"))
    };
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !String::from_utf8_lossy(&said).contains(part) {
        assert_eq!(watched.read(&mut byte).expect("output"), 1, "{}", String::from_utf8_lossy(&said));
        said.push(byte[0]);
    }
    answer.send(()).expect("it waits");
    watched.read_to_end(&mut said).expect("output");
    (String::from_utf8_lossy(&said).into_owned(), child.wait_with_output().expect("it ends"))
}

#[test]
fn what_takes_long_is_said_beside_the_data() {
    let (address, answer) = slow_admin();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fnhost"));
    command.args(["rollback", "f", "--output", "json", "--admin", &address]);
    let (said, output) = run(command, &answer, false, "still f: waiting");
    assert!(output.status.success(), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), ANSWER);
    assert!(!said.contains('\r') && !said.contains('\x1b'), "{said:?}");
}

#[test]
fn a_terminal_has_one_line_that_is_gone_at_the_end() {
    if Command::new("script").arg("--version").output().is_err() {
        println!("SKIPPED: `script` (util-linux) is not on PATH");
        return;
    }
    let (address, answer) = slow_admin();
    // `script` (util-linux) gives it a terminal, and its output is what is on that.
    let mut command = Command::new("script");
    let program = env!("CARGO_BIN_EXE_fnhost");
    command.args(["-qec", &format!("'{program}' rollback f --admin {address}"), "/dev/null"]);
    let (said, output) = run(command, &answer, true, "every host has rolled back: 1 s");
    assert!(output.status.success(), "{said}");
    let last = said.rsplit("\x1b[K").next().expect("an end");
    assert_eq!(last.trim(), "f: version 2 was rolled back, 00 runs", "{said:?}");
}
