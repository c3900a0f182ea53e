//! Fetches code from a URL. What arrives is used only if it has the SHA-256 that was given with the URL.

use super::COMPONENT_BYTES_MAX;
use bytes::{Bytes, BytesMut};
use fnhost_capabilities::outbound_http::secure;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use rustix::fs::OFlags;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Longest wait for a connection and the head of an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest fetch, redirects included.
const FETCH_TIMEOUT: Duration = Duration::from_secs(120);
/// Redirects that are followed.
const REDIRECTS_MAX: usize = 5;

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It is not one that can be fetched.
    #[error("{0} is not a URL of the form http://HOST/PATH or https://HOST/PATH")]
    Url(String),
    /// The server could not be reached, or broke off.
    #[error("cannot fetch {url}: {reason}")]
    Failed {
        /// URL that was requested.
        url: String,
        /// What failed, for the message.
        reason: String,
    },
    /// It answered something else.
    #[error("{url} answered {status}")]
    Status {
        /// URL that was requested.
        url: String,
        /// Status of the answer.
        status: StatusCode,
    },
    /// It is on a network of ours.
    #[error(
        "{url} leads to {address}, which is no public address: a request must not reach what only this host can reach; if code is \
         kept there, allow its network with --fetch-network (FNHOST_FETCH_NETWORKS)"
    )]
    Private {
        /// URL that was requested.
        url: String,
        /// What its name leads to.
        address: IpAddr,
    },
    /// It is larger than a component may be.
    #[error("{0} has more than {COMPONENT_BYTES_MAX} bytes")]
    TooLarge(String),
    /// It took too long.
    #[error("{0} did not arrive within {FETCH_TIMEOUT:?}")]
    TimedOut(String),
}

/// The networks besides the public ones from which code may be fetched.
#[derive(Clone, Debug, Default)]
pub struct Sources(Arc<[IpNet]>);

impl Sources {
    /// These networks.
    #[must_use]
    pub fn new(networks: &[IpNet]) -> Self {
        Self(networks.into())
    }

    fn allow(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.0.iter().any(|network| network.contains(&address))
    }
}

/// Whether an address belongs to the public internet. What IANA's registries of special addresses name does not, those that stand
/// for an IPv4 address included, since what it leads to is not known here.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(matches!(a, 0 | 10 | 127)
                || a >= 224
                || (a == 100 && (64..128).contains(&b))
                || (a, b) == (169, 254)
                || (a == 172 && (16..32).contains(&b))
                || (a, b) == (192, 168)
                || matches!((a, b, c), (192, 0, 0 | 2) | (192, 88, 99) | (198, 51, 100) | (203, 0, 113))
                || (a == 198 && matches!(b, 18 | 19)))
        }
        // Global unicast, without 2001::/23 (Teredo among them), 2001:db8::/32, 2002::/16 (6to4) and 3fff::/20.
        IpAddr::V6(v6) => {
            let [a, b, ..] = v6.segments();
            (0x2000..0x4000).contains(&a)
                && !(a == 0x2001 && (b < 0x0200 || b == 0x0db8))
                && a != 0x2002
                && !(a == 0x3fff && b < 0x1000)
        }
    }
}

/// Reads a file of code, at most [`COMPONENT_BYTES_MAX`] bytes. What is no file is not opened: reading a device or a pipe may never
/// end, and may do more than read.
///
/// # Errors
/// It cannot be read, is no regular file, or is too large.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let regular = |about: std::fs::Metadata| match about.is_file() {
        true if about.len() > COMPONENT_BYTES_MAX as u64 => {
            Err(io::Error::other(format!("it has more than {COMPONENT_BYTES_MAX} bytes")))
        }
        true => Ok(()),
        false => Err(io::Error::other("it is no regular file")),
    };
    regular(path.metadata()?)?;
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // Something else may stand there now.
    regular(file.metadata()?)?;
    let mut wasm = Vec::new();
    file.take(COMPONENT_BYTES_MAX as u64 + 1).read_to_end(&mut wasm)?;
    if wasm.len() > COMPONENT_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {COMPONENT_BYTES_MAX} bytes")));
    }
    Ok(wasm)
}

/// Fetches what `url` has, over HTTP or HTTPS, at most [`COMPONENT_BYTES_MAX`] bytes, from a public address or one of `sources`.
///
/// # Errors
/// As the variants say.
pub async fn fetch(url: &str, sources: &Sources) -> Result<Vec<u8>, FetchError> {
    match tokio::time::timeout(FETCH_TIMEOUT, follow(url, sources)).await {
        Ok(fetched) => fetched,
        Err(_) => Err(FetchError::TimedOut(url.to_owned())),
    }
}

async fn follow(url: &str, sources: &Sources) -> Result<Vec<u8>, FetchError> {
    let mut at = url::Url::parse(url).map_err(|_| FetchError::Url(url.to_owned()))?;
    for _ in 0..=REDIRECTS_MAX {
        match get(&at, sources).await? {
            Answer::Body(body) => return Ok(body),
            Answer::Redirect(to) => at = at.join(&to).map_err(|_| FetchError::Url(to))?,
        }
    }
    Err(FetchError::Failed { url: url.to_owned(), reason: format!("more than {REDIRECTS_MAX} redirects") })
}

enum Answer {
    Body(Vec<u8>),
    Redirect(String),
}

/// A connection to the host of `url`. Its addresses are looked up once, and what is connected to is what was checked: another
/// look-up may have another answer.
async fn connect(url: &url::Url, host: &str, sources: &Sources) -> Result<TcpStream, FetchError> {
    let failed = |error: io::Error| FetchError::Failed { url: url.to_string(), reason: error.to_string() };
    let port = url.port_or_known_default().ok_or_else(|| FetchError::Url(url.to_string()))?;
    let bare = host.trim_matches(['[', ']']);
    let found: Vec<_> = tokio::net::lookup_host((bare, port)).await.map_err(failed)?.collect();
    if let Some(private) = found.iter().find(|address| !sources.allow(address.ip())) {
        return Err(FetchError::Private { url: url.to_string(), address: private.ip() });
    }
    TcpStream::connect(&*found).await.map_err(failed)
}

/// Sends a request on a stream; the answer's body ends with the connection, which goes with it.
async fn send<S>(stream: S, request: Request<Empty<Bytes>>) -> hyper::Result<Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    sender.send_request(request).await
}

async fn get(url: &url::Url, sources: &Sources) -> Result<Answer, FetchError> {
    let (scheme, host) = (url.scheme(), url.host_str());
    let Some(host) = host.filter(|_| matches!(scheme, "http" | "https")) else {
        return Err(FetchError::Url(url.to_string()));
    };
    let failed = |reason: String| FetchError::Failed { url: url.to_string(), reason };
    let path: Uri = url[url::Position::BeforePath..url::Position::AfterQuery]
        .parse()
        .map_err(|_| FetchError::Url(url.to_string()))?;
    let request = Request::get(path)
        .header(header::HOST, &url[url::Position::BeforeHost..url::Position::AfterPort])
        .header(header::USER_AGENT, concat!("fnhost/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| failed(error.to_string()))?;
    let sent = async {
        let stream = connect(url, host, sources).await?;
        if scheme == "https" {
            let secured = secure(host, stream).await.map_err(|refused| failed(refused.reason))?;
            return send(secured, request).await.map_err(|error| failed(error.to_string()));
        }
        send(stream, request).await.map_err(|error| failed(error.to_string()))
    };
    let answered = tokio::time::timeout(CONNECT_TIMEOUT, sent).await;
    let response = answered.map_err(|_| failed(format!("no answer within {CONNECT_TIMEOUT:?}")))??;
    let (head, mut body) = response.into_parts();
    if head.status.is_redirection()
        && let Some(to) = head.headers.get(header::LOCATION).and_then(|to| to.to_str().ok())
    {
        return Ok(Answer::Redirect(to.to_owned()));
    }
    if head.status != StatusCode::OK {
        return Err(FetchError::Status { url: url.to_string(), status: head.status });
    }
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failed(error.to_string()))?;
        if let Some(data) = frame.data_ref() {
            if bytes.len() + data.len() > COMPONENT_BYTES_MAX {
                return Err(FetchError::TooLarge(url.to_string()));
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(Answer::Body(bytes.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// A server that gives each path its answer, for as long as the test runs.
    async fn serve() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let length = stream.read(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default();
                let answer = match path {
                    "/code" => "200 OK\r\ncontent-length: 4\r\n\r\ncode".to_owned(),
                    "/away" => "302 Found\r\nlocation: /code\r\ncontent-length: 0\r\n\r\n".to_owned(),
                    "/round" => "302 Found\r\nlocation: /round\r\ncontent-length: 0\r\n\r\n".to_owned(),
                    "/cut" => "200 OK\r\ncontent-length: 40\r\n\r\ncode".to_owned(),
                    "/large" => {
                        let body = "x".repeat(COMPONENT_BYTES_MAX + 1);
                        format!("200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
                    }
                    _ => "404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
                };
                // A client that has read enough hangs up.
                let _ = stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await;
            }
        });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn code_is_fetched_whole_or_not_at_all() {
        let server = serve().await;
        let here = Sources::new(&["127.0.0.0/8".parse().unwrap()]);
        for path in ["/code", "/away"] {
            assert_eq!(fetch(&format!("{server}{path}"), &here).await.unwrap(), b"code", "{path}");
        }
        for (url, expected) in [
            (format!("{server}/nothing"), "answered 404"),
            (format!("{server}/round"), "more than 5 redirects"),
            (format!("{server}/cut"), "cannot fetch"),
            (format!("{server}/large"), "more than 67108864 bytes"),
            ("ftp://127.0.0.1/code".to_owned(), "is not a URL"),
            ("code".to_owned(), "is not a URL"),
        ] {
            let error = fetch(&url, &here).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{url}: {error}");
        }
    }

    #[tokio::test]
    async fn what_only_this_host_can_reach_is_not_fetched() {
        let server = serve().await;
        let port = server.rsplit_once(':').unwrap().1;
        for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433"] {
            let error = fetch(&format!("http://{host}:{port}/code"), &Sources::default()).await.unwrap_err();
            assert!(matches!(error, FetchError::Private { .. }), "{host}: {error}");
        }
    }

    #[test]
    fn public_addresses_are_told_from_all_others() {
        for address in
            ["1.1.1.1", "100.128.0.1", "172.32.0.1", "192.0.1.1", "2606:4700::1111", "2001:4860::8888"]
        {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "64:ff9b::a00:1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2002:a00:1::",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        let own = Sources::new(&["10.1.0.0/16".parse().unwrap()]);
        for (address, allowed) in [("10.1.2.3", true), ("::ffff:10.1.2.3", true), ("10.2.0.1", false)] {
            assert_eq!(own.allow(address.parse().unwrap()), allowed, "{address}");
        }
    }

    #[test]
    fn only_files_of_bounded_size_are_read() {
        let folder = std::env::temp_dir().join(format!("fnhost-read-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        let (file, large, pipe) = (folder.join("code"), folder.join("large"), folder.join("pipe"));
        std::fs::write(&file, b"code").unwrap();
        std::fs::File::create(&large).unwrap().set_len(COMPONENT_BYTES_MAX as u64 + 1).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .unwrap();
        assert_eq!(read(&file).unwrap(), b"code");
        for (path, said) in [
            (large.as_path(), "more than"),
            (pipe.as_path(), "no regular file"),
            (Path::new("/dev/zero"), "no regular file"),
            (folder.as_path(), "no regular file"),
            (&folder.join("none"), "No such file"),
        ] {
            let error = read(path).unwrap_err().to_string();
            assert!(error.contains(said), "{}: {error}", path.display());
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
