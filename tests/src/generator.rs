//! The load generator beside fortio's, against the same servers, in turns.
//!
//! fortio counts from when it has in fact sent, so that is what is compared (`service` of our outcome); what our
//! generator makes of requests that had to wait is for the tests of `load`.
//! Both get the same priority, and the same share of whatever else the machine does, because they take turns.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use tokio::time::Instant;

use crate::support::Caller;
use crate::support::program::{has_peers, output, path_of, text, whole_machine};

/// A turn of which too many sends were late is no measurement, and is made again, for so long: the host of a virtual
/// machine may be busy for minutes.
const PATIENCE: Duration = Duration::from_secs(180);

/// Fewer turns than this are not compared.
const FEWEST: usize = 3;

/// How far the two may be apart.
const APART: f64 = 0.15;

/// What one turn measured.
#[derive(Debug, Clone, Copy)]
struct Measured {
    /// From the send to the whole answer, in microseconds.
    p50: f64,
    /// Answers per second.
    rate: f64,
}

/// A server of the command's own, and where it listens.
async fn serve(arguments: &[&str], port: impl Fn(&Value) -> Option<String>) -> io::Result<(Child, String)> {
    let mut command = Caller::own().command(arguments);
    let mut child = command.stderr(Stdio::null()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).await?;
    let listening: Value = serde_json::from_str(&line)?;
    let address = port(&listening["listening"]).unwrap_or_else(|| panic!("no address in {line}"));
    Ok((child, address))
}

async fn fortio(url: &str, rate: &str) -> Measured {
    // As our generator does for itself; who may not stays as it is, and only a warning is printed.
    let mut command = tokio::process::Command::new("nice");
    command.args(["-n", "-20"]).arg(path_of("fortio-load")).args(["-qps", rate, "-c", "8", "-t", "1s", url]);
    let output = output(command, "fortio-load").await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["failed"], 0, "{result}");
    Measured { p50: result["p50_us"].as_f64().unwrap(), rate: result["rate"].as_f64().unwrap() }
}

/// The reason when the generator says that this was no measurement.
async fn own(url: &str, rate: &str) -> Result<Measured, String> {
    let arguments = ["load", "client", "--connections", "8", "--rate", rate, "--duration", "1s", "--warm-up", "0"];
    let output = Caller::own().run(&[&arguments[..], &["-o", "json", url]].concat()).await;
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outcome["sent"], outcome["answered"], "{outcome}");
    if let Some(reason) = outcome["invalid"].as_str() {
        return Err(reason.to_owned());
    }
    assert!(output.status.success(), "{}", text(&output.stderr));
    Ok(Measured { p50: outcome["service"]["p50_us"].as_f64().unwrap(), rate: outcome["rate"].as_f64().unwrap() })
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// Compares the medians of so many turns of each, or of as many as could be measured.
async fn compare(url: &str, rate: &str, rounds: usize) {
    let (mut theirs, mut ours, mut reason) = (Vec::new(), Vec::new(), String::new());
    let start = Instant::now();
    while ours.len() < rounds && start.elapsed() < PATIENCE {
        let their = fortio(url, rate).await;
        match own(url, rate).await {
            Ok(our) => {
                theirs.push(their);
                ours.push(our);
            }
            Err(why) => reason = why,
        }
    }
    if ours.len() < FEWEST {
        println!("SKIPPED: in {PATIENCE:?} {} turns were measurements; the last other: {reason}", ours.len());
        return;
    }
    let p50s = |all: &[Measured]| all.iter().map(|one| one.p50).collect();
    let rates = |all: &[Measured]| all.iter().map(|one| one.rate).collect();
    for (name, their, our) in [("p50", p50s(&theirs), p50s(&ours)), ("rate", rates(&theirs), rates(&ours))] {
        let (their, our) = (median(their), median(our));
        println!("{url} {name}: fortio {their:.0}, aquifer {our:.0}");
        assert!((our / their - 1.0).abs() <= APART, "{name}: fortio {theirs:?}, aquifer {ours:?}");
    }
}

#[tokio::test]
async fn agrees_with_fortio_on_a_server_that_waits() {
    if !has_peers(&["fortio-load"]) {
        return;
    }
    let _alone = whole_machine().await;
    let arguments = ["load", "server", "--listen", "127.0.0.1:0", "--delay", "5ms"];
    let (_server, address) = serve(&arguments, |listening| listening.as_str().map(str::to_owned)).await.unwrap();
    compare(&format!("http://{address}/"), "400", 7).await;
}

#[tokio::test]
async fn agrees_with_fortio_on_a_server_that_works() {
    if !has_peers(&["fortio-load"]) {
        return;
    }
    let _alone = whole_machine().await;
    let arguments = ["echo", "--bind", "127.0.0.1", "--http", "0", "--h2c", "0", "--tcp", "0", "--server-first", "0"];
    let (_server, address) =
        serve(&arguments, |listening| listening["http"].as_str().map(str::to_owned)).await.unwrap();
    // Making and sending a megabyte takes the server milliseconds, which other work on its processor stretches by as
    // much as it likes: it takes more turns until the medians are steady.
    compare(&format!("http://{address}/?size=1m"), "104", 15).await;
}
