//! How long to wait before the next connection: pure, with randomness as an argument.

use std::time::Duration;

use rand::{Rng, RngExt};

/// The first wait.
pub const INITIAL: Duration = Duration::from_millis(10);
/// The longest wait; a stream that lasted longer than this clears earlier failures.
pub const MAX: Duration = Duration::from_secs(15);

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Termination {
    /// No stream came about.
    ConnectionError,
    /// The server ended the stream with an unexpected status.
    Error,
    /// The connection was lost or is being moved: reconnecting is what the server wants.
    Reconnect,
    /// The server ended the stream cleanly.
    Complete,
}

impl Termination {
    /// The label under which it is counted.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ConnectionError => "ConnectionError",
            Self::Error => "Error",
            Self::Reconnect => "Reconnect",
            Self::Complete => "Complete",
        }
    }
}

/// Waits that double from [`INITIAL`] to [`MAX`].
///
/// A stream that delivered at least one response and then ended cleanly is followed by a new one at once; one that was
/// lost, after [`INITIAL`].
/// A stream that ends before its first response counts as a failure, however politely it ended: otherwise a server that
/// turns everyone away would be called without pause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: INITIAL }
    }
}

impl Backoff {
    /// How long to wait after an attempt that lasted `lasted` and received `responses`.
    ///
    /// Half of each wait is fixed and half random, so that clients of a server that died do not return as one.
    pub fn after(
        &mut self,
        termination: Termination,
        responses: u64,
        lasted: Duration,
        random: &mut impl Rng,
    ) -> Duration {
        let delivered = responses > 0;
        let is_expected = matches!(termination, Termination::Reconnect | Termination::Complete);
        if lasted > MAX || (delivered && is_expected) {
            self.next = INITIAL;
        }
        if delivered && termination == Termination::Complete {
            return Duration::ZERO;
        }
        let wait = self.next;
        self.next = if delivered && is_expected { INITIAL } else { (self.next * 2).min(MAX) };
        wait.mul_f64(random.random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn waits(terminations: impl IntoIterator<Item = (Termination, u64, u64)>) -> Vec<Duration> {
        let mut backoff = Backoff::default();
        let mut random = SmallRng::seed_from_u64(1);
        terminations
            .into_iter()
            .map(|(termination, responses, seconds)| {
                backoff.after(termination, responses, Duration::from_secs(seconds), &mut random)
            })
            .collect()
    }

    fn assert_within(wait: Duration, full: Duration) {
        assert!(wait >= full / 2 && wait <= full, "{wait:?} is not within half of {full:?}");
    }

    #[test]
    fn waits_double_up_to_the_maximum() {
        let all = waits(std::iter::repeat_n((Termination::ConnectionError, 0, 0), 14));
        for (attempt, wait) in all.into_iter().enumerate() {
            assert_within(wait, (INITIAL * 2_u32.pow(u32::try_from(attempt).unwrap())).min(MAX));
        }
    }

    #[test]
    fn a_lost_stream_starts_over_when_it_had_delivered() {
        let fail = (Termination::ConnectionError, 0, 0);
        let all = waits([fail, fail, fail, (Termination::Reconnect, 1, 1), (Termination::Reconnect, 1, 1)]);
        assert_within(all[3], INITIAL);
        assert_within(all[4], INITIAL);
    }

    #[test]
    fn a_clean_end_after_responses_does_not_wait() {
        assert_eq!(waits([(Termination::Complete, 1, 0)])[0], Duration::ZERO);
    }

    #[test]
    fn a_server_that_turns_everyone_away_is_not_called_without_pause() {
        for termination in [Termination::Complete, Termination::Reconnect, Termination::Error] {
            let all = waits(std::iter::repeat_n((termination, 0, 0), 12));
            assert_within(all[11], MAX);
        }
    }

    #[test]
    fn errors_after_a_long_life_start_over() {
        let fail = (Termination::ConnectionError, 0, 0);
        let all = waits([fail, fail, fail, (Termination::Error, 9, 60)]);
        assert_within(all[3], INITIAL);
    }
}
