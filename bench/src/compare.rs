//! Modes against their baselines and against sidecars, round by round.

use serde::Serialize;

use crate::metric::Metric;
use crate::mode::Mode;
use crate::results::metric_of;
use crate::session::Record;
use crate::settings::{Protocol, Settings};
use crate::statistics::{Difference, Estimate, FEWEST_ROUNDS};

/// How one metric of a mode differs from that of another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The mode.
    pub mode: Mode,
    /// What it is compared with.
    pub against: Mode,
    /// What the requests are.
    pub protocol: Protocol,
    /// Connections at a time.
    pub connections: u16,
    /// The metric's field.
    pub metric: &'static str,
    /// The mode's number.
    pub this: Estimate,
    /// The other's number.
    pub that: Estimate,
    /// The first by the second.
    pub ratio: Estimate,
    /// Their difference.
    pub difference: Difference,
    /// Of what the other adds to its baseline, the part that the mode adds to its own; for latencies alone.
    pub share_of_added: Option<Estimate>,
    /// Why more rounds would help; absent where they would not.
    pub advice: Option<String>,
}

/// What is compared where both modes have it.
const COMPARED: [Metric; 14] = [
    Metric::P50,
    Metric::P90,
    Metric::P99,
    Metric::MaxRps,
    Metric::ConnsPerS,
    Metric::Bulk,
    Metric::Bulk4,
    Metric::Bulk64,
    Metric::MixedP50,
    Metric::CpuPerRequest,
    Metric::CpuPerRequestAtRate,
    Metric::CpuPerConnection,
    Metric::CpuPerGbit,
    Metric::Rss,
];

/// Every mode against what it compares with.
pub(crate) fn all(records: &[Record], settings: &Settings) -> Vec<Comparison> {
    let mut all = Vec::new();
    for record in records {
        let others = record.mode.baseline().into_iter().chain(record.mode.rivals().iter().copied());
        for other in others {
            let Some(that) = find(records, other, record) else { continue };
            for metric in COMPARED {
                all.extend(one(records, record, that, metric, settings.rounds));
            }
        }
    }
    all
}

/// Another mode in the same case.
fn find<'a>(records: &'a [Record], mode: Mode, beside: &Record) -> Option<&'a Record> {
    records.iter().find(|one| one.mode == mode && one.case == beside.case)
}

fn one(records: &[Record], this: &Record, that: &Record, metric: Metric, rounds: usize) -> Option<Comparison> {
    let (own, other) = (this.series(metric), that.series(metric));
    let difference = Difference::of(&own, &other)?;
    let ratios: Vec<f64> = own.iter().zip(&other).filter_map(|(a, b)| Some((*a)? / (*b)?)).collect();
    let is_latency = matches!(metric, Metric::P50 | Metric::P90 | Metric::P99);
    Some(Comparison {
        mode: this.mode,
        against: that.mode,
        protocol: this.case.protocol,
        connections: this.case.connections,
        metric: metric.key(),
        this: metric_of(this, metric)?,
        that: metric_of(that, metric)?,
        ratio: Estimate::of(&ratios)?,
        share_of_added: if is_latency { share_of_added(records, this, that, metric) } else { None },
        advice: advice(&difference, rounds),
        difference,
    })
}

/// Round by round: what one mode adds to its baseline, by what the other adds to its own.
fn share_of_added(records: &[Record], this: &Record, that: &Record, metric: Metric) -> Option<Estimate> {
    let added = |record: &Record| -> Option<Vec<Option<f64>>> {
        let baseline = find(records, record.mode.baseline()?, record)?.series(metric);
        let own = record.series(metric);
        Some(own.iter().zip(&baseline).map(|(own, plain)| Some((*own)? - (*plain)?)).collect())
    };
    let (own, other) = (added(this)?, added(that)?);
    let shares = own.iter().zip(&other).filter_map(|(own, other)| Some((*own)? / (*other)?));
    Estimate::of(&shares.collect::<Vec<_>>())
}

/// What would make an uncertain difference certain.
fn advice(difference: &Difference, rounds: usize) -> Option<String> {
    if difference.significant {
        return None;
    }
    let percent = difference.percent;
    let half = (percent.high - percent.low) / 2.0;
    let more = (rounds * 2 + 1).max(15);
    if difference.rounds < FEWEST_ROUNDS {
        // Where no pair of modes has enough of them, the report says so once.
        let is_exception = rounds >= FEWEST_ROUNDS;
        return is_exception.then(|| format!("{} rounds are left; rerun with --rounds {more}", difference.rounds));
    }
    let is_hidden = half >= percent.median.abs();
    is_hidden.then(|| {
        let effect = percent.median.abs();
        format!("interval ±{half:.1} % is wider than the effect of {effect:.1} %; rerun with --rounds {more}")
    })
}

impl Comparison {
    /// One sentence with both numbers.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Some(metric) = Metric::find(self.metric) else { return String::new() };
        let show = |estimate: &Estimate| metric.unit().show(estimate.median);
        let percent = self.difference.percent;
        let verdict = if self.difference.significant { "significant" } else { "not significant" };
        let mut text = format!(
            "{} {}: {} against {} of {}, {:+.1} % ({:+.1} … {:+.1} %), {verdict}",
            self.mode,
            metric.alias(),
            show(&self.this),
            show(&self.that),
            self.against,
            percent.median,
            percent.low,
            percent.high,
        );
        if let Some(share) = self.share_of_added {
            let Estimate { median, low, high } = share;
            text.push_str(&format!("; adds {median:.2} ({low:.2} … {high:.2}) of what that adds"));
        }
        if let Some(advice) = &self.advice {
            text.push_str(&format!("; {advice}"));
        }
        text
    }
}
