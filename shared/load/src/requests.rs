//! Requests over several connections: connects, lets the lanes run, tells what they saw.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::client::Dial;
use crate::client::http1::Http1Dial;
use crate::client::http2::Http2Dial;
use crate::client::tcp::TcpDial;
use crate::lane::{self, Shared};
use crate::outcome::{Failure, Outcome};
use crate::plan::{Connections, Pace, Plan, Protocol, Requests};
use crate::recorder::Recorder;
use crate::run::{LoadError, Reporter};
use crate::schedule::{Arrivals, Window};
use crate::usage::measure;

/// Time between the last connection and the first request, in which all lanes get ready.
const HEAD_START: Duration = Duration::from_millis(10);

/// How a number of lanes sends.
#[derive(Debug, Clone, Copy)]
struct Lanes {
    count: u32,
    pace: Pace,
    keep_alive: bool,
}

/// Carries out a plan of requests.
pub(crate) async fn requests(plan: &Plan, requests: &Requests, reporter: &Reporter) -> Result<Outcome, LoadError> {
    let lanes = Lanes {
        count: u32::from(requests.connections) * u32::from(requests.streams),
        pace: requests.pace,
        keep_alive: requests.keep_alive,
    };
    let target = plan.target;
    match requests.protocol {
        Protocol::Http1 => drive(plan, Http1Dial::new(target, requests), lanes, reporter).await,
        Protocol::Http2 | Protocol::Grpc => {
            let dial = Http2Dial::new(target, requests).map_err(io::Error::other)?;
            drive(plan, dial, lanes, reporter).await
        }
        Protocol::Tcp => {
            let dial = TcpDial::ping_pong(target, requests.request_bytes, requests.response_bytes);
            drive(plan, dial, lanes, reporter).await
        }
    }
}

/// Carries out a plan of new connections.
pub(crate) async fn connections(
    plan: &Plan,
    connections: &Connections,
    reporter: &Reporter,
) -> Result<Outcome, LoadError> {
    let lanes = Lanes { count: u32::from(connections.in_flight), pace: connections.pace, keep_alive: false };
    if connections.protocol == Protocol::Tcp {
        return drive(plan, TcpDial::once(plan.target), lanes, reporter).await;
    }
    let dial = Http1Dial::new(plan.target, &connections.requests());
    drive(plan, dial, lanes, reporter).await
}

async fn drive<D: Dial>(plan: &Plan, dial: D, lanes: Lanes, reporter: &Reporter) -> Result<Outcome, LoadError> {
    if matches!(lanes.pace, Pace::Fixed { .. }) {
        // A wish: where it is not granted, late sends tell. A closed loop is never late, and would take the processor
        // from the server that it waits for.
        let _ = linux::process::run_promptly();
    }
    let dial = Arc::new(dial);
    let clients = connect(plan, &dial, lanes, reporter).await?;
    let window = Window::new(Instant::now() + HEAD_START, plan.warm_up(), plan.duration());
    let shared = Arc::new(Shared {
        dial,
        recorder: Mutex::new(Recorder::new(window)),
        timeout: plan.timeout(),
        keep_alive: lanes.keep_alive,
        give_up: window.end + plan.timeout(),
    });
    let mut running = JoinSet::new();
    for (lane, client) in (0..lanes.count).zip(clients) {
        let arrivals = Arrivals::new(window, lanes.pace, lane, lanes.count);
        running.spawn(lane::run(shared.clone(), lane, client, arrivals));
    }
    let cpu = measure(window, reporter).await?;
    while let Some(ended) = running.join_next().await {
        ended.map_err(io::Error::other)??;
    }
    let overtime_s = window.end.elapsed().as_secs_f64();
    let mut recorder = shared.recorder.lock().unwrap_or_else(PoisonError::into_inner);
    let recorder = std::mem::replace(&mut *recorder, Recorder::new(window));
    Ok(Outcome { cpu, overtime_s, ..recorder.outcome() })
}

/// One client for each lane, or none for a lane whose connection could not be made: it tries again when something is due.
async fn connect<D: Dial>(
    plan: &Plan,
    dial: &Arc<D>,
    lanes: Lanes,
    reporter: &Reporter,
) -> Result<Vec<Option<D::Client>>, LoadError> {
    // Where connections are made anew for each request, one that is let go again tells whether anybody is there.
    let count = if lanes.keep_alive { lanes.count } else { 1 };
    let mut attempts = JoinSet::new();
    for lane in 0..count {
        let (dial, limit) = (dial.clone(), plan.timeout());
        attempts.spawn(async move { timeout(limit, dial.dial(lane)).await.unwrap_or(Err(Failure::Timeout)) });
    }
    let (mut clients, mut reason) = (Vec::new(), Failure::Connect);
    while let Some(attempt) = attempts.join_next().await {
        match attempt.map_err(io::Error::other)? {
            Ok(client) => {
                reporter.opened();
                clients.push(Some(client));
            }
            Err(failure) => reason = failure,
        }
    }
    if clients.is_empty() {
        return Err(LoadError::Connect { target: plan.target, reason });
    }
    if !lanes.keep_alive {
        clients.clear();
    }
    clients.resize_with(lanes.count as usize, || None);
    Ok(clients)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Kind;
    use crate::server::{Options, Server};

    #[tokio::test]
    async fn sends_are_late_when_the_generator_gets_no_processor() {
        let server = Server::bind(&Options::new(([127, 0, 0, 1], 0).into())).unwrap();
        let target = server.address();
        tokio::spawn(server.serve(std::future::pending()));
        // What would be another program on the generator's processor: half of all time is its own.
        const TURN: Duration = Duration::from_millis(20);
        tokio::spawn(async {
            loop {
                let end = Instant::now() + TURN;
                while Instant::now() < end {
                    std::hint::spin_loop();
                }
                tokio::time::sleep(TURN).await;
            }
        });
        let mut load =
            Connections { protocol: Protocol::Http1, in_flight: 8, pace: Pace::Fixed { rate: 500.0 } }.requests();
        load.keep_alive = true;
        let plan =
            Plan { target, kind: Kind::Requests(load.clone()), warm_up_ms: 0, duration_ms: 600, timeout_ms: 10_000 };
        let (reporter, _progress) = Reporter::new();
        let outcome = requests(&plan, &load, &reporter).await.unwrap();
        assert_eq!((outcome.sent, outcome.answered), (300, 300));
        assert!(outcome.late_share > 0.25, "{outcome:?}");
        let reason = outcome.invalid.unwrap();
        assert!(reason.ends_with("of the sends were more than 1 ms late: the generator was too slow"), "{reason}");
    }
}
