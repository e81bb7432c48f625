//! What generator and server do on loopback, with nothing between them: `cargo run --release -p load --example loopback`.
#![expect(clippy::print_stdout, reason = "it is a report")]

use std::error::Error;

use load::server::{Options, Server};
use load::{Bulk, Connections, Direction, Idle, Kind, Outcome, Pace, Plan, Protocol, Requests, run};

/// Idle connections: both ends are in this process, so that twice as many descriptors are needed.
const IDLE: u32 = 9_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    linux::process::raise_open_files()?;
    let server = Server::bind(&Options::new(([127, 0, 0, 1], 0).into()))?;
    let target = server.address();
    tokio::spawn(server.serve(std::future::pending()));
    let measure = async |name: &str, kind: Kind| -> Result<(), Box<dyn Error>> {
        let plan = Plan { target, kind, warm_up_ms: 500, duration_ms: 3_000, timeout_ms: 10_000 };
        println!("{name:<28} {}", told(&run(&plan).await?));
        Ok(())
    };
    for protocol in [Protocol::Http1, Protocol::Tcp, Protocol::Http2, Protocol::Grpc] {
        measure(&format!("{protocol:?}, saturation"), requests(protocol, Pace::Saturation)).await?;
        measure(&format!("{protocol:?}, 1,000/s"), requests(protocol, Pace::Fixed { rate: 1_000.0 })).await?;
    }
    for protocol in [Protocol::Http1, Protocol::Tcp] {
        let kind = Connections { protocol, in_flight: 16, pace: Pace::Saturation };
        measure(&format!("{protocol:?}, new connections"), Kind::Connections(kind)).await?;
    }
    for (streams, direction) in [(1, Direction::Download), (1, Direction::Upload), (4, Direction::Download)] {
        measure(&format!("{streams} bulk, {direction:?}"), Kind::Bulk(Bulk { streams, direction })).await?;
    }
    measure(&format!("{IDLE} idle"), Kind::Idle(Idle { connections: IDLE })).await
}

fn requests(protocol: Protocol, pace: Pace) -> Kind {
    Kind::Requests(Requests::new(protocol, 16, pace))
}

fn told(outcome: &Outcome) -> String {
    let mut text = outcome.invalid.as_ref().map(|reason| format!("INVALID: {reason}; ")).unwrap_or_default();
    if let Some(bulk) = &outcome.bulk {
        text += &format!("{:.1} Gbit/s ", bulk.bits_per_second / 1e9);
    }
    if let Some(latency) = &outcome.latency {
        let summary = latency.summary;
        text += &format!("{:.0}/s, p50 {:.0} us, p99 {:.0} us, ", outcome.rate, summary.p50_us, summary.p99_us);
        let per_request = outcome.cpu.total().as_secs_f64() * 1e6 / outcome.answered as f64;
        text += &format!("{per_request:.1} us of CPU each, ");
    }
    if let Some(lateness) = &outcome.lateness {
        text += &format!("late by p50 {:.0} us, p99 {:.0} us", lateness.p50_us, lateness.p99_us);
    }
    if outcome.held > 0 {
        text += &format!("{} held, {} lost", outcome.held, outcome.lost);
    }
    text
}
