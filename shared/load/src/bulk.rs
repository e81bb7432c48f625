//! Bulk streams: as many bytes as the path carries, counted where they arrive.
//!
//! Bytes that come down are counted here. Bytes that go up are counted by the server, which reports every 20 ms how many
//! it has by its own clock; the clocks are laid over each other by the report that travelled fastest.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::client::{broken, connect};
use crate::outcome::{Bulk as Carried, Failure, Outcome};
use crate::plan::{Bulk, Direction, Plan};
use crate::preamble::{CHUNK, Purpose, REPORT_EVERY, decode_report};
use crate::run::{LoadError, Reporter};
use crate::schedule::Window;
use crate::usage::measure;

/// Streams that run until they are dropped.
#[derive(Debug)]
pub(crate) struct Streams {
    direction: Direction,
    streams: Vec<Arc<Stream>>,
    /// One for each stream; dropped, they end.
    _running: JoinSet<()>,
}

/// What is known of one stream.
#[derive(Debug, Default)]
struct Stream {
    /// Bytes that came down.
    received: AtomicU64,
    /// What the server reported.
    reports: Mutex<Vec<Report>>,
    is_broken: AtomicBool,
}

/// The server had `bytes` when its connection was `age` old, and that was known here at `at`.
#[derive(Debug, Clone, Copy)]
struct Report {
    at: Instant,
    age: Duration,
    bytes: u64,
}

/// Carries out a plan of nothing else.
pub(crate) async fn bulk(plan: &Plan, bulk: &Bulk, reporter: &Reporter) -> Result<Outcome, LoadError> {
    let streams = Streams::open(plan, bulk, reporter).await?;
    let window = Window::new(Instant::now(), plan.warm_up(), plan.duration());
    let (cpu, carried) = tokio::join!(measure(window, reporter), streams.carried(window));
    let invalid = complaint(bulk, carried);
    let elapsed_s = window.length().as_secs_f64();
    Ok(Outcome { cpu: cpu?, bulk: Some(carried), invalid, elapsed_s, ..Outcome::default() })
}

/// Why what was carried is no measurement.
pub(crate) fn complaint(bulk: &Bulk, carried: Carried) -> Option<String> {
    match carried {
        Carried { broken: 1.., .. } => Some(format!("{} of {} bulk streams broke", carried.broken, bulk.streams)),
        Carried { bytes: 0, .. } => Some("no byte of the bulk streams arrived".to_owned()),
        _ => None,
    }
}

impl Streams {
    /// Connects all of them; they run at once.
    pub(crate) async fn open(plan: &Plan, bulk: &Bulk, reporter: &Reporter) -> Result<Self, LoadError> {
        let mut streams = Vec::new();
        let mut running = JoinSet::new();
        for _ in 0..bulk.streams {
            let opened = timeout(plan.timeout(), open(plan.target, bulk.direction)).await;
            let connection = opened
                .unwrap_or(Err(Failure::Timeout))
                .map_err(|reason| LoadError::Connect { target: plan.target, reason })?;
            reporter.opened();
            let stream = Arc::new(Stream::default());
            streams.push(stream.clone());
            let direction = bulk.direction;
            running.spawn(async move {
                match direction {
                    Direction::Upload => stream.upload(connection).await,
                    Direction::Download => stream.download(connection).await,
                }
                // Neither ends by itself.
                stream.is_broken.store(true, Ordering::Relaxed);
            });
        }
        Ok(Self { direction: bulk.direction, streams, _running: running })
    }

    /// Waits until `window` is over and tells what was carried in it.
    pub(crate) async fn carried(&self, window: Window) -> Carried {
        sleep_until(window.measured_from).await;
        let (from, before) = (Instant::now(), self.received());
        sleep_until(window.end).await;
        let (to, after) = (Instant::now(), self.received());
        let broken = self.streams.iter().filter(|stream| stream.is_broken.load(Ordering::Relaxed)).count();
        let (bytes, time) = match self.direction {
            Direction::Download => ((after - before) as f64, to - from),
            Direction::Upload => {
                // The next report says what had arrived by then.
                sleep_until(window.end + 3 * REPORT_EVERY).await;
                let carried =
                    |stream: &Arc<Stream>| stream.uploaded(window.end) - stream.uploaded(window.measured_from);
                let bytes: f64 = self.streams.iter().map(carried).sum();
                (bytes, window.length())
            }
        };
        let bits_per_second = bytes * 8.0 / time.as_secs_f64();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast from a float saturates")]
        let bytes = bytes.round() as u64;
        Carried { bytes, bits_per_second, broken: u32::try_from(broken).unwrap_or(u32::MAX) }
    }

    fn received(&self) -> u64 {
        self.streams.iter().map(|stream| stream.received.load(Ordering::Relaxed)).sum()
    }
}

async fn open(target: SocketAddr, direction: Direction) -> Result<TcpStream, Failure> {
    let mut connection = connect(target).await?;
    let purpose = match direction {
        Direction::Upload => Purpose::Upload,
        Direction::Download => Purpose::Download,
    };
    connection.write_all(&purpose.encode()).await.map_err(|error| broken(&error))?;
    Ok(connection)
}

impl Stream {
    async fn download(&self, mut connection: TcpStream) {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = connection.read(&mut buffer).await {
            self.received.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// Ends when either way ends.
    async fn upload(&self, connection: TcpStream) {
        let (mut reader, mut writer) = connection.into_split();
        let chunk = vec![b'.'; CHUNK];
        let send = async { while writer.write_all(&chunk).await.is_ok() {} };
        let listen = async {
            while let Ok(report) = reader.read_u128().await {
                let (nanos, bytes) = decode_report(report);
                let report = Report { at: Instant::now(), age: Duration::from_nanos(nanos), bytes };
                self.reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
            }
        };
        tokio::select! {
            () = send => {}
            () = listen => {}
        }
    }

    fn uploaded(&self, at: Instant) -> f64 {
        arrived(&self.reports.lock().unwrap_or_else(PoisonError::into_inner), at)
    }
}

/// How many bytes had arrived at `at`, between two reports in proportion to the time.
fn arrived(reports: &[Report], at: Instant) -> f64 {
    // When the connection began, by the clock here: no report travels in less than no time.
    let Some(began) = reports.iter().filter_map(|report| report.at.checked_sub(report.age)).min() else { return 0.0 };
    let age = at.saturating_duration_since(began).as_secs_f64();
    let mut last = (0.0, 0.0);
    for report in reports {
        let next = (report.age.as_secs_f64(), report.bytes as f64);
        if next.0 >= age {
            let part = if next.0 > last.0 { (age - last.0) / (next.0 - last.0) } else { 0.0 };
            return last.1 + part * (next.1 - last.1);
        }
        last = next;
    }
    last.1
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_had_arrived_is_read_between_two_reports() {
        let began = Instant::now();
        // The second report travelled a millisecond longer than the others.
        let report = |age: u32, travel: Duration, bytes| Report { at: began + MS * age + travel, age: MS * age, bytes };
        let reports = [report(20, MS, 1000), report(40, 2 * MS, 3000), report(60, MS, 3500)];
        let at = |ms: u32| arrived(&reports, began + MS + MS * ms).round();
        assert_eq!(
            [at(0), at(10), at(20), at(30), at(40), at(50), at(60)],
            [0., 500., 1000., 2000., 3000., 3250., 3500.]
        );
        assert_eq!(at(90), 3500.0, "nothing arrived after the last report");
        assert_eq!(arrived(&[], began), 0.0);
    }
}
