//! Open-loop load: a new connection per request at a steady rate, without retries; every request is accounted for.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

pub use super::tally::Percentiles;
use super::tally::{Failures, Histogram};
use crate::EchoError;

/// Requests under way at a time; a request beyond that is counted as failed rather than delayed.
const MAX_IN_FLIGHT: usize = 2048;

/// Highest rate that is accepted, per second.
const MAX_RATE: u32 = 20_000;

/// What to send, and for how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// `http://host:port/path`; the name is looked up once, at the start.
    pub url: String,
    /// Requests per second, 1 to 20,000.
    pub rate: u32,
    /// End after this time; `None` sends until the caller's `stop` resolves.
    pub duration: Option<Duration>,
    /// A request that takes longer has failed.
    pub timeout: Duration,
    /// Headers of each request, in order.
    pub headers: Vec<(String, String)>,
}

/// What became of the requests.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Where they went.
    pub target: String,
    /// Requests begun.
    pub sent: u64,
    /// Requests answered whole with a status 200–299.
    pub ok: u64,
    /// All others.
    pub failed: u64,
    /// The failed ones by reason.
    pub reasons: BTreeMap<String, u64>,
    /// When the first 64 failed requests began, in milliseconds since the start.
    pub failed_at_ms: Vec<u64>,
    /// Time of the successful requests, connection set-up included.
    pub latency_ms: Percentiles,
    /// From the first request's begin to the last one's end.
    pub seconds: f64,
    /// For how long requests were begun: what `sent` must be divided by for the rate.
    pub sending_seconds: f64,
}

#[derive(Debug)]
struct Plan {
    address: SocketAddr,
    timeout: Duration,
    request: Request<()>,
}

/// What one request came to: when it began, how long it took, why it failed.
type Outcome = (Instant, Duration, Result<(), String>);

/// Sends until the duration is over or `stop` resolves, then waits for what is under way; `started` is called once the
/// target's address is known.
///
/// # Errors
/// Only for options that make no sense and for a name without address: a request's failure is part of the report.
pub async fn run(
    options: &Options,
    started: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()>,
) -> Result<Report, EchoError> {
    let plan = Arc::new(plan(options).await?);
    started(plan.address);
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / options.rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut end = std::pin::pin!(super::ended(options.duration, stop));
    let mut requests = JoinSet::new();
    let mut tally = Tally::new(start);
    loop {
        tokio::select! {
            biased;
            () = &mut end => break,
            Some(outcome) = requests.join_next() => tally.take(outcome),
            _ = ticks.tick() => {
                tally.sent += 1;
                if requests.len() < MAX_IN_FLIGHT {
                    requests.spawn(timed(Arc::clone(&plan)));
                } else {
                    let reason = format!("not sent: {MAX_IN_FLIGHT} requests under way");
                    tally.failures.record(reason, start.elapsed());
                }
            }
        }
    }
    tally.sending = start.elapsed();
    while let Some(outcome) = requests.join_next().await {
        tally.take(outcome);
    }
    Ok(tally.report(plan.address))
}

async fn plan(options: &Options) -> Result<Plan, EchoError> {
    let invalid = |why: String| EchoError::Invalid(why);
    if !(1..=MAX_RATE).contains(&options.rate) {
        return Err(invalid(format!("rate {} is not between 1 and {MAX_RATE} per second", options.rate)));
    }
    let url: Uri = options.url.parse().map_err(|error| invalid(format!("{:?} is not a URL: {error}", options.url)))?;
    let (Some("http"), Some(authority)) = (url.scheme_str(), url.authority()) else {
        return Err(invalid(format!("{:?} is not of the form http://host:port/path", options.url)));
    };
    let target = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
    let address = super::resolve(&target).await?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::get(path).header(header::HOST, authority.as_str()).header(header::CONNECTION, "close");
    for (name, value) in &options.headers {
        request = request.header(name, value);
    }
    let request = request.body(()).map_err(|error| invalid(format!("a header is not valid: {error}")))?;
    Ok(Plan { address, timeout: options.timeout, request })
}

async fn timed(plan: Arc<Plan>) -> Outcome {
    let begun = Instant::now();
    let outcome = tokio::time::timeout(plan.timeout, one(&plan)).await.unwrap_or_else(|_| Err("timed out".to_owned()));
    (begun, begun.elapsed(), outcome)
}

/// One request on a connection of its own.
async fn one(plan: &Plan) -> Result<(), String> {
    let stream = TcpStream::connect(plan.address).await.map_err(|error| format!("connect: {}", error.kind()))?;
    // Failure only costs latency.
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| reason("handshake", &error))?;
    let exchange = async {
        let (parts, ()) = plan.request.clone().into_parts();
        let request = Request::from_parts(parts, Empty::<Bytes>::new());
        let mut response = sender.send_request(request).await.map_err(|error| reason("request", &error))?;
        while let Some(frame) = response.frame().await {
            frame.map_err(|error| reason("body", &error))?;
        }
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(format!("status {}", status.as_u16())) }
    };
    // The connection is driven beside the exchange; when it ends first, the exchange still has to say how.
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        done = exchange.as_mut() => return done,
        _ = connection => {}
    }
    exchange.await
}

/// The innermost cause says more than hyper's own words.
fn reason(step: &str, error: &hyper::Error) -> String {
    match error.source() {
        Some(cause) => match cause.downcast_ref::<std::io::Error>() {
            Some(cause) => format!("{step}: {}", cause.kind()),
            None => format!("{step}: {cause}"),
        },
        None => format!("{step}: {error}"),
    }
}

#[derive(Debug)]
struct Tally {
    start: Instant,
    sending: Duration,
    sent: u64,
    ok: u64,
    times: Histogram,
    failures: Failures,
}

impl Tally {
    fn new(start: Instant) -> Self {
        Self {
            start,
            sending: Duration::ZERO,
            sent: 0,
            ok: 0,
            times: Histogram::default(),
            failures: Failures::default(),
        }
    }

    fn take(&mut self, outcome: Result<Outcome, tokio::task::JoinError>) {
        match outcome {
            Ok((_, took, Ok(()))) => {
                self.ok += 1;
                self.times.record(took);
            }
            Ok((begun, _, Err(reason))) => self.failures.record(reason, begun.duration_since(self.start)),
            Err(error) => self.failures.record(format!("client: {error}"), self.start.elapsed()),
        }
    }

    fn report(self, target: SocketAddr) -> Report {
        Report {
            target: target.to_string(),
            sent: self.sent,
            ok: self.ok,
            failed: self.failures.total,
            reasons: self.failures.reasons,
            failed_at_ms: self.failures.moments_ms,
            latency_ms: self.times.percentiles(),
            seconds: self.start.elapsed().as_secs_f64(),
            sending_seconds: self.sending.as_secs_f64(),
        }
    }
}
