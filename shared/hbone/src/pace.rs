//! How far ahead a peer may send on a bulk stream: far while it is alone, little while others on the connection are quick.
//!
//! A window of megabytes keeps a fast stream fast whatever the machine is busy with. But what a peer has sent ahead lies
//! in front of everybody else's next request, on a connection that delivers in order.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::activity::Seen;

/// For how long the rate of a stream is averaged, in milliseconds.
const INTERVAL: u32 = 32;

/// A stream is bulk from so many bytes per millisecond on: 16 MB/s, which no window of requests and answers needs.
const BULK: u32 = 16 << 10;

/// For how long after its last byte a stream that is not bulk counts as a neighbour, in milliseconds.
const NEIGHBOUR: u32 = 100;

/// What a bulk stream beside others may always send ahead: half a millisecond at 4 Gbit/s.
const LEAST: u32 = 256 << 10;

/// The streams of one connection, as they regard each other.
#[derive(Debug)]
pub(crate) struct Neighbours {
    seen: Seen,
    /// Of the network between the two ends, without anything that waits.
    round_trip: Duration,
    stream_window: u32,
    /// When a stream that is not bulk received something last, in milliseconds of `seen`; zero for never.
    quick: AtomicU32,
}

/// One stream among its neighbours; small, because there are many.
#[derive(Debug)]
pub(crate) struct Pace {
    /// When the present interval began.
    since: u32,
    /// Bytes in the present interval.
    bytes: u32,
    /// Bytes per millisecond in the last one.
    rate: u32,
    /// When this stream was quick itself last, as `quick` would say it.
    marked: u32,
    /// Its window is smaller than it may be.
    is_held: bool,
}

impl Neighbours {
    pub(crate) fn new(seen: Seen, round_trip: Duration, stream_window: u32) -> Self {
        Self { seen, round_trip, stream_window, quick: AtomicU32::new(0) }
    }

    /// The clock that they go by.
    pub(crate) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// How much a stream of this rate may have on its way: enough to keep the network busy twice over.
    fn ahead(&self, rate: u32) -> u32 {
        let busy = 2 * u128::from(rate) * self.round_trip.as_micros() / 1000;
        LEAST.max(u32::try_from(busy).unwrap_or(u32::MAX)).min(self.stream_window)
    }

    /// A clock that goes round every 49 days.
    #[expect(clippy::cast_possible_truncation, reason = "differences are small, and taken as round as the clock")]
    fn now(&self) -> u32 {
        self.seen.milliseconds() as u32
    }
}

impl Pace {
    pub(crate) fn new(neighbours: &Neighbours) -> Self {
        Self { since: neighbours.now(), bytes: 0, rate: 0, marked: 0, is_held: false }
    }

    /// So many bytes were read: the window that the peer shall have from now on, if that is another one.
    pub(crate) fn read(&mut self, count: usize, neighbours: &Neighbours) -> Option<u32> {
        let now = neighbours.now();
        self.measure(now, count);
        let is_beside_others = self.is_beside_others(now, neighbours);
        if is_beside_others {
            self.is_held = true;
            return Some(neighbours.ahead(self.rate));
        }
        std::mem::take(&mut self.is_held).then_some(neighbours.stream_window)
    }

    fn measure(&mut self, now: u32, count: usize) {
        self.bytes = self.bytes.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        let elapsed = now.wrapping_sub(self.since);
        if elapsed >= INTERVAL {
            (self.rate, self.bytes, self.since) = (self.bytes / elapsed, 0, now);
        }
    }

    /// Whether this stream is bulk, and another one is quick.
    fn is_beside_others(&mut self, now: u32, neighbours: &Neighbours) -> bool {
        if self.rate < BULK {
            self.marked = now.max(1);
            neighbours.quick.store(self.marked, Ordering::Relaxed);
            return false;
        }
        let quick = neighbours.quick.load(Ordering::Relaxed);
        // Nobody is a neighbour of its own; one that was quick in the same millisecond will be again.
        quick != 0 && quick != self.marked && now.wrapping_sub(quick) <= NEIGHBOUR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u32 = 4 << 20;

    /// A stream, and what its peer may have sent ahead.
    struct Flow<'a> {
        pace: Pace,
        neighbours: &'a Neighbours,
        window: u32,
    }

    impl<'a> Flow<'a> {
        fn new(neighbours: &'a Neighbours) -> Self {
            Self { pace: Pace::new(neighbours), neighbours, window: WINDOW }
        }

        /// Reads so many bytes; the window after that.
        fn receive(&mut self, count: usize) -> u32 {
            self.window = self.pace.read(count, self.neighbours).unwrap_or(self.window);
            self.window
        }
    }

    fn neighbours(round_trip: Duration) -> (Neighbours, impl Fn(u64)) {
        let seen = Seen::now();
        let clock = seen.clone();
        (Neighbours::new(seen, round_trip, WINDOW), move |now| clock.set(now))
    }

    /// A megabyte each millisecond, 8 Gbit/s, for a tenth of a second, beside a request each ten.
    fn bulk(flow: &mut Flow<'_>, quick: Option<&mut Flow<'_>>, from: u64, set: &impl Fn(u64)) -> u32 {
        let mut quick = quick;
        let mut window = 0;
        for now in from..from + 100 {
            set(now);
            if let Some(quick) = quick.as_mut().filter(|_| now % 10 == 0) {
                assert_eq!(quick.receive(100), WINDOW);
            }
            window = flow.receive(1 << 20);
        }
        window
    }

    #[test]
    fn alone_it_has_its_whole_window() {
        let (neighbours, set) = neighbours(Duration::ZERO);
        let mut flow = Flow::new(&neighbours);
        bulk(&mut flow, None, 1, &set);
        assert_eq!(bulk(&mut flow, None, 200, &set), WINDOW);
    }

    #[test]
    fn beside_requests_it_gets_little_and_all_again_when_they_are_over() {
        let (neighbours, set) = neighbours(Duration::from_micros(50));
        let (mut flow, mut quick) = (Flow::new(&neighbours), Flow::new(&neighbours));
        assert_eq!(bulk(&mut flow, Some(&mut quick), 1, &set), LEAST);
        assert_eq!(bulk(&mut flow, None, 200, &set), WINDOW);
    }

    #[test]
    fn a_long_network_is_kept_busy() {
        let window_after = |round_trip| {
            let (neighbours, set) = neighbours(round_trip);
            let (mut flow, mut quick) = (Flow::new(&neighbours), Flow::new(&neighbours));
            bulk(&mut flow, Some(&mut quick), 1, &set)
        };
        let window = window_after(Duration::from_micros(700));
        assert!(window > LEAST && window <= 2 << 20, "{window}");
        assert_eq!(window_after(Duration::from_millis(80)), WINDOW);
    }

    #[test]
    fn bulk_beside_bulk_has_its_whole_window() {
        let (neighbours, set) = neighbours(Duration::ZERO);
        let (mut one, mut other) = (Flow::new(&neighbours), Flow::new(&neighbours));
        let mut windows = (0, 0);
        for now in 1..400 {
            set(now);
            windows = (one.receive(1 << 20), other.receive(1 << 20));
        }
        assert_eq!(windows, (WINDOW, WINDOW));
    }
}
