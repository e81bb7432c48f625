//! Where a pod stands, and which step brings it to where its labels want it.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::eligibility::Capture;
use crate::enrol::Enrolled;

/// The first pause after a failed step; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// A pod that cannot be captured is tried at least this often.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a pod's labels and phase ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Intent {
    /// In the mesh.
    Captured {
        /// How much of its traffic.
        capture: Capture,
        /// Its addresses; others than before mean another network namespace.
        addresses: Vec<IpAddr>,
    },
    /// Not in the mesh.
    Outside,
    /// Its containers have ended; it keeps neither address nor namespace.
    Ended,
}

/// What is done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Bring it into the mesh.
    Enrol(Capture),
    /// Bring it into the mesh before anything runs in it.
    Admit(Capture),
    /// Put its rules back, which somebody has changed.
    Repair(Capture),
    /// Take it out.
    Leave,
    /// It has ended or is gone.
    Forget,
}

/// Where a pod stands; a pod without state is outside.
#[derive(Debug)]
pub(super) enum State {
    /// A task is at work; what it started from is kept for when it fails.
    Working { enrolled: Option<Enrolled>, failure: Option<Failure> },
    /// In the mesh.
    Captured { enrolled: Enrolled, capture: Capture },
    /// Out of the mesh, with rules that keep its last connections.
    Lingering(Enrolled),
    /// The last step failed.
    Failed { failure: Failure, enrolled: Option<Enrolled> },
}

/// When a failed step is tried again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    /// How long the pause is.
    pub(super) delay: Duration,
    retry_at: Instant,
}

impl Failure {
    /// The pause doubles with each failure in a row.
    pub(super) fn after(previous: Option<&State>, now: Instant) -> Self {
        let delay = match previous {
            Some(State::Working { failure: Some(failure), .. }) => (failure.delay * 2).min(LONGEST_PAUSE),
            _ => FIRST_PAUSE,
        };
        Self { delay, retry_at: now + delay }
    }
}

impl State {
    /// The state while a task works on a pod.
    pub(super) fn working(previous: Option<Self>) -> Self {
        let failure = match &previous {
            Some(Self::Failed { failure, .. }) => Some(*failure),
            _ => None,
        };
        Self::Working { enrolled: previous.and_then(Self::into_enrolled), failure }
    }

    /// The step for a pod that this agent has not dealt with; `is_marked` tells that an earlier agent has.
    pub(super) fn unknown_next_step(intent: &Intent, is_marked: bool) -> Option<Step> {
        match intent {
            Intent::Captured { capture, .. } => Some(Step::Enrol(capture.clone())),
            Intent::Outside if is_marked => Some(Step::Leave),
            Intent::Outside | Intent::Ended => None,
        }
    }

    /// The step for a pod in this state; `None` when it is as it should be, or must wait.
    pub(super) fn next_step(&self, intent: &Intent, now: Instant) -> Option<Step> {
        if self.is_working() || self.is_waiting(now) {
            return None;
        }
        match (self, intent) {
            (_, Intent::Ended) => Some(Step::Forget),
            (Self::Captured { enrolled, capture }, Intent::Captured { capture: wanted, addresses }) => {
                let is_same = capture == wanted && enrolled.addresses == *addresses;
                (!is_same).then(|| Step::Enrol(wanted.clone()))
            }
            (_, Intent::Captured { capture, .. }) => Some(Step::Enrol(capture.clone())),
            (Self::Lingering(_), Intent::Outside) => None,
            // A pod that never got in has nothing to leave, but a first step may have been done: leaving undoes it.
            (_, Intent::Outside) => Some(Step::Leave),
        }
    }

    pub(super) fn enrolled(&self) -> Option<&Enrolled> {
        match self {
            Self::Captured { enrolled, .. } | Self::Lingering(enrolled) => Some(enrolled),
            Self::Working { enrolled, .. } | Self::Failed { enrolled, .. } => enrolled.as_ref(),
        }
    }

    pub(super) fn into_enrolled(self) -> Option<Enrolled> {
        match self {
            Self::Captured { enrolled, .. } | Self::Lingering(enrolled) => Some(enrolled),
            Self::Working { enrolled, .. } | Self::Failed { enrolled, .. } => enrolled,
        }
    }

    pub(super) fn is_working(&self) -> bool {
        matches!(self, Self::Working { .. })
    }

    /// Whether a failed step must wait.
    pub(super) fn is_waiting(&self, now: Instant) -> bool {
        self.retry_time().is_some_and(|retry| retry > now)
    }

    pub(super) fn retry_time(&self) -> Option<Instant> {
        match self {
            Self::Failed { failure, .. } => Some(failure.retry_at),
            _ => None,
        }
    }

    /// Brings the next try of a failed step forward.
    pub(super) fn retry_at(&mut self, time: Instant) {
        if let Self::Failed { failure, .. } = self {
            failure.retry_at = time;
        }
    }
}

#[cfg(test)]
mod tests {
    use linux::netns::NetNs;

    use super::*;

    fn enrolled() -> Enrolled {
        Enrolled { netns: NetNs::current().unwrap(), addresses: vec![[10, 0, 0, 1].into()] }
    }

    fn captured() -> Intent {
        Intent::Captured { capture: Capture::default(), addresses: enrolled().addresses }
    }

    #[tokio::test(start_paused = true)]
    async fn a_captured_pod_needs_nothing_until_something_changes() {
        let now = Instant::now();
        let state = State::Captured { enrolled: enrolled(), capture: Capture::default() };
        assert_eq!(state.next_step(&captured(), now), None);
        assert_eq!(state.next_step(&Intent::Outside, now), Some(Step::Leave));
        assert_eq!(state.next_step(&Intent::Ended, now), Some(Step::Forget));
        let moved = Intent::Captured { capture: Capture::default(), addresses: vec![[10, 0, 0, 2].into()] };
        assert_eq!(state.next_step(&moved, now), Some(Step::Enrol(Capture::default())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_an_earlier_agent_captured_is_released_when_unlabelled() {
        assert_eq!(State::unknown_next_step(&Intent::Outside, true), Some(Step::Leave));
        assert_eq!(State::unknown_next_step(&Intent::Outside, false), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_left_may_come_back() {
        let state = State::Lingering(enrolled());
        assert_eq!(state.next_step(&Intent::Outside, Instant::now()), None);
        assert_eq!(state.next_step(&captured(), Instant::now()), Some(Step::Enrol(Capture::default())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_step_waits_longer_each_time() {
        let now = Instant::now();
        let mut pause = Duration::ZERO;
        let mut previous = None;
        for _ in 0..12 {
            let failure = Failure::after(previous.as_ref(), now);
            assert!(failure.delay > pause || failure.delay == LONGEST_PAUSE);
            pause = failure.delay;
            let failed = State::Failed { failure, enrolled: None };
            assert_eq!(failed.next_step(&captured(), now), None);
            assert!(failed.next_step(&captured(), now + failure.delay).is_some());
            previous = Some(State::working(Some(failed)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_starts_while_a_task_works() {
        assert_eq!(State::working(None).next_step(&Intent::Outside, Instant::now()), None);
    }
}
