//! `aquifer sniff`: reads a link as an eavesdropper would, and says which marker strings it saw and what TLS agreed on.
//!
//! Prints a line of JSON with running totals ten times a second, until standard input closes.

mod hello;

use std::collections::BTreeMap;
use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use linux::packet::Sniffer;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub(crate) use hello::ServerHello;

use crate::output;

/// Where HBONE servers answer from.
const HBONE_PORT: u16 = 15008;
/// How often totals are printed.
const INTERVAL: Duration = Duration::from_millis(100);

/// Read a link and look for marker strings.
#[derive(Debug, Args)]
pub(crate) struct SniffArgs {
    /// The interface to read.
    #[arg(long, value_name = "NAME")]
    interface: String,
    /// A string to look for in TCP payloads; may be given more than once.
    #[arg(long = "marker", value_name = "TEXT", required = true)]
    markers: Vec<String>,
}

/// What was seen so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// TCP segments with a payload.
    pub(crate) segments: u64,
    /// Segments in which each marker stood.
    pub(crate) markers: BTreeMap<String, u64>,
    /// Frames that passed unseen because too many waited to be looked at.
    pub(crate) dropped: u64,
    /// Segments to or from the HBONE port.
    pub(crate) hbone_segments: u64,
    /// The last answer of an HBONE server to a TLS hello.
    pub(crate) server_hello: Option<ServerHello>,
}

impl Totals {
    fn new(markers: &[String]) -> Self {
        Self { markers: markers.iter().map(|marker| (marker.clone(), 0)).collect(), ..Self::default() }
    }

    /// Takes one segment into account.
    fn add(&mut self, source: u16, destination: u16, payload: &[u8]) {
        if payload.is_empty() {
            return;
        }
        self.segments += 1;
        for (marker, count) in &mut self.markers {
            if contains(payload, marker.as_bytes()) {
                *count += 1;
            }
        }
        if source == HBONE_PORT || destination == HBONE_PORT {
            self.hbone_segments += 1;
        }
        if source == HBONE_PORT
            && let Some(hello) = hello::parse(payload)
        {
            self.server_hello = Some(hello);
        }
    }
}

/// Runs the verb.
pub(crate) fn run(args: &SniffArgs) -> Result<ExitCode> {
    if args.markers.iter().any(String::is_empty) {
        bail!("an empty marker is in every segment; give a text to look for");
    }
    let mut sniffer =
        Sniffer::open(Some(&args.interface)).with_context(|| format!("cannot read interface {}", args.interface))?;
    let stop = stop_at_end_of_input()?;
    let mut totals = Totals::new(&args.markers);
    let mut printed = Instant::now();
    output::print_line(&totals)?;
    while !stop.load(Ordering::Relaxed) {
        if let Some(frame) = sniffer.recv(INTERVAL)?
            && let Some(segment) = frame.tcp()
        {
            totals.add(segment.source.port(), segment.destination.port(), segment.payload);
        }
        if printed.elapsed() >= INTERVAL {
            totals.dropped += u64::from(sniffer.dropped()?);
            output::print_line(&totals)?;
            printed = Instant::now();
        }
    }
    output::print_line(&totals)?;
    Ok(ExitCode::SUCCESS)
}

/// A thread that reads standard input until it ends; it dies with the process.
fn stop_at_end_of_input() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut sink = [0; 64];
        while std::io::stdin().read(&mut sink).is_ok_and(|length| length > 0) {}
        flag.store(true, Ordering::Relaxed);
    })?;
    Ok(stop)
}

fn contains(payload: &[u8], marker: &[u8]) -> bool {
    payload.windows(marker.len()).any(|window| window == marker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_counted_by_segment() {
        let mut totals = Totals::new(&["card=1".to_owned(), "street".to_owned()]);
        totals.add(40000, 8080, b"GET /?card=1&card=1 HTTP/1.1\r\n");
        totals.add(40001, 8080, b"GET / HTTP/1.1\r\n");
        totals.add(40001, 8080, b"");
        assert_eq!(totals.segments, 2);
        assert_eq!(totals.markers.get("card=1"), Some(&1));
        assert_eq!(totals.markers.get("street"), Some(&0));
    }
}
