//! A private Postgres and a private Apache Kafka in one data directory, for runs that are given no addresses.
//!
//! [`start`] runs the servers it finds installed and nothing else: installing them is the work of `./dev setup`.
//! One thread of its own supervises both. That thread is also what the kernel watches: a server is told to stop
//! (`PR_SET_PDEATHSIG`) when the thread that started it ends, so a killed fnhost takes its servers along, and it is
//! why no server is ever started from a pool thread. Whatever outlives its parent all the same is found by its pid file
//! at the next start and stopped first. Linux only.
//!
//! ```text
//! <data-dir>/lock            held while an fnhost runs here, contains its pid
//! <data-dir>/run/            ports in use, kept from run to run; Kafka's pid; the admin address
//! <data-dir>/secrets/        generated passwords, and kafka.conf for clients of Kafka, mode 0600
//! <data-dir>/logs/           output of both servers
//! <data-dir>/postgres/       cluster; a link to /var/lib/fnhost/* where its account cannot reach the data directory
//! <data-dir>/services/       a folder for each program that stands in for another system
//! <data-dir>/kafka/          server.properties, log directory, class archive; a link as above
//! ```

mod account;
mod announced;
mod directory;
mod error;
mod jars;
mod java;
mod kafka;
mod leftover;
mod log;
mod ports;
mod postgres;
mod process;
mod service;

pub use announced::{admin_token, announce_admin, find_admin_token};
pub use directory::{Attached, attach, secret, secret_file};
pub use error::Error;
pub use kafka::PrivateKafka;
pub use service::ServiceOptions;

use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use directory::DataDir;
use process::Server;
use tokio::sync::{mpsc, oneshot, watch};

/// Time a server has to become ready before the start is given up.
pub const START_DEADLINE: Duration = Duration::from_secs(60);
/// Time a server has to stop in an orderly way before it is killed.
pub const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// Which servers to run, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder that holds everything the servers keep; created where missing.
    pub data_dir: PathBuf,
    /// Run a private Postgres.
    pub postgres: bool,
    /// Run a private Kafka.
    pub kafka: bool,
    /// Run these programs beside them.
    pub services: Vec<ServiceOptions>,
    /// Time each server has to become ready.
    pub start_deadline: Duration,
    /// Time each server has to stop before it is killed.
    pub stop_deadline: Duration,
}

impl Options {
    /// Both servers in `data_dir`, with the default deadlines.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            postgres: true,
            kafka: true,
            services: Vec::new(),
            start_deadline: START_DEADLINE,
            stop_deadline: STOP_DEADLINE,
        }
    }
}

/// Where the programs of a private Postgres are, for people.
///
/// # Errors
/// They are missing or do not fit the cluster of the data directory; the message names the cure.
pub fn find_postgres(data_dir: &std::path::Path) -> Result<String, Error> {
    Ok(postgres::Installation::find(data_dir)?.to_string())
}

/// The installed Java and the folder of Kafka's jars, for a Kafka that is run in another way than [`start`] does.
///
/// # Errors
/// One of them is missing; the message names the cure.
pub fn find_kafka() -> Result<(PathBuf, PathBuf), Error> {
    kafka::Installation::find().map(kafka::Installation::into_parts)
}

/// The running servers. Dropping this stops them too, but only [`Servers::stop`] waits for their end.
#[derive(Debug)]
pub struct Servers {
    /// Kafka, and how to log in there.
    pub kafka: Option<PrivateKafka>,
    /// URL of the database `fnhost` as its superuser, password included.
    pub database_url: Option<String>,
    /// Folder of that database's Unix socket, where its path is short enough for one.
    pub database_socket: Option<PathBuf>,
    /// Addresses of the services by their names, `host:port`.
    pub services: BTreeMap<String, String>,
    stop: watch::Sender<bool>,
    lost: mpsc::Receiver<Error>,
    ended: oneshot::Receiver<()>,
}

impl Servers {
    /// Waits until a server that died cannot be brought back, and says why. Servers that die once are restarted
    /// without this returning. Cancel safe.
    pub async fn watch(&mut self) -> Error {
        match self.lost.recv().await {
            Some(error) => error,
            // The supervisor ends early only by a panic, which its thread has reported.
            None => Error::SupervisorEnded,
        }
    }

    /// Stops both servers in an orderly way, kills what has not stopped at the deadline, and returns when they are gone.
    pub async fn stop(self) {
        // Both channels are closed only when the supervisor is gone, and the servers with it.
        let _ = self.stop.send(true);
        let _ = self.ended.await;
    }
}

/// Starts the servers and waits until they answer.
///
/// Cancelling this stops whatever was started so far.
///
/// # Errors
/// Another fnhost runs on the directory, a part is not installed (the message names the cure), or a server does not
/// come up (the message quotes its last lines).
pub fn start(options: Options) -> BoxFuture<'static, Result<Servers, Error>> {
    // Boxed, so that it is compiled here and not in the crate that awaits it.
    Box::pin(async move {
        let (ready, is_ready) = oneshot::channel();
        let (stop, stopped) = watch::channel(false);
        let (lost, is_lost) = mpsc::channel(1);
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::io("create the supervisor's runtime"))?;
        std::thread::Builder::new()
            .name("embedded".to_owned())
            .spawn(move || {
                runtime.block_on(supervise(options, ready, stopped, lost));
                // Said last: when this arrives the lock is free and both servers are gone.
                let _ = end.send(());
            })
            .map_err(Error::io("start the supervisor's thread"))?;
        let addresses = is_ready.await.map_err(|_| Error::SupervisorEnded)??;
        let Addresses { kafka, database_url, database_socket, services } = addresses;
        Ok(Servers { kafka, database_url, database_socket, services, stop, lost: is_lost, ended })
    })
}

#[derive(Debug)]
struct Addresses {
    kafka: Option<PrivateKafka>,
    database_url: Option<String>,
    database_socket: Option<PathBuf>,
    services: BTreeMap<String, String>,
}

/// The supervisor: starts both servers, keeps them running, and stops them when told or when nobody listens any more.
async fn supervise(
    options: Options,
    mut ready: oneshot::Sender<Result<Addresses, Error>>,
    stop: watch::Receiver<bool>,
    lost: mpsc::Sender<Error>,
) {
    // The lock lives in `directory`, and so as long as this function.
    let started = tokio::select! {
        started = launch(&options) => started,
        // The caller gave up. The thread ends with this function, and the kernel stops what was started.
        () = ready.closed() => return,
    };
    let Launched { directory, postgres, database_socket, kafka, services } = match started {
        Ok(started) => started,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let addresses = Addresses {
        kafka: kafka.as_ref().map(|server| PrivateKafka::new(server.address.clone(), directory.path())),
        database_url: postgres.as_ref().map(|server| server.address.clone()),
        database_socket,
        services: services.iter().map(|(name, server)| (name.clone(), server.address.clone())).collect(),
    };
    // Where nobody listens any more, `stop` is closed as well and both loops end at once.
    let _ = ready.send(Ok(addresses));
    let keep = async |server: Option<Server>| {
        if let Some(server) = server {
            server.keep(options.start_deadline, options.stop_deadline, stop.clone(), lost.clone()).await;
        }
    };
    // With no server to keep, the lock is still kept until the stop.
    let mut told = stop.clone();
    let until_told = async { drop(told.wait_for(|told| *told).await) };
    let services = futures::future::join_all(services.into_iter().map(|(_, server)| keep(Some(server))));
    tokio::join!(keep(postgres), keep(kafka), services, until_told);
}

/// What runs on a directory.
struct Launched {
    directory: DataDir,
    postgres: Option<Server>,
    database_socket: Option<PathBuf>,
    kafka: Option<Server>,
    services: Vec<(String, Server)>,
}

/// Takes the directory and brings up both servers at the same time.
async fn launch(options: &Options) -> Result<Launched, Error> {
    let directory = DataDir::open(&options.data_dir)?;
    options.services.iter().try_for_each(service::check)?;
    // Both are looked for before either is started, so that one message names everything that is missing.
    let postgres = options.postgres.then(|| postgres::Installation::find(directory.path()));
    let kafka = options.kafka.then(kafka::Installation::find);
    let (postgres, kafka) = match (postgres.transpose(), kafka.transpose()) {
        (Err(postgres), Err(kafka)) => return Err(Error::several(postgres, kafka)),
        (postgres, kafka) => (postgres?, kafka?),
    };
    let postgres = async {
        match postgres {
            Some(found) => postgres::start(&directory, found, options.start_deadline).await.map(Some),
            None => Ok(None),
        }
    };
    let kafka = async {
        match kafka {
            Some(found) => kafka::start(&directory, found, options.start_deadline).await.map(Some),
            None => Ok(None),
        }
    };
    let services = futures::future::try_join_all(options.services.iter().map(async |options_of| {
        let server = service::start(&directory, options_of, options.start_deadline).await?;
        Ok::<_, Error>((options_of.name.clone(), server))
    }));
    let (postgres, kafka, services) = tokio::try_join!(postgres, kafka, services)?;
    let (postgres, database_socket) =
        postgres.map_or((None, None), |(server, socket)| (Some(server), socket));
    Ok(Launched { directory, postgres, database_socket, kafka, services })
}
