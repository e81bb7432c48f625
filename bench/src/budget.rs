//! Budgets: `ambient-l4.p99<=1.5x` makes a comparison a gate.

use std::str::FromStr;

use serde::Serialize;

use crate::metric::{Metric, Unit};
use crate::mode::Mode;
use crate::results::{ModeResult, Results};
use crate::settings::is_meant;

/// A limit for one metric of one mode.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    text: String,
    mode: Mode,
    metric: Metric,
    relation: Relation,
    limit: Limit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    AtMost,
    AtLeast,
    Below,
    Above,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Limit {
    /// So many times what the mode without proxy has.
    Times(f64),
    /// In the metric's unit.
    Absolute(f64),
}

/// What came of a budget.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// As it was written.
    pub budget: String,
    /// Whether it was kept.
    pub kept: bool,
    /// What was found.
    pub found: String,
}

/// A budget that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// Not `mode.metric<=limit`.
    #[error("budget {0:?} is not of the form MODE.METRIC<=LIMIT, as in 'ambient-l4.p99<=1.5x'")]
    Form(String),
    /// There is no such mode.
    #[error("budget {budget:?}")]
    Mode {
        /// As it was written.
        budget: String,
        /// The cause.
        #[source]
        source: crate::mode::UnknownMode,
    },
    /// There is no such metric.
    #[error("budget {budget:?}: no metric {found:?}; there are: {}", Metric::ALL.map(Metric::alias).join(", "))]
    Metric {
        /// As it was written.
        budget: String,
        /// What stands in the place of the metric.
        found: String,
    },
    /// The limit is no number with a unit of the metric.
    #[error("budget {budget:?}: limit {found:?} is neither a factor as 1.5x nor a number with a unit ({units})")]
    Limit {
        /// As it was written.
        budget: String,
        /// What stands in the place of the limit.
        found: String,
        /// The units that the metric has.
        units: String,
    },
}

impl FromStr for Budget {
    type Err = BudgetError;

    fn from_str(text: &str) -> Result<Self, BudgetError> {
        let form = || BudgetError::Form(text.to_owned());
        let relations =
            [("<=", Relation::AtMost), (">=", Relation::AtLeast), ("<", Relation::Below), (">", Relation::Above)];
        let split = |(sign, relation): (&str, Relation)| text.split_once(sign).map(|(a, b)| (a, relation, b));
        let (name, relation, limit) = relations.into_iter().find_map(split).ok_or_else(form)?;
        let (mode, metric) = name.trim().split_once('.').ok_or_else(form)?;
        let mode = mode.parse().map_err(|source| BudgetError::Mode { budget: text.to_owned(), source })?;
        let unknown = || BudgetError::Metric { budget: text.to_owned(), found: metric.to_owned() };
        let metric = Metric::find(metric).ok_or_else(unknown)?;
        let limit = limit.trim();
        let malformed = || BudgetError::Limit {
            budget: text.to_owned(),
            found: limit.to_owned(),
            units: units(metric.unit()).map(|(unit, _)| unit).join(", "),
        };
        let limit = parse_limit(limit, metric.unit()).ok_or_else(malformed)?;
        Ok(Self { text: text.to_owned(), mode, metric, relation, limit })
    }
}

impl std::fmt::Display for Budget {
    /// As it was written.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Budget {
    /// Whether a value keeps it.
    fn allows(&self, value: f64, limit: f64) -> bool {
        match self.relation {
            Relation::AtMost => value <= limit,
            Relation::AtLeast => value >= limit,
            Relation::Below => value < limit,
            Relation::Above => value > limit,
        }
    }

    /// Judges it for one result; [`Err`] says why it cannot be.
    fn judge(&self, results: &Results, result: &ModeResult) -> Result<Verdict, String> {
        let unit = self.metric.unit();
        let found = result.metrics.find(self.metric);
        let unseen = results.proxies_unseen.clone().filter(|_| self.metric.is_of_proxies());
        let why = || unseen.unwrap_or_else(|| result.why_missing(self.metric));
        let found = found.ok_or_else(|| format!("no number: {}", why()))?.median;
        let (kept, text) = match self.limit {
            Limit::Absolute(limit) => (self.allows(found, limit), unit.show(found)),
            Limit::Times(limit) => {
                let baseline = self.mode.baseline().ok_or("it is relative to itself")?;
                let compared = results.against_baseline(result, self.metric);
                let ratio = compared.ok_or_else(|| format!("{baseline} has no such number"))?.ratio.median;
                (self.allows(ratio, limit), format!("{ratio:.2}x of {baseline} ({})", unit.show(found)))
            }
        };
        Ok(Verdict { budget: self.text.clone(), kept, found: format!("{text}; {}", result.case()) })
    }
}

/// Judges each budget in every case that its number is measured in; one that cannot be judged is not kept.
#[must_use]
pub fn judge(budgets: &[Budget], results: &Results) -> Vec<Verdict> {
    budgets.iter().flat_map(|budget| judge_one(budget, results)).collect()
}

fn judge_one(budget: &Budget, results: &Results) -> Vec<Verdict> {
    let broken = |found: String| Verdict { budget: budget.text.clone(), kept: false, found };
    let measurement = budget.metric.measurement();
    let first = results.modes.first().map(ModeResult::case);
    let is_meant = |result: &&ModeResult| is_meant(measurement, result.case(), first == Some(result.case()));
    let (meant, others): (Vec<_>, Vec<_>) =
        results.modes.iter().filter(|result| result.mode == budget.mode).partition(is_meant);
    if !meant.is_empty() {
        return meant.into_iter().map(|result| budget.judge(results, result).unwrap_or_else(broken)).collect();
    }
    if !others.is_empty() {
        let cases: Vec<&str> = others.iter().map(|result| result.protocol.name()).collect();
        return vec![broken(format!("{measurement} is not measured with {}", cases.join(", ")))];
    }
    let left_out = results.left_out.iter().find(|one| one.mode == budget.mode);
    let why = left_out.map_or_else(|| "it was not asked for".to_owned(), |one| one.reason.clone());
    vec![broken(format!("{} was not measured: {why}", budget.mode))]
}

fn parse_limit(text: &str, unit: Unit) -> Option<Limit> {
    let end = text.find(|letter: char| !(letter.is_ascii_digit() || letter == '.')).unwrap_or(text.len());
    let (number, name) = text.split_at_checked(end)?;
    let number: f64 = number.parse().ok()?;
    let name = name.trim();
    if name == "x" {
        return Some(Limit::Times(number));
    }
    units(unit).into_iter().find(|(known, _)| *known == name).map(|(_, factor)| Limit::Absolute(number * factor))
}

/// The units of a limit, by how much of the metric's own each is.
fn units(unit: Unit) -> [(&'static str, f64); 3] {
    match unit {
        Unit::Microseconds => [("us", 1.0), ("ms", 1e3), ("s", 1e6)],
        Unit::PerSecond => [("/s", 1.0), ("k/s", 1e3), ("", 1.0)],
        Unit::Gbps => [("Gbit/s", 1.0), ("Mbit/s", 1e-3), ("", 1.0)],
        Unit::Seconds => [("s", 1.0), ("ms", 1e-3), ("us", 1e-6)],
        Unit::Kib => [("KiB", 1.0), ("MiB", 1024.0), ("MB", 1024.0)],
        Unit::Count => [("", 1.0), ("k", 1e3), ("M", 1e6)],
    }
}

#[cfg(test)]
mod tests;
