//! When requests are due: fixed in advance, a pure function of the plan.
//!
//! With a fixed rate `r`, the n-th request of all is due `n / r` seconds after the start, and the lanes (connections, or
//! streams of one connection) take turns: so arrivals are evenly spaced over all lanes, and no two lanes send at once.
//! A lane whose answer is late sends what became due meanwhile one after the other, as soon as it can, and each of these
//! counts from the time at which it was due.

use std::time::Duration;

use tokio::time::Instant;

use crate::plan::Pace;

/// The times of a run. Everything that happens is put in relation to them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// The first request is due.
    pub(crate) start: Instant,
    /// What is due from here on is counted.
    pub(crate) measured_from: Instant,
    /// Nothing is due any more.
    pub(crate) end: Instant,
}

impl Window {
    pub(crate) fn new(start: Instant, warm_up: Duration, duration: Duration) -> Self {
        let measured_from = start + warm_up;
        Self { start, measured_from, end: measured_from + duration }
    }

    pub(crate) fn counts(&self, at: Instant) -> bool {
        at >= self.measured_from && at < self.end
    }

    pub(crate) fn length(&self) -> Duration {
        self.end - self.measured_from
    }
}

/// The times at which one lane has something to send.
#[derive(Debug, Clone)]
pub(crate) struct Arrivals {
    window: Window,
    /// Nanoseconds between two arrivals of this lane; absent in a closed loop.
    every: Option<f64>,
    /// Nanoseconds from the start to the first one.
    offset: f64,
    /// How many there were.
    count: u32,
}

/// What a lane has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send what is due at this time, which may be past.
    At(Instant),
    /// Send as soon as possible.
    Now,
    /// The time is over.
    End,
}

impl Arrivals {
    /// Those of lane number `lane` of `lanes`.
    pub(crate) fn new(window: Window, pace: Pace, lane: u32, lanes: u32) -> Self {
        let (every, offset) = match pace {
            Pace::Fixed { rate } => (Some(1e9 * f64::from(lanes) / rate), 1e9 * f64::from(lane) / rate),
            Pace::Saturation => (None, 0.0),
        };
        Self { window, every, offset, count: 0 }
    }

    /// The next one; `now` matters in a closed loop only.
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        let Some(every) = self.every else {
            return if now < self.window.end { Next::Now } else { Next::End };
        };
        // Multiplied and not summed up: no error grows with the number of requests.
        let after = self.offset + every * f64::from(self.count);
        let due = self.window.start + Duration::from_secs_f64(after / 1e9);
        if due >= self.window.end {
            return Next::End;
        }
        self.count += 1;
        Next::At(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(warm_up: u64, duration: u64) -> Window {
        Window::new(Instant::now(), Duration::from_millis(warm_up), Duration::from_millis(duration))
    }

    fn all(mut arrivals: Arrivals) -> Vec<u128> {
        let start = arrivals.window.start;
        let mut due = Vec::new();
        while let Next::At(at) = arrivals.next(start) {
            due.push((at - start).as_micros());
        }
        due
    }

    #[test]
    fn lanes_take_turns_at_even_distances() {
        let (window, pace) = (window(2, 4), Pace::Fixed { rate: 1000.0 });
        assert_eq!(all(Arrivals::new(window, pace, 0, 2)), [0, 2000, 4000]);
        assert_eq!(all(Arrivals::new(window, pace, 1, 2)), [1000, 3000, 5000]);
    }

    #[test]
    fn as_many_are_due_as_the_rate_says_over_a_long_time() {
        // A third of a millisecond apart is no whole number of nanoseconds.
        let (window, pace) = (window(0, 600_000), Pace::Fixed { rate: 3000.0 });
        let total: usize = (0..7).map(|lane| all(Arrivals::new(window, pace, lane, 7)).len()).sum();
        assert_eq!(total, 1_800_000);
    }

    #[test]
    fn a_closed_loop_sends_until_the_end() {
        let window = window(0, 1000);
        let mut arrivals = Arrivals::new(window, Pace::Saturation, 3, 16);
        assert_eq!(arrivals.next(window.end - Duration::from_nanos(1)), Next::Now);
        assert_eq!(arrivals.next(window.end), Next::End);
    }
}
