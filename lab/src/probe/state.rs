//! Thresholds: when outcomes in a row change the verdict.
//! [Kubernetes: configure probes](https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/#configure-probes).

/// What a probe says about its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Enough successes in a row.
    Success,
    /// Enough failures in a row.
    Failure,
}

/// Counts outcomes in a row. A new verdict needs its threshold; until then the old one stands.
#[derive(Debug, Clone)]
pub(crate) struct State {
    success_threshold: u32,
    failure_threshold: u32,
    verdict: Option<Verdict>,
    last: Option<bool>,
    in_a_row: u32,
}

impl State {
    /// Starts with `initial`, which is `Failure` for readiness and `Success` for liveness.
    pub(crate) fn new(initial: Verdict, success_threshold: u32, failure_threshold: u32) -> Self {
        Self { verdict: Some(initial), ..Self::undecided(success_threshold, failure_threshold) }
    }

    /// Starts without a verdict, as for startup: the first one is told whichever it is.
    pub(crate) fn undecided(success_threshold: u32, failure_threshold: u32) -> Self {
        Self {
            success_threshold: success_threshold.max(1),
            failure_threshold: failure_threshold.max(1),
            verdict: None,
            last: None,
            in_a_row: 0,
        }
    }

    /// Takes the next outcome; returns the verdict if it changes with it.
    pub(crate) fn record(&mut self, is_success: bool) -> Option<Verdict> {
        self.in_a_row = if self.last == Some(is_success) { self.in_a_row.saturating_add(1) } else { 1 };
        self.last = Some(is_success);
        let (threshold, verdict) = if is_success {
            (self.success_threshold, Verdict::Success)
        } else {
            (self.failure_threshold, Verdict::Failure)
        };
        if self.in_a_row < threshold || Some(verdict) == self.verdict {
            return None;
        }
        self.verdict = Some(verdict);
        Some(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(mut state: State, outcomes: &str) -> String {
        let mark = |verdict| match verdict {
            None => '.',
            Some(Verdict::Success) => 'S',
            Some(Verdict::Failure) => 'F',
        };
        outcomes.chars().map(|outcome| mark(state.record(outcome == '+'))).collect()
    }

    #[test]
    fn readiness_needs_its_thresholds_in_a_row() {
        let ready = || State::new(Verdict::Failure, 2, 3);
        assert_eq!(changes(ready(), "+-++--+---+++"), "...S.....F.S.");
        assert_eq!(changes(ready(), "-----"), ".....", "it begins as not ready");
    }

    #[test]
    fn liveness_fails_once() {
        assert_eq!(changes(State::new(Verdict::Success, 1, 3), "+--+-----"), "......F..");
    }

    #[test]
    fn the_first_verdict_of_a_startup_is_told_whichever_it_is() {
        assert_eq!(changes(State::undecided(1, 3), "--+"), "..S");
        assert_eq!(changes(State::undecided(1, 3), "---"), "..F");
    }

    #[test]
    fn a_threshold_of_zero_counts_as_one() {
        assert_eq!(changes(State::new(Verdict::Failure, 0, 0), "+-"), "SF");
    }
}
