//! A fixed result, for tests of what is made of it.

use std::collections::BTreeMap;

use serde_json::json;

use crate::envoy::{Handshakes, Tls};
use crate::load_plan::Numbers;
use crate::machine::{Ground, Machine};
use crate::metric::{Measurement, Metric};
use crate::mode::Mode;
use crate::results::{Circumstances, EnvoyFile, LeftOut, Results};
use crate::session::{Invalid, Record};
use crate::settings::{Case, Protocol, Settings};

pub(crate) fn settings() -> Settings {
    Settings {
        modes: vec![Mode::None, Mode::AmbientL4, Mode::Sidecar],
        connections: vec![16],
        ..crate::settings::tests::settings()
    }
}

/// Numbers of six rounds that differ a little.
fn rounds(base: &[(Metric, f64)]) -> Vec<Numbers> {
    let factor = |round: usize| [1.0, 1.02, 0.99, 1.01, 0.98, 1.03][round];
    (0..6).map(|round| base.iter().map(|(metric, number)| (*metric, number * factor(round))).collect()).collect()
}

fn record(mode: Mode, base: &[(Metric, f64)], proxies: &[&str]) -> Record {
    let (of_proxies, _): (Vec<_>, Vec<_>) = base.iter().partition(|(metric, _)| metric.is_of_proxies());
    let half: Vec<(Metric, f64)> = of_proxies.iter().map(|(metric, number)| (*metric, number / 2.0)).collect();
    Record {
        mode,
        case: Case { protocol: Protocol::Http1, connections: 16 },
        rounds: rounds(base),
        proxies: proxies.iter().map(|name| ((*name).to_owned(), rounds(&half))).collect::<BTreeMap<_, _>>(),
        invalid: Vec::new(),
        failed: 0,
    }
}

/// The numbers of the three modes.
pub(crate) fn records() -> Vec<Record> {
    let none = [
        (Metric::P50, 100.0),
        (Metric::P90, 140.0),
        (Metric::P99, 210.0),
        (Metric::MaxRps, 210_000.0),
        (Metric::ConnsPerS, 38_000.0),
        (Metric::Bulk, 17.2),
        (Metric::Bulk4, 29.0),
    ];
    let ambient = [
        (Metric::P50, 246.0),
        (Metric::P90, 320.0),
        (Metric::P99, 480.0),
        (Metric::MaxRps, 55_000.0),
        (Metric::ConnsPerS, 5_600.0),
        (Metric::Bulk, 8.6),
        (Metric::Bulk4, 9.1),
        (Metric::CpuPerRequest, 24.0),
        (Metric::CpuPerRequestAtRate, 150.0),
        (Metric::CpuPerThousand, 0.024),
        (Metric::CpuPerConnection, 230.0),
        (Metric::HandshakesPerConnection, 0.02),
        (Metric::CpuPerGbit, 0.18),
        (Metric::CpuPerGbyte, 1.44),
        (Metric::Rss, 24_576.0),
        (Metric::RssAtRate, 24_000.0),
        (Metric::SwitchesPerRequest, 2.5),
        (Metric::SyscallsPerRequest, 6.5),
    ];
    let sidecar = [
        (Metric::P50, 540.0),
        (Metric::P90, 700.0),
        (Metric::P99, 1_100.0),
        (Metric::ConnsPerS, 7_000.0),
        (Metric::Bulk, 8.0),
        (Metric::Bulk4, 6.3),
        (Metric::CpuPerRequestAtRate, 400.0),
        (Metric::CpuPerConnection, 200.0),
        (Metric::HandshakesPerConnection, 0.0),
        (Metric::CpuPerGbit, 0.2),
        (Metric::CpuPerGbyte, 1.6),
        (Metric::RssAtRate, 82_000.0),
    ];
    let mut records = vec![
        record(Mode::None, &none, &[]),
        record(Mode::AmbientL4, &ambient, &["ztunnel-node-1", "ztunnel-node-2"]),
        record(Mode::Sidecar, &sidecar, &["envoy (client)", "envoy (server)"]),
    ];
    // As a loaded machine does it: one round of a mode is lost, and one measurement as a whole.
    records[1].rounds[2].remove(&Metric::P50);
    records[1].invalid.push(Invalid {
        round: 3,
        measurement: Measurement::Rate,
        reason: "2.1 % of the sends were late".to_owned(),
    });
    records[2].invalid = (1..=6)
        .map(|round| Invalid { round, measurement: Measurement::Saturation, reason: "no answer in time".to_owned() })
        .collect();
    records
}

pub(crate) fn results() -> Results {
    results_of(&records())
}

/// What is made of these records.
pub(crate) fn results_of(records: &[Record]) -> Results {
    let handshakes = |side: &str| {
        (format!("envoy ({side})"), Ok(Handshakes::read("listener.x.ssl.ciphers.TLS_AES_128_GCM_SHA256: 96")))
    };
    let said = ["client", "server"].map(handshakes).into();
    let circumstances = Circumstances {
        arguments: ["bench".to_owned()].into_iter().chain(settings().flags()).collect(),
        version: "0.1.0".to_owned(),
        date: "2026-01-02T03:04:05Z".to_owned(),
        ground: Ground::Lab(Machine {
            kernel: "6.1.0".to_owned(),
            processor: "Some CPU".to_owned(),
            cpus: 2,
            memory_mb: 8_000,
            aes: true,
            virtual_machine: true,
        }),
        conditions: vec!["lab of two nodes <on> this machine".to_owned()],
        proxies_unseen: None,
        tls: [(Mode::Sidecar, Tls::judge(said))].into(),
        left_out: vec![LeftOut {
            mode: Mode::AmbientL7,
            reason: "there is no Envoy on PATH".to_owned(),
            advice: "add --install-envoy".to_owned(),
        }],
        envoy: vec![EnvoyFile {
            role: "sidecar: the client's".to_owned(),
            command: "envoy -c client.json".to_owned(),
            configuration: json!({"static_resources": {"listeners": []}}),
        }],
    };
    Results::new(records, &settings(), circumstances)
}

/// Compares with a golden file; a difference is written beside the build for a look, and to be taken over if it is meant.
pub(crate) fn assert_golden(name: &str, golden: &str, found: &str) {
    if golden != found {
        let path = std::env::temp_dir().join(format!("aquifer-bench-{name}"));
        std::fs::write(&path, found).unwrap();
        panic!("bench/golden/{name} differs; what was found is in {}", path.display());
    }
}
