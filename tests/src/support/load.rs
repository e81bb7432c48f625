//! Traffic that goes on while a test does something: steady load and long streams, from inside a lab's pods.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

use super::Lab;
use super::lab::Place;

/// How soon a client must have begun.
const FIRST_WORD: Duration = Duration::from_secs(20);

/// A client that was told to stop must have said its last word within this time.
const LAST_WORD: Duration = Duration::from_secs(30);

/// New connections per second of a load; [`LoadReport::assert_whole`] asks for at least [`LOWEST_RATE`].
const RATE: u32 = 220;
const LOWEST_RATE: f64 = 200.0;

/// How long answers took, in milliseconds.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Latency {
    pub(crate) max: f64,
}

/// What a load came to.
#[derive(Debug, Clone, Deserialize)]
#[expect(dead_code, reason = "a failed test shows all of it")]
pub(crate) struct LoadReport {
    pub(crate) sent: u64,
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    pub(crate) reasons: BTreeMap<String, u64>,
    pub(crate) failed_at_ms: Vec<u64>,
    pub(crate) latency_ms: Latency,
    pub(crate) sending_seconds: f64,
}

impl LoadReport {
    /// Every request was answered, at the rate that was asked for.
    pub(crate) fn assert_whole(&self, what: &str) {
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 requests")]
        let rate = self.sent as f64 / self.sending_seconds.max(f64::EPSILON);
        assert!(self.failed == 0 && self.ok == self.sent, "{what}: lost connections: {self:?}");
        assert!(rate >= LOWEST_RATE, "{what}: {rate:.0} per second only: {self:?}");
    }
}

/// What a stream came to.
#[derive(Debug, Clone, Deserialize)]
#[expect(dead_code, reason = "a failed test shows all of it")]
pub(crate) struct StreamReport {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) whole: bool,
    pub(crate) error: Option<String>,
    pub(crate) seconds: f64,
}

impl StreamReport {
    /// Every byte came back.
    pub(crate) fn assert_whole(&self, what: &str) {
        assert!(self.whole && self.received > 0, "{what}: {self:?}");
    }
}

/// What many connections at the same time came to.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct CrowdReport {
    pub(crate) opened: usize,
    pub(crate) ok: usize,
    pub(crate) failed: u64,
    #[expect(dead_code, reason = "a failed test shows all of it")]
    pub(crate) reasons: BTreeMap<String, u64>,
    pub(crate) opening_seconds: f64,
    pub(crate) exchanging_seconds: f64,
}

/// A client in the lab that works until it is told to stop, and then reports.
pub(crate) struct Running {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// Starts a client and waits until it has begun.
    async fn start(lab: &Lab, from: Place<'_>, arguments: &[&str]) -> Self {
        let program = [&["aquifer", "echo", "client"], arguments, &["--until-stdin-close"]].concat();
        let mut child = lab.exec_command(from, &program).stdin(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = timeout(FIRST_WORD, output.next_line()).await;
        let first = first.unwrap_or_else(|_| panic!("{arguments:?} did not begin")).unwrap();
        if !first.is_some_and(|line| line.contains("started")) {
            let mut said = String::new();
            // Whatever it says explains the failure; an unreadable word changes nothing.
            let _ = timeout(LAST_WORD, child.stderr.take().unwrap().read_to_string(&mut said)).await;
            panic!("{arguments:?} did not begin: {said}");
        }
        Self { child, input, output }
    }

    /// Starts requests, a new connection for each, without retries.
    pub(crate) async fn load(lab: &Lab, from: Place<'_>, url: &str) -> Self {
        Self::start(lab, from, &["load", "--url", url, "--rate", &RATE.to_string()]).await
    }

    /// Starts a stream whose bytes come back.
    pub(crate) async fn stream(lab: &Lab, from: Place<'_>, to: &str) -> Self {
        Self::start(lab, from, &["stream", "--to", to]).await
    }

    /// As [`Running::stream`], where the peer speaks first.
    pub(crate) async fn server_first(lab: &Lab, from: Place<'_>, to: &str) -> Self {
        Self::start(lab, from, &["stream", "--to", to, "--banner"]).await
    }

    /// Starts many connections at the same time, each of which exchanges bytes as it opens; all exchange bytes again when
    /// the client is told to stop.
    pub(crate) async fn crowd(lab: &Lab, from: Place<'_>, to: &str, connections: usize) -> Self {
        Self::start(lab, from, &["crowd", "--to", to, "--connections", &connections.to_string()]).await
    }

    /// Waits until a crowd is open; how many connections that are.
    pub(crate) async fn opened(&mut self, patience: Duration) -> usize {
        let line = timeout(patience, self.output.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("not all are open after {patience:?}")).unwrap().unwrap_or_default();
        let said: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        usize::try_from(said["opened"].as_u64().unwrap()).unwrap()
    }

    /// Whether the client goes on, that is has neither reported nor failed.
    pub(crate) fn goes_on(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Tells the client to stop, and returns its report.
    pub(crate) async fn finish<T: DeserializeOwned>(mut self) -> T {
        drop(self.input.take());
        self.report().await
    }

    /// Waits until the client ends by itself, and returns its report.
    pub(crate) async fn report<T: DeserializeOwned>(&mut self) -> T {
        let last = timeout(LAST_WORD, async {
            let mut last = String::new();
            while let Some(line) = self.output.next_line().await.unwrap() {
                last = line;
            }
            self.child.wait().await.unwrap();
            last
        });
        let last = last.await.unwrap_or_else(|_| panic!("a client did not end"));
        serde_json::from_str(&last).unwrap_or_else(|error| panic!("a client reported {last:?}: {error}"))
    }
}

/// A short burst of requests, to see whether they are let through.
pub(crate) async fn burst(lab: &Lab, from: Place<'_>, url: &str) -> LoadReport {
    let program =
        ["aquifer", "echo", "client", "load", "--url", url, "--rate", "50", "--for", "200ms", "--timeout", "5s"];
    let output = lab.exec(from, &program).await;
    let said = super::program::text(&output.stdout);
    let last = said.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{url}: {error}: {output:?}"))
}

/// HTTP requests of h2load, each of which must be answered with success.
pub(crate) async fn h2load(lab: &Lab, from: Place<'_>, options: &[&str], url: &str, requests: u32) {
    let number = requests.to_string();
    let said = lab.must_exec(from, &[&["h2load", "-n", &number], options, &[url]].concat()).await;
    let whole = format!(
        "requests: {requests} total, {requests} started, {requests} done, {requests} succeeded, 0 failed, 0 errored, \
         0 timeout"
    );
    assert!(said.contains(&whole) && said.contains(&format!("status codes: {requests} 2xx")), "{url}: {said}");
}
