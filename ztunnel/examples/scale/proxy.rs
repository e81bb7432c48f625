//! The node proxy as a process of its own, and the node agent that it follows.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use telemetry::log::Layout;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use zds::agent::{Listener, Session};

use crate::{cost, mesh};

/// The argument of the process that is the proxy; the second is its socket.
pub(crate) const CHILD: &str = "--proxy";

/// How often readiness is asked for.
const INTERVAL: Duration = Duration::from_millis(2);

/// A running proxy; killed when dropped.
pub(crate) struct Proxy {
    child: Child,
    pid: u32,
    _agent: Session,
}

/// Runs the proxy until it is killed.
pub(crate) fn run() -> Result<()> {
    let socket = std::env::args().nth(2).context("no socket")?;
    let variables = [
        ("NODE_NAME", "node-1"),
        ("POD_NAME", "ztunnel-1"),
        ("CLUSTER_ID", "Kubernetes"),
        ("XDS_ADDRESS", &format!("http://{}", mesh::ADDRESS)),
        ("CA_ADDRESS", "http://127.0.0.1:1"),
        ("LOCAL_XDS_PATH", "/nowhere"),
        ("INPOD_UDS", &socket),
    ];
    let variables: BTreeMap<String, String> =
        variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let config = config::Ztunnel::from(&variables.into_iter().collect())?;
    let logging = telemetry::log::init("error", Layout::Plain)?;
    let (trigger, _watch) = drain::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(ztunnel::run(config, &logging, trigger))?)
}

impl Proxy {
    /// Starts the proxy; it has no pods.
    pub(crate) async fn start(folder: &Path) -> Result<Self> {
        let socket = folder.join("ztunnel.sock");
        let listener = Listener::bind(&socket)?;
        let child = Command::new(std::env::current_exe()?).arg(CHILD).arg(&socket).kill_on_drop(true).spawn()?;
        let pid = child.id().context("the proxy ended at once")?;
        let mut agent = Session::start(listener.accept().await?).await?;
        agent.snapshot_sent().await?;
        Ok(Self { child, pid, _agent: agent })
    }

    pub(crate) async fn wait_until_ready(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if self.is_ready().await {
                return Ok(());
            }
            sleep(INTERVAL).await;
        }
        bail!("not ready within {patience:?}")
    }

    async fn is_ready(&self) -> bool {
        let mut answer = [0; 12];
        let Ok(mut stream) = ask(15021, "/healthz/ready").await else { return false };
        stream.read_exact(&mut answer).await.is_ok() && answer.ends_with(b"200")
    }

    /// Resident memory in KiB.
    pub(crate) fn memory(&self) -> Result<u64> {
        cost::resident(self.pid)
    }

    pub(crate) fn processor_time(&self) -> Result<Duration> {
        cost::processor_time(self.pid)
    }

    /// Reads the whole dump; its length in bytes, and the most memory that was seen meanwhile and just afterwards.
    pub(crate) async fn dump(&self) -> Result<(usize, u64)> {
        let mut stream = ask(15000, "/config_dump").await?;
        let (mut length, mut peak) = (0, self.memory()?);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = timeout(Duration::from_secs(10), stream.read(&mut buffer)).await??;
            peak = peak.max(self.memory()?);
            if read == 0 {
                return Ok((length, peak));
            }
            length += read;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
    }
}

async fn ask(port: u16, path: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}
