//! Programs of the application that stand in for other systems, kept running beside the private servers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::directory::{DataDir, closed_folder};
use super::process::{self, Program, Server, is_file};
use super::{Error, ports};

/// Starts tried when another process takes a chosen port at the same moment.
const STARTS_MAX: u32 = 3;

/// A program to run.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// Its name in messages, and of its files.
    pub name: String,
    /// Path of the service's program.
    pub command: PathBuf,
    /// What it is given, as the manifest's `arguments` have it.
    pub arguments: Vec<String>,
    /// Part of the line that it prints when it listens.
    pub ready: String,
    /// The port where it is free.
    pub port: u16,
    /// File of the secret, where it has one.
    pub secret_file: Option<PathBuf>,
    /// Where fnhost serves HTTP, `host:port`.
    pub http: String,
    /// The variable that names the address of another one, for people.
    pub url_variable: String,
}

/// The file that keeps the port of a service of this name.
pub(super) fn port_file(run: &Path, name: &str) -> PathBuf {
    run.join(format!("{name}.port"))
}

/// Whether it can be run.
pub(super) fn check(options: &ServiceOptions) -> Result<(), Error> {
    if is_file(&options.command) {
        return Ok(());
    }
    let (name, variable) = (&options.name, &options.url_variable);
    Err(Error::Unsuitable {
        what: format!(
            "the service {name} has no program at {}: build it with `./dev build`, or say where another one is with \
             SPIN_VARIABLE_{}=http://HOST:PORT or --variable {variable}=http://HOST:PORT",
            options.command.display(),
            variable.to_ascii_uppercase(),
        ),
    })
}

/// Starts it and waits until it listens.
pub(super) async fn start(
    directory: &DataDir,
    options: &ServiceOptions,
    deadline: Duration,
) -> Result<Server, Error> {
    let folder = directory.path().join("services").join(&options.name);
    closed_folder(&folder)?;
    let port_file = port_file(&directory.run(), &options.name);
    // Messages and metrics name it for as long as the process lives, and there are as many as the manifest has.
    let name: &'static str = Box::leak(options.name.clone().into_boxed_str());
    let ready_line: &'static str = Box::leak(options.ready.clone().into_boxed_str());
    let mut starts = 0;
    loop {
        let probe = service(directory, options, name, ready_line, &folder, "");
        // Before a port is chosen: what was left behind holds it.
        probe.stop_leftover().await?;
        let address = format!("127.0.0.1:{}", ports::choose(&port_file, options.port)?);
        starts += 1;
        let service = service(directory, options, name, ready_line, &folder, &address);
        match Server::start(service, address, deadline).await {
            Err(Error::Ended { address_in_use: true, .. }) if starts < STARTS_MAX => {
                ports::replace(&port_file)?
            }
            result => return result,
        }
    }
}

fn service(
    directory: &DataDir,
    options: &ServiceOptions,
    name: &'static str,
    ready_line: &'static str,
    folder: &Path,
    address: &str,
) -> process::Service {
    let secret_file = options.secret_file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
    let fill = |argument: &String| {
        argument
            .replace("{address}", address)
            .replace("{folder}", &folder.display().to_string())
            .replace("{secret_file}", &secret_file)
            .replace("{http}", &options.http)
    };
    let arguments: Vec<String> = options.arguments.iter().map(fill).collect();
    // One of its own folder tells it from the same program of another data directory.
    let own = arguments.iter().find(|argument| Path::new(argument).starts_with(folder));
    let argument = own.map_or_else(|| options.command.clone(), PathBuf::from);
    process::Service {
        program: Program {
            name,
            path: options.command.clone(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            account: None,
            folder: folder.to_owned(),
            log: directory.logs().join(format!("{name}.log")),
            stop: Signal::TERM,
        },
        ready_line,
        pid_file: directory.run().join(format!("{name}.pid")),
        writes_pid_file: false,
        argument,
    }
}
