//! Medians of rounds with intervals that assume nothing about how the rounds are distributed.
//!
//! The interval of a median reaches from one order statistic to its mirror image: whatever the distribution, the true
//! median lies between the k-th smallest and the k-th largest of n independent values with probability
//! `1 - 2 * P(Binomial(n, 1/2) < k)` (H. A. David, Order Statistics, section 7.1).
//! The narrowest interval is taken that has at least 95 %; below six values even the whole range has less, and then
//! nothing is called significant.

use serde::{Deserialize, Serialize};

/// The confidence that an interval aims at.
pub const CONFIDENCE: f64 = 0.95;

/// The fewest rounds whose interval reaches [`CONFIDENCE`].
pub const FEWEST_ROUNDS: usize = 6;

/// The median of some rounds and the interval in which the true one lies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The median.
    pub median: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

/// How two series of rounds differ, round by round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The first minus the second, in their unit.
    pub absolute: Estimate,
    /// The same in percent of the second.
    pub percent: Estimate,
    /// Whether the interval has the confidence that is asked for and excludes zero.
    pub significant: bool,
    /// Rounds in which both have a value.
    pub rounds: usize,
}

impl Estimate {
    /// The median of `values` and its interval; `None` for no values, or one that is no number.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        if sorted.is_empty() || sorted.iter().any(|value| !value.is_finite()) {
            return None;
        }
        sorted.sort_by(f64::total_cmp);
        let cut = cut(sorted.len());
        let low = *sorted.get(cut)?;
        let high = *sorted.get(sorted.len() - 1 - cut)?;
        Some(Self { median: median(&sorted)?, low, high })
    }
}

impl Difference {
    /// Compares the rounds that both series have; `None` when there is none, or the second is zero there.
    #[must_use]
    pub fn of(first: &[Option<f64>], second: &[Option<f64>]) -> Option<Self> {
        let both = || first.iter().zip(second).filter_map(|(a, b)| Some(((*a)?, (*b)?)));
        let absolute: Vec<f64> = both().map(|(a, b)| a - b).collect();
        let percent: Vec<f64> = both().map(|(a, b)| (a - b) / b * 100.0).collect();
        let absolute_estimate = Estimate::of(&absolute)?;
        let excludes_zero = absolute_estimate.low > 0.0 || absolute_estimate.high < 0.0;
        Some(Self {
            absolute: absolute_estimate,
            percent: Estimate::of(&percent)?,
            significant: excludes_zero && confidence(absolute.len()) >= CONFIDENCE,
            rounds: absolute.len(),
        })
    }
}

/// The confidence that the interval of so many values has.
#[must_use]
pub fn confidence(values: usize) -> f64 {
    coverage(values, cut(values))
}

/// How many values to leave out at either end.
fn cut(values: usize) -> usize {
    (0..values.div_ceil(2)).rev().find(|cut| coverage(values, *cut) >= CONFIDENCE).unwrap_or(0)
}

/// The probability that the true median lies within, when `cut` of `values` are left out at either end.
#[expect(clippy::cast_precision_loss, reason = "numbers of rounds are small")]
fn coverage(values: usize, cut: usize) -> f64 {
    // The terms of the binomial distribution, each from the one before.
    let mut term = 0.5_f64.powi(i32::try_from(values).unwrap_or(i32::MAX));
    let mut below = 0.0;
    for k in 0..=cut {
        below += term;
        term *= (values - k) as f64 / (k + 1) as f64;
    }
    (1.0 - 2.0 * below).max(0.0)
}

/// The middle of sorted values, or of the two in the middle.
fn median(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(values: &[f64]) -> (f64, f64, f64) {
        let Estimate { median, low, high } = Estimate::of(values).unwrap();
        (median, low, high)
    }

    #[test]
    fn the_interval_is_that_of_the_tables() {
        // D. B. Owen's table of confidence intervals for the median: n, values left out at either end, confidence.
        let table = [
            (1, 0, 0.0),
            (3, 0, 0.75),
            (5, 0, 0.9375),
            (6, 0, 0.96875),
            (8, 0, 0.992_187_5),
            (9, 1, 0.960_937_5),
            (15, 3, 0.964_843_75),
            (20, 5, 0.958_610_534),
        ];
        for (values, left_out, expected) in table {
            assert_eq!(cut(values), left_out, "{values} values");
            assert!((confidence(values) - expected).abs() < 1e-6, "{values} values: {}", confidence(values));
        }
        assert!(confidence(FEWEST_ROUNDS) >= CONFIDENCE && confidence(FEWEST_ROUNDS - 1) < CONFIDENCE);
    }

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        assert_eq!(estimate(&[3.0, 1.0, 2.0]), (2.0, 1.0, 3.0));
        assert_eq!(estimate(&[4.0, 1.0, 2.0, 3.0]), (2.5, 1.0, 4.0));
        assert_eq!(estimate(&[9.0, 1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0]), (5.0, 2.0, 8.0));
        assert_eq!(Estimate::of(&[]), None);
        assert_eq!(Estimate::of(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn the_interval_holds_the_true_median_as_often_as_it_says() {
        use std::num::Wrapping;
        // A fixed sequence (Knuth's MMIX generator), uniform on 0..1: the true median is one half.
        let mut state = Wrapping(1_u64);
        let mut next = || {
            state = state * Wrapping(6_364_136_223_846_793_005) + Wrapping(1_442_695_040_888_963_407);
            f64::from(u32::try_from(state.0 >> 32).unwrap()) / f64::from(u32::MAX)
        };
        for rounds in [6, 15] {
            let trials = 20_000_u32;
            let mut held = 0_u32;
            for _ in 0..trials {
                let values: Vec<f64> = (0..rounds).map(|_| next()).collect();
                let found = Estimate::of(&values).unwrap();
                held += u32::from(found.low <= 0.5 && found.high >= 0.5);
            }
            let share = f64::from(held) / f64::from(trials);
            assert!((share - confidence(rounds)).abs() < 0.006, "{rounds} rounds: {share}");
        }
    }

    #[test]
    fn a_difference_is_that_of_the_same_rounds() {
        // The machine gets slower from round to round, and the difference stays: unpaired it would drown.
        let slow: Vec<Option<f64>> = (1..=6).map(|round| Some(f64::from(round) * 100.0 + 10.0)).collect();
        let fast: Vec<Option<f64>> = (1..=6).map(|round| Some(f64::from(round) * 100.0)).collect();
        let found = Difference::of(&slow, &fast).unwrap();
        assert_eq!((found.absolute.median, found.absolute.low, found.absolute.high), (10.0, 10.0, 10.0));
        assert!(found.significant);
        assert!((found.percent.high - 10.0).abs() < 1e-9 && found.percent.low < 2.0);
        // A round that one of them lacks counts for neither.
        let mut holey = slow;
        holey[0] = None;
        let found = Difference::of(&holey, &fast).unwrap();
        assert_eq!(found.rounds, 5);
        assert!(!found.significant, "five rounds cannot show 95 %");
    }

    #[test]
    fn what_may_be_nothing_is_not_significant() {
        let a: Vec<Option<f64>> = [11.0, 12.0, 13.0, 9.0, 12.0, 11.0].map(Some).to_vec();
        let b: Vec<Option<f64>> = [10.0; 6].map(Some).to_vec();
        let found = Difference::of(&a, &b).unwrap();
        assert!(found.absolute.low < 0.0 && found.absolute.median > 0.0 && !found.significant);
        assert_eq!(Difference::of(&a, &[None; 6]), None);
    }
}
