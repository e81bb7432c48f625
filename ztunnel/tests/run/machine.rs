//! A machine to run the program on: a network namespace with loopback, and a folder with the program's files.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use drain::Trigger;
use linux::{NetNs, link};
use telemetry::log::{Layout, Logging};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{sleep, timeout};
use ztunnel::ZtunnelError;

use crate::control::{NAME, TOKEN};

/// How long anything in a test may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The machine that a test runs on.
pub(crate) struct Machine {
    folder: TempDir,
}

/// The program, running.
pub(crate) struct Program {
    pub(crate) trigger: Trigger,
    pub(crate) ended: JoinHandle<Result<(), ZtunnelError>>,
}

/// Runs a test on a thread inside a new network namespace; says so when that cannot be.
pub(crate) fn on_machine<F: Future<Output = ()>>(test: impl FnOnce(Machine) -> F + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let netns = match NetNs::create() {
                Ok(netns) => netns,
                Err(error) => {
                    println!("SKIPPED: network namespaces cannot be made: {error}");
                    return;
                }
            };
            netns
                .run(|| {
                    link::set_up("lo").unwrap();
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    let machine = Machine { folder: tempfile::tempdir().unwrap() };
                    runtime.block_on(LocalSet::new().run_until(test(machine)));
                })
                .unwrap();
        });
    });
}

/// Waits for a future with a deadline.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("in time")
}

impl Machine {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Starts the program with the machine's files and further variables.
    pub(crate) fn start(&self, variables: &[(&str, &str)]) -> Program {
        self.write("token", TOKEN);
        let path = |name| self.path(name).display().to_string();
        let mut all: Vec<(String, String)> = [
            ("NODE_NAME", "node-1"),
            ("POD_NAME", "ztunnel-1"),
            ("CLUSTER_ID", "testing"),
            ("XDS_ADDRESS", "127.0.0.1:15012"),
            ("CA_ADDRESS", "127.0.0.1:15012"),
            ("ALT_XDS_HOSTNAME", NAME),
            ("ALT_CA_HOSTNAME", NAME),
            ("CONNECTION_TERMINATION_DEADLINE", "1s"),
            ("ISTIO_META_ISTIO_VERSION", "1.32"),
            ("LOCAL_XDS_PATH", "/nowhere"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        all.push(("XDS_ROOT_CA".to_owned(), path("root.pem")));
        all.push(("CA_ROOT_CA".to_owned(), path("root.pem")));
        all.push(("AUTH_TOKEN".to_owned(), path("token")));
        all.push(("INPOD_UDS".to_owned(), path("ztunnel.sock")));
        all.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let config = config::Ztunnel::from(&all.into_iter().collect()).unwrap();
        let (trigger, _watch) = drain::new();
        let stop = trigger.clone();
        let ended = tokio::task::spawn_local(async move { ztunnel::run(config, logging(), stop).await });
        Program { trigger, ended }
    }

    /// Waits until the program answers `path` on `port` with this status; gives the body.
    pub(crate) async fn answer(&self, port: u16, path: &str, status: u16) -> String {
        let waiting = async {
            loop {
                match request(port, &format!("GET {path}")).await {
                    Some((found, body)) if found == status => return body,
                    _ => sleep(Duration::from_millis(10)).await,
                }
            }
        };
        within(waiting).await
    }
}

/// One request; `None` when nobody listens.
pub(crate) async fn request(port: u16, line: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let body = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
    Some((status, body))
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        body.push_str(&after[..length]);
        rest = after[length..].trim_start_matches("\r\n");
    }
    body
}

/// A process has one log.
fn logging() -> &'static Logging {
    static LOGGING: OnceLock<Logging> = OnceLock::new();
    LOGGING.get_or_init(|| telemetry::log::init("off", Layout::Plain).unwrap())
}
