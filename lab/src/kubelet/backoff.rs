//! How long a container that ended waits for its restart.

use std::time::Duration;

/// The first wait. A lab's user watches, so all waits are shorter than those of a production kubelet.
const FIRST: Duration = Duration::from_millis(250);

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(10);

/// A container that ran this long starts again with the first wait.
const FORGIVEN_AFTER: Duration = Duration::from_secs(10);

/// The waits of one container.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// The next wait, twice the one before unless the container `ran` long enough.
    pub(crate) fn next(&mut self, ran: Duration) -> Duration {
        let next = match self.last {
            Some(last) if ran < FORGIVEN_AFTER => (last * 2).min(LONGEST),
            _ => FIRST,
        };
        self.last = Some(next);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_forgiven() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.next(Duration::ZERO).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        assert_eq!(backoff.next(FORGIVEN_AFTER), FIRST);
    }
}
