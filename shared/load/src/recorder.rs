//! Counting what happened: pure, with the times as arguments.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::histogram::Histogram;
use crate::outcome::{Failure, Latencies, Outcome};
use crate::schedule::Window;

/// From when on a send is late. A tenth of what a request takes through a slow mesh, and far above what a timer needs.
pub(crate) const LATE: Duration = Duration::from_millis(1);

/// The share of late or unanswered requests from which an outcome is invalid.
const TOLERATED: f64 = 0.01;

/// When a request was to be sent, and when it was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// When it was due; absent in a closed loop.
    pub(crate) due: Option<Instant>,
    /// From when on its lane was free: the time at which the answer before was read.
    pub(crate) free: Instant,
    /// When it was sent.
    pub(crate) at: Instant,
}

/// What one run has seen.
#[derive(Debug)]
pub(crate) struct Recorder {
    window: Window,
    sent: u64,
    answered: u64,
    failed: BTreeMap<Failure, u64>,
    late: u64,
    latency: Histogram,
    /// Of the open loop.
    service: Option<Histogram>,
    lateness: Option<Histogram>,
}

impl Recorder {
    pub(crate) fn new(window: Window) -> Self {
        Self {
            window,
            sent: 0,
            answered: 0,
            failed: BTreeMap::new(),
            late: 0,
            latency: Histogram::new(),
            service: None,
            lateness: None,
        }
    }

    /// One request ended at `now`, in one way or the other.
    pub(crate) fn ended(&mut self, sent: Sent, now: Instant, result: Result<(), Failure>) {
        // Closed loop: what ends in the counted time. Open loop: what was due in it, whenever it ends.
        if !self.window.counts(sent.due.unwrap_or(now)) {
            return;
        }
        self.sent += 1;
        if let Some(due) = sent.due {
            self.note_lateness(sent.at.saturating_duration_since(due.max(sent.free)));
        }
        match result {
            Ok(()) => {
                self.answered += 1;
                self.latency.record(now.saturating_duration_since(sent.due.unwrap_or(sent.at)));
                if sent.due.is_some() {
                    self.service.get_or_insert_default().record(now.saturating_duration_since(sent.at));
                }
            }
            Err(failure) => *self.failed.entry(failure).or_default() += 1,
        }
    }

    /// What was due at `due` could not be sent before the run was over.
    pub(crate) fn unsent(&mut self, due: Instant) {
        if self.window.counts(due) {
            *self.failed.entry(Failure::Unsent).or_default() += 1;
        }
    }

    fn note_lateness(&mut self, lateness: Duration) {
        self.late += u64::from(lateness > LATE);
        self.lateness.get_or_insert_default().record(lateness);
    }

    /// The outcome, without what the recorder does not see (bulk bytes, idle connections, processor time).
    pub(crate) fn outcome(self) -> Outcome {
        let elapsed = self.window.length().as_secs_f64();
        let late_share = share(self.late, self.sent);
        let mut outcome = Outcome {
            invalid: None,
            sent: self.sent,
            answered: self.answered,
            failed: self.failed,
            late: self.late,
            late_share,
            elapsed_s: elapsed,
            rate: self.answered as f64 / elapsed,
            latency: (self.answered > 0)
                .then(|| Latencies { summary: self.latency.summary(), histogram: self.latency }),
            service: self.service.map(|service| service.summary()),
            lateness: self.lateness.map(|lateness| lateness.summary()),
            ..Outcome::default()
        };
        outcome.invalid = reason(&outcome);
        outcome
    }
}

/// Why the numbers of requests may not be used.
fn reason(outcome: &Outcome) -> Option<String> {
    let unanswered: u64 = outcome.failed.values().sum();
    let due = outcome.answered + unanswered;
    let reasons = || {
        let words: Vec<String> = outcome.failed.iter().map(|(failure, count)| format!("{count} {failure}")).collect();
        words.join(", ")
    };
    if outcome.answered == 0 {
        return Some(match unanswered {
            0 => "nothing was due in the counted time".to_owned(),
            _ => format!("nothing was answered: {}", reasons()),
        });
    }
    let mut complaints = Vec::new();
    if share(unanswered, due) > TOLERATED {
        complaints.push(format!("{unanswered} of {due} requests failed: {}", reasons()));
    }
    if outcome.late_share > TOLERATED {
        let percent = outcome.late_share * 100.0;
        complaints.push(format!("{percent:.1} % of the sends were more than 1 ms late: the generator was too slow"));
    }
    (!complaints.is_empty()).then(|| complaints.join("; "))
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn recorder() -> (Recorder, Instant) {
        let start = Instant::now();
        (Recorder::new(Window::new(start, 1000 * MS, 1000 * MS)), start + 1000 * MS)
    }

    fn percent(outcome: &Outcome) -> f64 {
        outcome.late_share * 100.0
    }

    #[test]
    fn latency_counts_from_the_time_at_which_a_request_was_due() {
        let (mut recorder, from) = recorder();
        // Sent half a second late, because the answer before came that late.
        let (due, at) = (from, from + 500 * MS);
        recorder.ended(Sent { due: Some(due), free: at, at }, at + 10 * MS, Ok(()));
        let outcome = recorder.outcome();
        let summary = outcome.latency.expect("it was answered").summary;
        assert!((summary.max_us - 510_000.0).abs() < 1_000.0, "{summary:?}");
        let service = outcome.service.expect("it was due");
        assert!((service.max_us - 10_000.0).abs() < 20.0, "{service:?}");
        assert_eq!(outcome.late, 0, "a connection that waits for an answer makes nothing late");
    }

    #[test]
    fn a_send_is_late_only_when_its_connection_was_free() {
        let (mut recorder, from) = recorder();
        for n in 0..200_u32 {
            let due = from + MS * n;
            let held_up = if n < 3 { 2 * MS } else { Duration::from_micros(999) };
            recorder.ended(Sent { due: Some(due), free: from, at: due + held_up }, due + 3 * MS, Ok(()));
        }
        let outcome = recorder.outcome();
        assert_eq!((outcome.late, percent(&outcome)), (3, 1.5));
        let reason = outcome.invalid.expect("more than 1 % were late");
        assert_eq!(reason, "1.5 % of the sends were more than 1 ms late: the generator was too slow");
    }

    #[test]
    fn one_percent_of_late_sends_is_tolerated() {
        let (mut recorder, from) = recorder();
        for n in 0..200_u32 {
            let due = from + MS * n;
            let held_up = if n < 2 { 2 * MS } else { Duration::ZERO };
            recorder.ended(Sent { due: Some(due), free: from, at: due + held_up }, due + 3 * MS, Ok(()));
        }
        let outcome = recorder.outcome();
        assert_eq!((outcome.late, outcome.invalid), (2, None));
    }

    #[test]
    fn what_is_due_in_the_warm_up_or_after_the_end_is_not_counted() {
        let (mut recorder, from) = recorder();
        for due in [from - MS, from + 1000 * MS] {
            recorder.ended(Sent { due: Some(due), free: due, at: due }, due + MS, Ok(()));
            recorder.unsent(due);
        }
        let outcome = recorder.outcome();
        assert_eq!((outcome.sent, outcome.failed.len()), (0, 0));
        assert_eq!(outcome.invalid.as_deref(), Some("nothing was due in the counted time"));
    }

    #[test]
    fn a_closed_loop_counts_what_ends_in_the_counted_time() {
        let (mut recorder, from) = recorder();
        for (at, end) in [(from - 2 * MS, from - MS), (from - MS, from + MS), (from + 999 * MS, from + 1001 * MS)] {
            recorder.ended(Sent { due: None, free: at, at }, end, Ok(()));
        }
        let outcome = recorder.outcome();
        assert_eq!((outcome.sent, outcome.answered), (1, 1));
        assert_eq!((outcome.lateness, outcome.service), (None, None));
    }

    #[test]
    fn failures_are_counted_by_reason_and_more_than_one_percent_are_too_many() {
        let (mut recorder, from) = recorder();
        for n in 0..98_u32 {
            let due = from + MS * n;
            recorder.ended(Sent { due: Some(due), free: due, at: due }, due + MS, Ok(()));
        }
        recorder.ended(Sent { due: Some(from), free: from, at: from }, from + MS, Err(Failure::Reset));
        recorder.unsent(from + 500 * MS);
        let outcome = recorder.outcome();
        assert_eq!(outcome.failed, BTreeMap::from([(Failure::Reset, 1), (Failure::Unsent, 1)]));
        assert_eq!((outcome.sent, outcome.answered), (99, 98));
        assert_eq!(outcome.invalid.as_deref(), Some("2 of 100 requests failed: 1 reset, 1 unsent"));
    }
}
