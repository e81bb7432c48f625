//! How long a container that ended waits for its restart, as a kubelet has it.
//! [Kubernetes: container restarts](https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy).

use std::time::Duration;

/// The wait before the second restart; the first one comes at once.
const FIRST: Duration = Duration::from_secs(10);

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(300);

/// A container that ran this long starts again as if it had never failed.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// The waits of one container.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    /// The wait before the next restart of a container that `ran` so long: nothing at first, then 10 s, and from then
    /// on twice the one before.
    pub(crate) fn next(&mut self, ran: Duration) -> Duration {
        let wait = if ran >= FORGIVEN_AFTER { Duration::ZERO } else { self.next };
        self.next = (wait * 2).clamp(FIRST, LONGEST);
        wait
    }
}

/// A time as Kubernetes writes it in messages: `10s`, `1m20s`.
pub(crate) fn written(time: Duration) -> String {
    match (time.as_secs() / 60, time.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_forgiven() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.next(Duration::from_secs(599)).as_secs()).collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.next(FORGIVEN_AFTER), Duration::ZERO);
        assert_eq!(backoff.next(Duration::ZERO), FIRST);
    }

    #[test]
    fn times_are_written_as_kubernetes_does() {
        let texts = [10, 40, 80, 300].map(|seconds| written(Duration::from_secs(seconds)));
        assert_eq!(texts, ["10s", "40s", "1m20s", "5m0s"]);
    }
}
