//! What is reported: for each mode its numbers with intervals, the differences, and everything needed to judge them.

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::budget::Verdict;
use crate::compare::{self, Comparison};
use crate::envoy::Tls;
use crate::machine::Ground;
use crate::metric::{Measurement, Metric};
use crate::mode::Mode;
use crate::session::{Invalid, Record};
use crate::settings::{Case, Protocol, Settings};
use crate::statistics::{Estimate, confidence};
use crate::words;

/// Everything that a report says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Results {
    /// What to type for the same again.
    pub command: String,
    /// The same, word by word.
    pub arguments: Vec<String>,
    /// This program's version.
    pub version: String,
    /// When it began: RFC 3339.
    pub date: String,
    /// Where it was measured.
    #[serde(flatten)]
    pub ground: Ground,
    /// What is the same in all modes, and what is not.
    pub conditions: Vec<String>,
    /// Why there are no numbers of what proxies use; absent where there are.
    pub proxies_unseen: Option<String>,
    /// How often each mode took its turn.
    pub rounds: usize,
    /// The confidence of the intervals, 0 to 1.
    pub confidence: f64,
    /// One for each mode and case.
    pub modes: Vec<ModeResult>,
    /// Modes against what they compare with.
    pub differences: Vec<Comparison>,
    /// Modes that were asked for and not measured.
    pub left_out: Vec<LeftOut>,
    /// Whether budgets were kept.
    pub budgets: Vec<Verdict>,
    /// What the compared proxies were told.
    pub envoy: Vec<EnvoyFile>,
    /// Figures that others have published.
    pub context: Vec<Published>,
}

/// One mode in one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModeResult {
    /// The mode.
    pub mode: Mode,
    /// What is between client and server.
    pub description: &'static str,
    /// What the requests are.
    pub protocol: Protocol,
    /// Connections at a time.
    pub connections: u16,
    /// Whether everything that was measured gave numbers.
    pub valid: bool,
    /// Why not.
    pub reason: Option<String>,
    /// The numbers.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Requests that failed, in all valid measurements.
    pub errors: u64,
    /// How its Envoys encrypted; absent where there are none.
    pub tls: Option<Tls>,
    /// Measurements that gave no number and were left out.
    pub invalid_rounds: Vec<Invalid>,
    /// Each proxy's part.
    pub proxies: Vec<ProxyResult>,
    /// Each round's numbers, by metric.
    pub per_round: BTreeMap<&'static str, Vec<Option<f64>>>,
}

/// One proxy's part of a mode.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProxyResult {
    /// Its name.
    pub name: String,
    /// What it uses.
    #[serde(flatten)]
    pub metrics: Metrics,
}

/// Numbers by metric; those that were not measured, or are invalid, are missing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    found: BTreeMap<Metric, Estimate>,
    shows: Vec<Metric>,
}

/// A mode that was asked for and not measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The mode.
    pub mode: Mode,
    /// Why.
    pub reason: String,
    /// What to do about it.
    pub advice: String,
}

/// What an Envoy was told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EnvoyFile {
    /// Where it stands.
    pub role: String,
    /// Its command line.
    pub command: String,
    /// Its bootstrap.
    pub configuration: Value,
}

/// A figure that others have published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Published {
    /// What was measured.
    pub what: &'static str,
    /// Added latency of mutual TLS, in percent.
    pub latency_overhead_percent: u32,
}

/// Where [`published`] comes from, and what was different there.
pub const PUBLISHED_SOURCE: &str = "Technical Report: Performance Comparison of Service Mesh Frameworks: the MTLS \
    Test Case (arXiv 2411.02267). Theirs, not measured here: a Kubernetes cluster with a network between its nodes, \
    other machines, releases, load and rate. Compare their order, not their numbers.";

/// What the guides quote.
#[must_use]
pub fn published() -> Vec<Published> {
    [("Istio ambient", 8), ("Linkerd", 33), ("Cilium", 99), ("Istio sidecar", 166)]
        .map(|(what, latency_overhead_percent)| Published { what, latency_overhead_percent })
        .to_vec()
}

/// The circumstances of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Circumstances {
    /// What to type for the same again, word by word.
    pub arguments: Vec<String>,
    /// This program's version.
    pub version: String,
    /// When it began: RFC 3339.
    pub date: String,
    /// Where it was measured.
    pub ground: Ground,
    /// What is the same in all modes, and what is not.
    pub conditions: Vec<String>,
    /// Why there are no numbers of what proxies use; absent where there are.
    pub proxies_unseen: Option<String>,
    /// How the Envoys of each mode encrypted.
    pub tls: BTreeMap<Mode, Tls>,
    /// Modes that were asked for and not measured.
    pub left_out: Vec<LeftOut>,
    /// What the compared proxies were told.
    pub envoy: Vec<EnvoyFile>,
}

impl Results {
    /// Makes sense of records. Budgets are judged by [`crate::budget::judge`].
    #[must_use]
    pub fn new(records: &[Record], settings: &Settings, circumstances: Circumstances) -> Self {
        let Circumstances { arguments, version, date, ground, conditions, proxies_unseen, tls, left_out, envoy } =
            circumstances;
        let mode =
            |record: &Record| ModeResult { tls: tls.get(&record.mode).cloned(), ..ModeResult::new(record, settings) };
        Self {
            command: words::command(&arguments),
            arguments,
            version,
            date,
            ground,
            conditions,
            proxies_unseen,
            rounds: settings.rounds,
            confidence: confidence(settings.rounds),
            modes: records.iter().map(mode).collect(),
            differences: compare::all(records, settings),
            left_out,
            budgets: Vec::new(),
            envoy,
            context: published(),
        }
    }

    /// How a metric of a mode compares with its baseline's.
    #[must_use]
    pub fn against_baseline(&self, result: &ModeResult, metric: Metric) -> Option<&Comparison> {
        let is_it = |one: &&Comparison| {
            (one.mode, Some(one.against), one.metric) == (result.mode, result.mode.baseline(), metric.key())
                && (one.protocol, one.connections) == (result.protocol, result.connections)
        };
        self.differences.iter().find(is_it)
    }
}

impl ModeResult {
    fn new(record: &Record, settings: &Settings) -> Self {
        let measurements = settings.measurements_of(record.case);
        let reasons: Vec<String> = measurements.iter().filter_map(|one| why_invalid(record, *one)).collect();
        let metrics = Metrics::of(&Metric::ALL, |metric| metric_of(record, metric));
        let proxies = record.proxies.iter().map(|(name, rounds)| {
            let of_proxies: Vec<Metric> = Metric::ALL.into_iter().filter(|metric| metric.is_of_proxies()).collect();
            let series = |metric: Metric| rounds.iter().filter_map(move |numbers| numbers.get(&metric).copied());
            let metrics = Metrics::of(&of_proxies, |metric| Estimate::of(&series(metric).collect::<Vec<_>>()));
            ProxyResult { name: name.clone(), metrics }
        });
        let per_round = metrics.found.keys().map(|metric| (metric.key(), record.series(*metric)));
        Self {
            mode: record.mode,
            description: record.mode.description(),
            protocol: record.case.protocol,
            connections: record.case.connections,
            valid: reasons.is_empty(),
            reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
            errors: record.failed,
            tls: None,
            invalid_rounds: record.invalid.clone(),
            proxies: proxies.collect(),
            per_round: per_round.collect(),
            metrics,
        }
    }

    /// The load that it carried.
    pub(crate) fn case(&self) -> Case {
        Case { protocol: self.protocol, connections: self.connections }
    }

    /// Why one of its metrics has no number.
    pub(crate) fn why_missing(&self, metric: Metric) -> String {
        let own = self.invalid_rounds.iter().find(|invalid| invalid.measurement == metric.measurement());
        own.map_or_else(|| "it was not measured".to_owned(), |invalid| format!("INVALID: {}", invalid.reason))
    }
}

/// The estimate of a metric whose measurement is valid.
pub(crate) fn metric_of(record: &Record, metric: Metric) -> Option<Estimate> {
    if why_invalid(record, metric.measurement()).is_some() {
        return None;
    }
    let values: Vec<f64> = record.series(metric).into_iter().flatten().collect();
    Estimate::of(&values)
}

/// A measurement that was invalid in half of the rounds is invalid as a whole: what is left may be the lucky half.
fn why_invalid(record: &Record, measurement: Measurement) -> Option<String> {
    let of_it = || record.invalid.iter().filter(|invalid| invalid.measurement == measurement);
    let (count, rounds) = (of_it().count(), record.rounds.len().min(measurement.most_rounds()));
    let last = of_it().next_back()?;
    (count * 2 >= rounds).then(|| format!("{measurement}: INVALID in {count} of {rounds} rounds: {}", last.reason))
}

impl Metrics {
    fn of(shows: &[Metric], estimate: impl Fn(Metric) -> Option<Estimate>) -> Self {
        let found = shows.iter().filter_map(|metric| Some((*metric, estimate(*metric)?)));
        Self { found: found.collect(), shows: shows.to_vec() }
    }

    /// The number of one.
    #[must_use]
    pub fn find(&self, metric: Metric) -> Option<Estimate> {
        self.found.get(&metric).copied()
    }
}

impl Serialize for Metrics {
    /// A field for each metric, also for those without a number.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.shows.len()))?;
        for metric in &self.shows {
            map.serialize_entry(metric.key(), &self.found.get(metric))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests;
