//! Rounds on a stage that answers at once.

use std::cell::RefCell;

use load::{Bulk, BulkOutcome, Kind, Latencies};

use super::*;
use crate::settings::Protocol;

/// Answers at once; notes what it was asked for.
#[derive(Default)]
struct Scripted {
    asked: RefCell<Vec<(Mode, Kind)>>,
    refuses: Option<Mode>,
    late: Option<Mode>,
    /// Tunnels by connection, in the client's pod.
    tunnels: u64,
}

impl Stage for Scripted {
    fn target(&self, _mode: Mode, port: Port) -> SocketAddr {
        let port = if port == Port::Http { 80 } else { 9000 };
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn proxies(&self, _mode: Mode) -> io::Result<Vec<Process>> {
        Ok(Vec::new())
    }

    fn opened(&self, mode: Mode) -> io::Result<Option<Opened>> {
        let connections = 100 * self.asked.borrow().iter().filter(|(asked, _)| *asked == mode).count() as u64;
        Ok(Some(Opened { active: connections * (1 + self.tunnels), passive: connections }))
    }

    async fn run(&self, mode: Mode, plan: &Plan) -> Result<Outcome, String> {
        self.asked.borrow_mut().push((mode, plan.kind.clone()));
        if self.refuses == Some(mode) {
            return Err("no such pod".to_owned());
        }
        let invalid = (self.late == Some(mode)).then(|| "1.5 % of the sends were late".to_owned());
        let mut histogram = load::Histogram::new();
        histogram.record(Duration::from_micros(100));
        let latency = Latencies { summary: histogram.summary(), histogram };
        let bulk = BulkOutcome { bytes: 1, bits_per_second: 8e9, broken: 0 };
        Ok(Outcome {
            invalid,
            sent: 1,
            answered: 1,
            rate: 1000.0,
            latency: Some(latency),
            bulk: Some(bulk),
            ..Outcome::default()
        })
    }
}

fn settings() -> Settings {
    Settings {
        modes: vec![Mode::None, Mode::AmbientL4, Mode::Sidecar],
        measurements: vec![Measurement::Rate, Measurement::Bulk1],
        connections: vec![16],
        rounds: 2,
        ..crate::settings::tests::settings()
    }
}

#[tokio::test]
async fn modes_take_turns_in_every_round() {
    let stage = Scripted::default();
    let mut seen = Vec::new();
    let records = run(&stage, &settings(), &mut |at| seen.push((at.round, at.measurement, at.mode, at.total))).await;
    let [a, b, c] = [Mode::None, Mode::AmbientL4, Mode::Sidecar];
    let order: Vec<Mode> = stage.asked.borrow().iter().map(|(mode, _)| *mode).collect();
    assert_eq!(order, [a, b, c, a, b, c, a, b, c, a, b, c]);
    assert_eq!(seen[0], (1, Measurement::Rate, a, 12));
    assert_eq!(seen[11], (2, Measurement::Bulk1, c, 12));
    assert_eq!(planned(&settings()), (12, Duration::from_millis(12 * 1400)));
    for record in records {
        assert_eq!(record.series(Metric::Bulk), [Some(8.0), Some(8.0)]);
        let p50 = record.series(Metric::P50);
        assert!(p50.iter().all(|one| one.is_some_and(|us| (us - 100.0).abs() < 1.0)), "{p50:?}");
        assert_eq!((record.case.protocol, record.invalid), (Protocol::Http1, vec![]));
    }
}

#[tokio::test]
async fn a_mode_that_fails_spoils_no_other_and_is_given_up() {
    let stage = Scripted { refuses: Some(Mode::AmbientL4), ..Scripted::default() };
    let settings = Settings { rounds: 6, ..settings() };
    let records = run(&stage, &settings, &mut |_| {}).await;
    let asked = stage.asked.borrow().iter().filter(|(mode, _)| *mode == Mode::AmbientL4).count();
    assert_eq!(asked, MOST_FAILURES, "nobody waits for it any more");
    let [none, ambient, sidecar] = records.as_slice() else { panic!("{records:?}") };
    assert!(none.invalid.is_empty() && sidecar.invalid.is_empty());
    assert_eq!(ambient.invalid.len(), 12);
    assert_eq!(ambient.invalid[0].reason, "no such pod");
    assert_eq!(ambient.invalid[11].reason, "given up after 3 failures in a row: no such pod");
    assert_eq!(ambient.series(Metric::P50), [None; 6]);
}

#[tokio::test]
async fn late_sends_give_a_reason_and_no_number() {
    let stage = Scripted { late: Some(Mode::None), ..Scripted::default() };
    let settings = Settings { rounds: 6, ..settings() };
    let records = run(&stage, &settings, &mut |_| {}).await;
    assert_eq!(records[0].series(Metric::P50), [None; 6]);
    assert_eq!(records[0].invalid[0].reason, "1.5 % of the sends were late");
    assert_eq!(stage.asked.borrow().len(), 36, "late is no failure: the next round may be better");
    assert!(records[1].series(Metric::P50).iter().all(Option::is_some));
}

#[tokio::test]
async fn a_cold_mode_is_valid_only_with_a_handshake_for_each_connection() {
    let modes = vec![Mode::None, Mode::AmbientL4, Mode::AmbientL4Cold];
    let settings = Settings { modes, measurements: vec![Measurement::Connections], ..settings() };
    for (tunnels, is_cold) in [(1, true), (0, false)] {
        let stage = Scripted { tunnels, ..Scripted::default() };
        let records = run(&stage, &settings, &mut |_| {}).await;
        let [none, warm, cold] = records.as_slice() else { panic!("{records:?}") };
        assert!(none.invalid.is_empty() && warm.invalid.is_empty(), "they promise nothing");
        let each = [none, warm, cold].map(|one| one.series(Metric::HandshakesPerConnection)[0]);
        let made = Some(if is_cold { 1.0 } else { 0.0 });
        assert_eq!(each, [None, made, made.filter(|_| is_cold)]);
        assert_eq!(cold.series(Metric::ConnsPerS)[0].is_some(), is_cold);
        let why = cold.invalid.first().map(|invalid| invalid.reason.as_str());
        assert_eq!(why, (!is_cold).then_some("0 handshakes for 100 connections, expected one for each"));
    }
}

#[tokio::test]
async fn idle_connections_come_once_and_before_all_load() {
    let stage = Scripted::default();
    let measurements = vec![Measurement::Rate, Measurement::Idle];
    let settings = Settings { measurements, modes: vec![Mode::None, Mode::Sidecar], ..settings() };
    run(&stage, &settings, &mut |_| {}).await;
    let asked = stage.asked.borrow();
    let idle: Vec<bool> = asked.iter().map(|(_, kind)| matches!(kind, Kind::Idle(_))).collect();
    assert_eq!(idle, [true, true, false, false, false, false]);
}

#[tokio::test]
async fn bulk_runs_beside_the_requests_that_are_mixed_with_it() {
    let stage = Scripted::default();
    let settings = Settings { measurements: vec![Measurement::Mixed], rounds: 1, ..settings() };
    let records = run(&stage, &settings, &mut |_| {}).await;
    let asked = stage.asked.borrow();
    let [(_, requests), (_, bulk), ..] = asked.as_slice() else { panic!("{asked:?}") };
    assert!(matches!(requests, Kind::Requests(_)));
    assert!(matches!(bulk, Kind::Bulk(Bulk { streams: 1, .. })));
    assert_eq!(records[0].series(Metric::MixedGbps), [Some(8.0)]);
}
