//! Measurements as plans of the load generator, and its outcomes as numbers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use load::{Bulk, Connections, Direction, Idle, Kind, Outcome, Pace, Plan, Requests};

use crate::metric::{Measurement, Metric};
use crate::settings::{Case, Protocol, Settings};

/// How long load runs before it is counted, as a part of the counted time.
const WARM_UP: u32 = 6;

/// How long an answer may take, with connecting where that is needed, in milliseconds.
const TIMEOUT_MS: u64 = 5_000;

/// What a proxy that reads some protocols has to be told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Port {
    /// HTTP, which some modes read.
    Http,
    /// Bytes, which none does.
    Bytes,
}

/// The load of one turn: what is measured, and what runs beside it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Turn {
    /// What is measured.
    pub(crate) main: (Port, Kind),
    /// What runs beside it, unmeasured but for its bytes.
    pub(crate) beside: Option<(Port, Kind)>,
}

/// The numbers of one round.
pub type Numbers = BTreeMap<Metric, f64>;

impl Turn {
    /// The load of a measurement.
    #[must_use]
    pub(crate) fn of(measurement: Measurement, case: Case, settings: &Settings) -> Self {
        let alone = |main| Self { main, beside: None };
        let rate = f64::from(settings.rate);
        let bulk = |streams| (Port::Bytes, Kind::Bulk(Bulk { streams, direction: Direction::Upload }));
        match measurement {
            Measurement::Rate => alone(requests(case, settings, Pace::Fixed { rate })),
            Measurement::Saturation | Measurement::Syscalls => alone(requests(case, settings, Pace::Saturation)),
            Measurement::Connections => alone(connections(case)),
            Measurement::Bulk1 => alone(bulk(1)),
            Measurement::Bulk4 => alone(bulk(4)),
            Measurement::Bulk64 => alone(bulk(64)),
            Measurement::Idle => alone((Port::Bytes, Kind::Idle(Idle { connections: settings.idle_connections }))),
            Measurement::Mixed => Self {
                main: requests(case, settings, Pace::Fixed { rate: (rate / 2.0).max(0.1) }),
                beside: Some(bulk(1)),
            },
        }
    }
}

/// How long the load of one turn runs.
pub(crate) fn turn_time(settings: &Settings) -> Duration {
    settings.duration + settings.duration / WARM_UP
}

/// A plan for a part of a turn, against the server at `target`.
#[must_use]
pub(crate) fn plan(kind: Kind, target: SocketAddr, settings: &Settings) -> Plan {
    let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let warm_up = settings.duration / WARM_UP;
    Plan {
        target,
        kind,
        warm_up_ms: milliseconds(warm_up),
        duration_ms: milliseconds(settings.duration),
        timeout_ms: TIMEOUT_MS,
    }
}

fn requests(case: Case, settings: &Settings, pace: Pace) -> (Port, Kind) {
    let (port, protocol) = match case.protocol {
        Protocol::Http1 => (Port::Http, load::Protocol::Http1),
        Protocol::H2 => (Port::Http, load::Protocol::Http2),
        Protocol::Grpc => (Port::Http, load::Protocol::Grpc),
        Protocol::Tcp => (Port::Bytes, load::Protocol::Tcp),
    };
    let smallest = Requests::new(protocol, case.connections, pace);
    let requests = Requests { request_bytes: settings.request, response_bytes: settings.payload, ..smallest };
    (port, Kind::Requests(requests))
}

fn connections(case: Case) -> (Port, Kind) {
    let (port, protocol) = match case.protocol {
        Protocol::Tcp => (Port::Bytes, load::Protocol::Tcp),
        _ => (Port::Http, load::Protocol::Http1),
    };
    (port, Kind::Connections(Connections { protocol, in_flight: case.connections, pace: Pace::Saturation }))
}

/// What the generator itself measured.
///
/// # Errors
/// Why none of it may be used.
pub(crate) fn numbers(
    measurement: Measurement,
    outcome: &Outcome,
    beside: Option<&Outcome>,
) -> Result<Numbers, String> {
    for outcome in [Some(outcome), beside].into_iter().flatten() {
        if let Some(reason) = &outcome.invalid {
            return Err(reason.clone());
        }
    }
    let latency = || outcome.latency.as_ref().map(|found| found.summary).ok_or("there were no answers");
    let gbps = |outcome: &Outcome| outcome.bulk.map(|bulk| bulk.bits_per_second / 1e9).ok_or("there were no streams");
    Ok(match measurement {
        Measurement::Rate => {
            let found = latency()?;
            [(Metric::P50, found.p50_us), (Metric::P90, found.p90_us), (Metric::P99, found.p99_us)].into()
        }
        Measurement::Saturation => [(Metric::MaxRps, outcome.rate)].into(),
        Measurement::Connections => [(Metric::ConnsPerS, outcome.rate)].into(),
        Measurement::Bulk1 => [(Metric::Bulk, gbps(outcome)?)].into(),
        Measurement::Bulk4 => [(Metric::Bulk4, gbps(outcome)?)].into(),
        Measurement::Bulk64 => [(Metric::Bulk64, gbps(outcome)?)].into(),
        Measurement::Mixed => {
            let (found, bulk) = (latency()?, gbps(beside.ok_or("nothing ran beside")?)?);
            [(Metric::MixedP50, found.p50_us), (Metric::MixedP99, found.p99_us), (Metric::MixedGbps, bulk)].into()
        }
        Measurement::Idle | Measurement::Syscalls => Numbers::new(),
    })
}

/// Requests, connections or bits per second: what the work of proxies is divided by.
#[must_use]
pub(crate) fn work(measurement: Measurement, outcome: &Outcome) -> f64 {
    if measurement.is_bulk() { outcome.bulk.map_or(0.0, |bulk| bulk.bits_per_second) } else { outcome.rate }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::settings;

    const CASE: Case = Case { protocol: Protocol::Http1, connections: 16 };

    #[test]
    fn every_measurement_is_a_plan_that_makes_sense() {
        let settings = settings();
        for protocol in Protocol::ALL {
            for measurement in Measurement::ALL {
                let turn = Turn::of(measurement, Case { protocol, ..CASE }, &settings);
                for (_, kind) in [Some(turn.main), turn.beside].into_iter().flatten() {
                    plan(kind, "10.244.2.2:8080".parse().unwrap(), &settings).check().unwrap();
                }
            }
        }
    }

    #[test]
    fn bytes_that_are_no_http_never_go_to_a_port_that_is_read() {
        for measurement in Measurement::ALL {
            let turn = Turn::of(measurement, CASE, &settings());
            for (port, kind) in [Some(turn.main), turn.beside].into_iter().flatten() {
                let is_http = matches!(kind, Kind::Requests(_) | Kind::Connections(_));
                assert_eq!(port == Port::Http, is_http, "{measurement}");
            }
        }
    }

    #[test]
    fn an_invalid_outcome_gives_no_number() {
        let late = Outcome { invalid: Some("2.1 % of the sends were late".to_owned()), ..Outcome::default() };
        assert_eq!(numbers(Measurement::Saturation, &late, None).unwrap_err(), "2.1 % of the sends were late");
        let fine = Outcome { rate: 100.0, sent: 100, answered: 100, ..Outcome::default() };
        assert_eq!(numbers(Measurement::Saturation, &fine, None).unwrap(), [(Metric::MaxRps, 100.0)].into());
        assert!(numbers(Measurement::Rate, &fine, None).is_err());
        assert!(numbers(Measurement::Mixed, &fine, Some(&late)).is_err());
    }
}
