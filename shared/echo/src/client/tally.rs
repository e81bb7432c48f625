//! Counting outcomes in bounded memory: a histogram of times and the reasons of failures.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// Steps per doubling: a percentile is at most 1/32 too high.
const STEPS: u64 = 32;

/// Different reasons that are counted by name; further ones are counted as [`OTHER`].
const MAX_REASONS: usize = 32;

/// Name of the reasons beyond [`MAX_REASONS`].
const OTHER: &str = "other";

/// Failures whose moment is kept.
const MAX_MOMENTS: usize = 64;

/// Times of requests, in buckets of microseconds.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: BTreeMap<u64, u64>,
    total: u64,
    highest: u64,
}

/// How long requests took, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half of the requests took no longer.
    pub p50: f64,
    /// 90 of 100 requests took no longer.
    pub p90: f64,
    /// 99 of 100 requests took no longer.
    pub p99: f64,
    /// 999 of 1000 requests took no longer.
    pub p999: f64,
    /// The slowest request.
    pub max: f64,
}

impl Histogram {
    pub(super) fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        *self.buckets.entry(bucket_end(micros)).or_default() += 1;
        self.total += 1;
        self.highest = self.highest.max(micros);
    }

    pub(super) fn percentiles(&self) -> Percentiles {
        let max = milliseconds(self.highest);
        Percentiles { p50: self.at(500), p90: self.at(900), p99: self.at(990), p999: self.at(999), max }
    }

    /// The time that `per_mille` of 1000 requests did not exceed.
    fn at(&self, per_mille: u64) -> f64 {
        let rank = (self.total * per_mille).div_ceil(1000);
        let mut seen = 0;
        for (end, count) in &self.buckets {
            seen += count;
            if seen >= rank {
                return milliseconds((*end).min(self.highest));
            }
        }
        0.0
    }
}

fn milliseconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64() * 1000.0
}

/// The largest number of the bucket that `value` belongs to.
fn bucket_end(value: u64) -> u64 {
    let width = (value / STEPS).checked_ilog2().map_or(1, |log| 1_u64 << log);
    (value / width).saturating_mul(width).saturating_add(width - 1)
}

/// How often each reason was given, and when the first failures were.
#[derive(Debug, Default)]
pub(super) struct Failures {
    pub(super) reasons: BTreeMap<String, u64>,
    pub(super) moments_ms: Vec<u64>,
    pub(super) total: u64,
}

impl Failures {
    pub(super) fn record(&mut self, reason: String, since_start: Duration) {
        self.total += 1;
        let is_new = !self.reasons.contains_key(&reason);
        let name = if is_new && self.reasons.len() >= MAX_REASONS { OTHER.to_owned() } else { reason };
        *self.reasons.entry(name).or_default() += 1;
        if self.moments_ms.len() < MAX_MOMENTS {
            self.moments_ms.push(u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_never_low_and_at_most_a_step_high() {
        let mut histogram = Histogram::default();
        for millis in 1..=1000 {
            histogram.record(Duration::from_millis(millis));
        }
        let found = histogram.percentiles();
        for (found, exact) in
            [(found.p50, 500.0), (found.p90, 900.0), (found.p99, 990.0), (found.p999, 999.0), (found.max, 1000.0)]
        {
            assert!(found >= exact && found <= exact * 33.0 / 32.0 + 0.001, "{found} for {exact}");
        }
    }

    #[test]
    fn nothing_recorded_gives_zeros() {
        assert_eq!(Histogram::default().percentiles(), Percentiles::default());
    }

    #[test]
    fn a_flood_of_different_reasons_stays_bounded() {
        let mut failures = Failures::default();
        for n in 0..1000 {
            failures.record(format!("reason {n}"), Duration::from_millis(n));
        }
        assert_eq!(failures.total, 1000);
        assert_eq!(failures.reasons.len(), MAX_REASONS + 1);
        assert_eq!(failures.reasons.get(OTHER), Some(&(1000 - MAX_REASONS as u64)));
        assert_eq!(failures.moments_ms.len(), MAX_MOMENTS);
    }

    #[test]
    fn a_bucket_holds_its_value() {
        for value in [0, 1, 31, 32, 33, 63, 64, 1000, 123_456_789, u64::MAX] {
            let end = bucket_end(value);
            assert!(end >= value && end - value <= value / STEPS, "{value} in a bucket that ends at {end}");
        }
    }
}
