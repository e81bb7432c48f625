//! Programs that run inside the lab's pods and nodes for a while and report in JSON: load, streams, the eavesdropper.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::lab::{Lab, Place};
use super::report::Report;
use crate::sniff::Totals;

/// A program in the lab that was told to stop must have said its last word within this time.
const LAST_WORD: Duration = Duration::from_secs(20);
/// How soon a program in the lab must have begun.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// New connections per second of a load whose requests are all to succeed.
const LOWEST_RATE: f64 = 200.0;

/// What a load client reports.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct LoadReport {
    /// Address and port of the peer.
    pub(super) target: String,
    pub(super) sent: u64,
    pub(super) ok: u64,
    pub(super) failed: u64,
    pub(super) reasons: std::collections::BTreeMap<String, u64>,
    pub(super) sending_seconds: f64,
}

impl LoadReport {
    /// Requests per second that were begun, while requests were begun: the last answers may take their time.
    pub(super) fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a demo sends far fewer than 2^52 requests")]
        let sent = self.sent as f64;
        sent / self.sending_seconds.max(f64::EPSILON)
    }

    /// Whether the peer has this address.
    pub(super) fn leads_to(&self, address: &str) -> bool {
        self.target.rsplit_once(':').is_some_and(|(found, _port)| found == address)
    }

    /// `1,234 requests, 1 new connection each, 0 failed`, with the reasons of failures.
    pub(super) fn summary(&self) -> String {
        let reasons: Vec<String> = self.reasons.iter().map(|(reason, count)| format!("{count} × {reason}")).collect();
        let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
        format!("{} requests at {:.0}/s, {} failed{reasons}", self.sent, self.rate(), self.failed)
    }
}

/// Checks that each request of a load was answered, and that there were as many as were asked for.
pub(super) fn check_nothing_lost(report: &mut Report, direction: &str, load: &LoadReport) {
    let holds = load.failed == 0 && load.ok == load.sent && load.rate() >= LOWEST_RATE;
    report.check(holds, &format!("{direction}: {}", load.summary()));
}

/// What a stream client reports.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct StreamReport {
    pub(super) received: u64,
    pub(super) whole: bool,
    pub(super) error: Option<String>,
    pub(super) longest_gap_ms: u64,
    pub(super) seconds: f64,
}

impl StreamReport {
    /// `12345 bytes came back whole in 3 s, longest pause 20 ms`, with what went wrong.
    pub(super) fn summary(&self) -> String {
        let how = if self.whole { "whole" } else { "changed" };
        let error = self.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        let (bytes, seconds, pause) = (self.received, self.seconds, self.longest_gap_ms);
        format!("{bytes} bytes came back {how} in {seconds:.0} s, longest pause {pause} ms{error}")
    }
}

/// A program in the lab that works until its standard input closes and then prints a report.
pub(super) struct Running {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(lab: &Lab, place: &Place<'_>, arguments: &[&str]) -> Result<Self> {
        let mut child = lab
            .exec(place, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("a client did not start")?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or_else(|| anyhow!("a client has no output"))?;
        Ok(Self { child, input, output: BufReader::new(output).lines() })
    }

    /// Waits for its first line, which it prints when it has what it needs to begin.
    async fn begin(&mut self) -> Result<()> {
        let first = timeout(FIRST_WORD, self.output.next_line()).await;
        first.context("a client did not begin in time")??.context("a client did not begin")?;
        Ok(())
    }

    /// Tells the program to stop and returns its report, the last line that it prints.
    async fn finish<T: DeserializeOwned>(mut self) -> Result<T> {
        drop(self.input.take());
        let last = timeout(LAST_WORD, async {
            let mut last = None;
            while let Some(line) = self.output.next_line().await? {
                if line.starts_with('{') {
                    last = Some(line);
                }
            }
            self.child.wait().await?;
            anyhow::Ok(last)
        });
        let last = last.await.context("a client did not end in time")??;
        let last = last.ok_or_else(|| anyhow!("a client ended without a report"))?;
        serde_json::from_str(&last).with_context(|| format!("a client reported {last:?}"))
    }
}

/// A client that opens a new connection per request, without retries.
pub(super) struct Load(Running);

impl Load {
    /// Starts requests to `url`; the secret travels in a header.
    pub(super) fn start(lab: &Lab, place: &Place<'_>, url: &str, rate: u32, secret: &str) -> Result<Self> {
        let (rate, header) = (rate.to_string(), format!("x-secret: {secret}"));
        let arguments =
            ["echo", "client", "load", "--url", url, "--rate", &rate, "--header", &header, "--until-stdin-close"];
        Ok(Self(Running::start(lab, place, &arguments)?))
    }

    /// As [`Load::start`]; returns once the name of `url` is looked up.
    pub(super) async fn open(lab: &Lab, place: &Place<'_>, url: &str, rate: u32, secret: &str) -> Result<Self> {
        let mut load = Self::start(lab, place, url, rate, secret)?;
        load.0.begin().await?;
        Ok(load)
    }

    /// Stops, waits for the requests under way, and reports.
    pub(super) async fn finish(self) -> Result<LoadReport> {
        self.0.finish().await
    }
}

/// A few requests, to see whether they are let through.
pub(super) async fn probe(lab: &Lab, place: &Place<'_>, url: &str) -> Result<LoadReport> {
    let arguments = ["echo", "client", "load", "--url", url, "--rate", "50", "--for", "100ms", "--timeout", "2s"];
    Running::start(lab, place, &arguments)?.finish().await
}

/// As [`probe`], with `None` when nobody knows the name.
pub(super) async fn try_probe(lab: &Lab, place: &Place<'_>, url: &str) -> Result<Option<LoadReport>> {
    let arguments = ["echo", "client", "load", "--url", url, "--rate", "50", "--for", "100ms", "--timeout", "2s"];
    let mut command = lab.exec(place, &arguments);
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(LAST_WORD, output).await.context("a client did not end in time")??;
    let said = String::from_utf8(output.stdout)?;
    let report = said.lines().rev().find(|line| line.contains("\"sent\""));
    report
        .map(|report| serde_json::from_str(report).with_context(|| format!("a client reported {report:?}")))
        .transpose()
}

/// A long stream whose bytes come back and are compared.
pub(super) struct Stream(Running);

impl Stream {
    pub(super) fn start(lab: &Lab, place: &Place<'_>, to: &str) -> Result<Self> {
        let arguments = ["echo", "client", "stream", "--to", to, "--rate", "100", "--until-stdin-close"];
        Ok(Self(Running::start(lab, place, &arguments)?))
    }

    /// As [`Stream::start`]; returns once the connection stands.
    pub(super) async fn open(lab: &Lab, place: &Place<'_>, to: &str) -> Result<Self> {
        let mut stream = Self::start(lab, place, to)?;
        stream.0.begin().await?;
        Ok(stream)
    }

    pub(super) async fn finish(self) -> Result<StreamReport> {
        self.0.finish().await
    }
}

/// An eavesdropper on a node's link.
pub(super) struct Sniffer {
    totals: watch::Receiver<Totals>,
    reader: JoinHandle<()>,
    _input: Option<ChildStdin>,
    _child: Child,
}

impl Sniffer {
    /// Starts to listen, and returns once it does.
    pub(super) async fn start(lab: &Lab, place: &Place<'_>, markers: &[&str]) -> Result<Self> {
        let mut arguments = vec!["sniff", "--interface", "eth0"];
        for marker in markers {
            arguments.extend(["--marker", marker]);
        }
        let Running { child, input, mut output } = Running::start(lab, place, &arguments)?;
        let (sender, totals) = watch::channel(Totals::default());
        let first = timeout(FIRST_WORD, output.next_line()).await.context("the sniffer did not start in time")??;
        if first.is_none() {
            bail!("the sniffer ended at once");
        }
        let reader = tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                if let Ok(totals) = serde_json::from_str(&line) {
                    sender.send_replace(totals);
                }
            }
        });
        Ok(Self { totals, reader, _input: input, _child: child })
    }

    /// The totals after two more reports, so that whatever was on the wire before the call is in them.
    pub(super) async fn totals(&mut self) -> Result<Totals> {
        for _ in 0..2 {
            self.totals.borrow_and_update();
            timeout(FIRST_WORD, self.totals.changed()).await.context("the sniffer is silent")??;
        }
        Ok(self.totals.borrow().clone())
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
