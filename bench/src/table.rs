//! The report as text for a terminal.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::compare::Comparison;
use crate::envoy::Tls;
use crate::metric::{Measurement, Metric, Unit};
use crate::mode::Mode;
use crate::results::{ModeResult, PUBLISHED_SOURCE, Results};
use crate::settings::Settings;
use crate::statistics::{CONFIDENCE, FEWEST_ROUNDS};

/// What is shown of throughput and of what it costs, where anything was measured.
const COSTS: [Metric; 15] = [
    Metric::MaxRps,
    Metric::ConnsPerS,
    Metric::Bulk,
    Metric::Bulk4,
    Metric::Bulk64,
    Metric::CpuPerRequest,
    Metric::CpuPerConnection,
    Metric::HandshakesPerConnection,
    Metric::CpuPerGbit,
    Metric::SwitchesPerRequest,
    Metric::SyscallsPerRequest,
    Metric::Rss,
    Metric::RssIdle,
    Metric::KibPerIdleConnection,
    Metric::MixedP50,
];

/// The whole report.
#[must_use]
pub fn render(results: &Results, settings: &Settings) -> String {
    let mut text = format!("env: {}\n", results.ground);
    for condition in &results.conditions {
        let _ = writeln!(text, "     {condition}");
    }
    if settings.measurements.contains(&Measurement::Rate) {
        let _ = write!(text, "\n{}", aligned(&latency_rows(results, settings)));
    }
    let _ = write!(text, "\n{}", aligned(&cost_rows(results)));
    for mode in &results.modes {
        if let Some(reason) = &mode.reason {
            let _ = writeln!(text, "{}: {reason}", row_name(results, mode));
        }
    }
    for (mode, tls) in each_tls(results) {
        let _ = writeln!(text, "tls: {mode}: {tls}");
    }
    if let Some(why) = &results.proxies_unseen {
        let _ = writeln!(text, "no processor time and memory of proxies: {why}");
    }
    for left_out in &results.left_out {
        let _ = writeln!(text, "left out: {}: {}; {}", left_out.mode, left_out.reason, left_out.advice);
    }
    let _ = write!(text, "\n{}", verdicts(results));
    let _ = writeln!(text, "\nnot measured here, for context: {}", context(results));
    for verdict in &results.budgets {
        let word = if verdict.kept { "kept" } else { "VIOLATED" };
        let _ = writeln!(text, "budget {} {word}: {}", verdict.budget, verdict.found);
    }
    text
}

/// Latency at the fixed rate, and what the proxies use for it.
fn latency_rows(results: &Results, settings: &Settings) -> Vec<Vec<String>> {
    let percent = results.confidence * 100.0;
    let mut heading: Vec<String> = ["MODE", "QPS", "P50", "P90", "P99", "ΔP50 vs none"].map(str::to_owned).to_vec();
    heading.push(format!("ΔP99 ({percent:.0}% CI)"));
    let is_seen = results.proxies_unseen.is_none();
    if is_seen {
        heading.extend(["PROXY CPU", "PROXY RSS"].map(str::to_owned));
    }
    heading.push("ERR".to_owned());
    let mut rows = vec![heading];
    for mode in &results.modes {
        let find = |metric: Metric| mode.metrics.find(metric);
        let latency = |metric: Metric| match find(metric) {
            Some(found) => metric.unit().show(found.median),
            None if mode.valid => "–".to_owned(),
            None => "INVALID".to_owned(),
        };
        let cpu = find(Metric::CpuPerRequestAtRate)
            .map(|found| format!("{:.3} vCPU", found.median * f64::from(settings.rate) / 1e6));
        let rss = find(Metric::RssAtRate).map(|found| Unit::Kib.show(found.median));
        let mut row = vec![
            row_name(results, mode),
            settings.rate.to_string(),
            latency(Metric::P50),
            latency(Metric::P90),
            latency(Metric::P99),
            difference(results, mode, Metric::P50, false),
            difference(results, mode, Metric::P99, true),
        ];
        if is_seen {
            row.extend([cpu, rss].map(|cell| cell.unwrap_or_else(|| "–".to_owned())));
        }
        row.push(mode.errors.to_string());
        rows.push(row);
    }
    rows
}

/// How a mode differs from its baseline, in percent.
fn difference(results: &Results, mode: &ModeResult, metric: Metric, with_interval: bool) -> String {
    let Some(found) = results.against_baseline(mode, metric) else { return "–".to_owned() };
    let percent = found.difference.percent;
    let sign = if found.difference.significant { "" } else { " n.s." };
    if with_interval {
        format!("{:+.0}% ({:+.0}…{:+.0}%){sign}", percent.median, percent.low, percent.high)
    } else {
        format!("{:+.0}%{sign}", percent.median)
    }
}

/// Throughput and costs, with the part of the baseline's.
fn cost_rows(results: &Results) -> Vec<Vec<String>> {
    let is_there = |metric: &Metric| results.modes.iter().any(|mode| mode.metrics.find(*metric).is_some());
    let shown: Vec<Metric> = COSTS.into_iter().filter(is_there).collect();
    let mut heading = vec!["MODE".to_owned()];
    heading.extend(shown.iter().map(|metric| title(*metric).to_owned()));
    let mut rows = vec![heading];
    for mode in &results.modes {
        let mut row = vec![row_name(results, mode)];
        row.extend(shown.iter().map(|metric| cost(results, mode, *metric)));
        rows.push(row);
    }
    rows
}

fn cost(results: &Results, mode: &ModeResult, metric: Metric) -> String {
    let Some(found) = mode.metrics.find(metric) else {
        let is_invalid = mode.invalid_rounds.iter().any(|one| one.measurement == metric.measurement());
        return if is_invalid { "INVALID" } else { "–" }.to_owned();
    };
    let ratio = results.against_baseline(mode, metric).map(|one| format!(" ({:.2}x)", one.ratio.median));
    format!("{}{}", metric.unit().show(found.median), ratio.unwrap_or_default())
}

/// A column's heading.
pub(crate) fn title(metric: Metric) -> &'static str {
    match metric {
        Metric::P50 => "P50",
        Metric::P90 => "P90",
        Metric::P99 => "P99",
        Metric::MaxRps => "REQUESTS",
        Metric::Bulk => "BULK 1",
        Metric::Bulk4 => "BULK 4",
        Metric::Bulk64 => "BULK 64",
        Metric::ConnsPerS => "NEW CONNS",
        Metric::CpuPerRequest => "CPU/REQUEST",
        Metric::CpuPerRequestAtRate => "CPU/REQUEST AT RATE",
        Metric::CpuPerThousand => "CPU/1000 REQUESTS",
        Metric::CpuPerConnection => "CPU/CONN",
        Metric::HandshakesPerConnection => "HANDSHAKES/CONN",
        Metric::CpuPerGbit => "CPU/GBIT",
        Metric::CpuPerGbyte => "CPU/GB",
        Metric::Rss => "RSS",
        Metric::RssAtRate => "RSS AT RATE",
        Metric::RssIdle => "RSS IDLE",
        Metric::KibPerIdleConnection => "IDLE CONN",
        Metric::SwitchesPerRequest => "SWITCHES/REQ",
        Metric::SyscallsPerRequest => "SYSCALLS/REQ",
        Metric::MixedP50 => "P50 BESIDE BULK",
        Metric::MixedP99 => "P99 BESIDE BULK",
        Metric::MixedGbps => "BULK BESIDE",
    }
}

/// The mode, and its case where there are several.
pub(crate) fn row_name(results: &Results, mode: &ModeResult) -> String {
    let has_cases = results
        .modes
        .iter()
        .any(|one| one.mode == mode.mode && (one.protocol, one.connections) != (mode.protocol, mode.connections));
    if has_cases {
        format!("{} {}×{}", mode.mode, mode.protocol.name(), mode.connections)
    } else {
        mode.mode.to_string()
    }
}

/// What a terminal has room for; the rest is in the other forms of the report.
const SPOKEN_OF: [Metric; 8] = [
    Metric::P50,
    Metric::P99,
    Metric::MaxRps,
    Metric::ConnsPerS,
    Metric::Bulk,
    Metric::CpuPerRequest,
    Metric::CpuPerConnection,
    Metric::CpuPerGbit,
];

/// One line for each comparison with sidecars, and one for each difference that is lost in noise.
fn verdicts(results: &Results) -> String {
    let mut text = String::new();
    let is_spoken_of = |one: &&Comparison| SPOKEN_OF.iter().any(|metric| metric.key() == one.metric);
    for one in results.differences.iter().filter(is_spoken_of) {
        if Some(one.against) != one.mode.baseline() {
            let _ = writeln!(text, "verdict: {}", one.sentence());
        } else if let (Some(advice), true) = (&one.advice, results.confidence >= CONFIDENCE) {
            let _ = writeln!(text, "uncertain: {} {} against {}: {advice}", one.mode, one.metric, one.against);
        }
    }
    if results.confidence < CONFIDENCE {
        let _ = writeln!(
            text,
            "nothing is significant: {} rounds cannot show 95 %; rerun with --rounds {FEWEST_ROUNDS} or more",
            results.rounds,
        );
    }
    text
}

/// How each mode with Envoys was encrypted, once for all its cases.
pub(crate) fn each_tls(results: &Results) -> impl Iterator<Item = (Mode, &Tls)> {
    let found: BTreeMap<Mode, &Tls> =
        results.modes.iter().filter_map(|mode| Some((mode.mode, mode.tls.as_ref()?))).collect();
    found.into_iter()
}

/// Published figures, and what was different.
pub(crate) fn context(results: &Results) -> String {
    let figures: Vec<String> =
        results.context.iter().map(|one| format!("{} {} %", one.what, one.latency_overhead_percent)).collect();
    format!("latency that mutual TLS adds: {}. {PUBLISHED_SOURCE}", figures.join(", "))
}

/// Columns as wide as their widest cell, two spaces apart.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
