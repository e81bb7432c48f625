//! Latencies with three significant digits, in a form that travels in JSON.

use std::fmt::{self, Debug};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::varint::{self, Malformed};

/// The longest time that can be told; longer ones count as this. Longer than any plan.
const LONGEST: Duration = Duration::from_secs(4 * 3600);

/// Durations from 1 ns to four hours, each known to three significant digits.
///
/// As text: base64 of pairs of LEB128 numbers, one pair for each bucket that holds something, in ascending order:
/// how many nanoseconds its least value lies above that of the pair before, and how many durations it holds.
#[derive(Clone, PartialEq)]
pub struct Histogram(hdrhistogram::Histogram<u64>);

/// The usual percentiles, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// How many durations there are.
    pub count: u64,
    /// The shortest.
    pub min_us: f64,
    /// Half are no longer.
    pub p50_us: f64,
    /// 90 of 100 are no longer.
    pub p90_us: f64,
    /// 99 of 100 are no longer.
    pub p99_us: f64,
    /// 999 of 1,000 are no longer.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
    /// The mean.
    pub mean_us: f64,
}

/// A text that is no histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a histogram: base64 of pairs of LEB128 numbers was expected")]
pub struct MalformedHistogram;

impl Histogram {
    /// Without any duration.
    pub fn new() -> Self {
        let histogram = hdrhistogram::Histogram::new_with_bounds(1, nanos(LONGEST), 3);
        Self(histogram.expect("the bounds are in order and the digits are three"))
    }

    /// Adds one duration.
    pub fn record(&mut self, duration: Duration) {
        self.0.saturating_record(nanos(duration));
    }

    /// Adds all that `other` holds.
    pub fn add(&mut self, other: &Self) {
        // Both have the same bounds, so that everything fits.
        let _ = self.0.add(&other.0);
    }

    /// How many durations there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The duration that `quantile` (0 to 1) of all do not exceed; zero without any.
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(quantile))
    }

    /// The usual percentiles; all zero without any duration.
    pub fn summary(&self) -> Summary {
        let micros = |quantile| self.quantile(quantile).as_nanos() as f64 / 1e3;
        if self.count() == 0 {
            return Summary::default();
        }
        Summary {
            count: self.count(),
            min_us: self.0.min() as f64 / 1e3,
            p50_us: micros(0.5),
            p90_us: micros(0.9),
            p99_us: micros(0.99),
            p999_us: micros(0.999),
            max_us: self.0.max() as f64 / 1e3,
            mean_us: self.0.mean() / 1e3,
        }
    }

    /// The compact form, see the type.
    pub fn to_text(&self) -> String {
        let mut bytes = Vec::new();
        let mut last = 0;
        for bucket in self.0.iter_recorded() {
            let value = self.0.lowest_equivalent(bucket.value_iterated_to());
            varint::write(&mut bytes, value - last);
            varint::write(&mut bytes, bucket.count_at_value());
            last = value;
        }
        STANDARD_NO_PAD.encode(bytes)
    }

    /// Reads the compact form.
    ///
    /// # Errors
    ///
    /// The text is not of this form.
    pub fn from_text(text: &str) -> Result<Self, MalformedHistogram> {
        let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| MalformedHistogram)?;
        let (mut histogram, mut rest, mut value) = (Self::new(), bytes.as_slice(), 0_u64);
        while !rest.is_empty() {
            value = value.checked_add(varint::read(&mut rest)?).ok_or(MalformedHistogram)?;
            let count = varint::read(&mut rest)?;
            histogram.0.record_n(value, count).map_err(|_| MalformedHistogram)?;
        }
        Ok(histogram)
    }
}

impl From<Malformed> for MalformedHistogram {
    fn from(_: Malformed) -> Self {
        Self
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Histogram({:?})", self.summary())
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_text(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Zero is none of the values that a histogram tells apart.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: impl Iterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::new();
        micros.for_each(|micros| histogram.record(Duration::from_micros(micros)));
        histogram
    }

    #[test]
    fn percentiles_are_right_to_three_digits() {
        let summary = of(1..=10_000).summary();
        let close = |found: f64, expected: f64| (found / expected - 1.0).abs() < 0.001;
        assert!(close(summary.p50_us, 5_000.0) && close(summary.p90_us, 9_000.0), "{summary:?}");
        assert!(close(summary.p99_us, 9_900.0) && close(summary.p999_us, 9_990.0), "{summary:?}");
        assert!(close(summary.max_us, 10_000.0) && close(summary.min_us, 1.0), "{summary:?}");
        assert!(close(summary.mean_us, 5_000.5), "{summary:?}");
        assert_eq!(summary.count, 10_000);
    }

    #[test]
    fn a_histogram_survives_its_text() {
        let mut histogram = of((0..50_000).map(|n| n * n % 9_000_017));
        histogram.record(Duration::ZERO);
        histogram.record(Duration::from_secs(100 * 3600));
        let text = histogram.to_text();
        let read = Histogram::from_text(&text).unwrap();
        assert_eq!(read, histogram);
        assert_eq!(read.summary(), histogram.summary());
        let buckets = histogram.0.iter_recorded().count();
        // Buckets of seconds lie millions of nanoseconds apart: four bytes for that, one for the count, four characters
        // for three bytes.
        assert!(text.len() < 7 * buckets, "{} characters for {buckets} buckets", text.len());
        assert_eq!(Histogram::from_text("").unwrap(), Histogram::new());
    }

    #[test]
    fn histograms_add_up() {
        let mut sum = of(1..=5_000);
        sum.add(&of(5_001..=10_000));
        assert_eq!(sum, of(1..=10_000));
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        // No base64; a number that is cut off; a value without its count; a number of more than 64 bits.
        for text in ["§", "gA", "AQ", "////////////AQ"] {
            assert_eq!(Histogram::from_text(text), Err(MalformedHistogram), "{text}");
        }
    }
}
