//! How far ahead a peer may send on a bulk stream: far while it is alone, little while others on the connection are quick.
//!
//! A window of megabytes keeps a fast stream fast whatever the machine is busy with. But what a peer has sent ahead lies
//! in front of everybody else's next request, on a connection that delivers in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::Parameters;
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
    /// How much all streams may keep back together, of the window that they share.
    most_kept: u32,
    kept: AtomicU32,
    /// When a stream that is not bulk received something last, in milliseconds of `seen`; zero for never.
    quick: AtomicU32,
}

/// One stream among its neighbours.
#[derive(Debug)]
pub(crate) struct Pace {
    neighbours: Arc<Neighbours>,
    /// When the present interval began; this and what follows is small because there are many streams.
    since: u32,
    /// Bytes in the present interval.
    bytes: u32,
    /// Bytes per millisecond in the last one.
    rate: u32,
    /// When this stream was quick itself last, as `quick` would say it.
    marked: u32,
    /// Bytes that were used, and whose window is not returned to the peer yet.
    kept: u32,
}

impl Neighbours {
    pub(crate) fn new(seen: Seen, round_trip: Duration, parameters: &Parameters) -> Arc<Self> {
        Arc::new(Self {
            seen,
            round_trip,
            stream_window: parameters.stream_window,
            most_kept: parameters.connection_window / 2,
            kept: AtomicU32::new(0),
            quick: AtomicU32::new(0),
        })
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
    pub(crate) fn new(neighbours: Arc<Neighbours>) -> Self {
        let since = neighbours.now();
        Self { neighbours, since, bytes: 0, rate: 0, marked: 0, kept: 0 }
    }

    /// How much of the window to return now that `count` more bytes were used, of `outstanding` that the peer has sent and
    /// that are not returned yet.
    pub(crate) fn used(&mut self, count: u32, outstanding: u32) -> u32 {
        let now = self.neighbours.now();
        self.measure(now, count);
        let (hidden, owed) = (self.hidden(now), self.kept.saturating_add(count));
        let returned = outstanding.saturating_sub(hidden).min(owed);
        self.keep(owed - returned);
        returned
    }

    fn measure(&mut self, now: u32, count: u32) {
        self.bytes = self.bytes.saturating_add(count);
        let elapsed = now.wrapping_sub(self.since);
        if elapsed >= INTERVAL {
            (self.rate, self.bytes, self.since) = (self.bytes / elapsed, 0, now);
        }
    }

    /// How much of the stream's window the peer must not see.
    fn hidden(&mut self, now: u32) -> u32 {
        let neighbours = &*self.neighbours;
        if self.rate < BULK {
            self.marked = now.max(1);
            neighbours.quick.store(self.marked, Ordering::Relaxed);
            return 0;
        }
        let quick = neighbours.quick.load(Ordering::Relaxed);
        // Nobody is a neighbour of its own; one that was quick in the same millisecond will be again.
        if quick == 0 || quick == self.marked || now.wrapping_sub(quick) > NEIGHBOUR {
            return 0;
        }
        let others = neighbours.kept.load(Ordering::Relaxed).saturating_sub(self.kept);
        let room = neighbours.most_kept.saturating_sub(others);
        (neighbours.stream_window - neighbours.ahead(self.rate)).min(room)
    }

    fn keep(&mut self, kept: u32) {
        let sum = &self.neighbours.kept;
        if kept >= self.kept {
            sum.fetch_add(kept - self.kept, Ordering::Relaxed);
        } else {
            sum.fetch_sub(self.kept - kept, Ordering::Relaxed);
        }
        self.kept = kept;
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        // The connection takes its share back when a stream is gone.
        self.keep(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u32 = 4 << 20;

    /// A stream as its receiver sees it: the peer sends whatever it may.
    struct Flow {
        pace: Pace,
        window: u32,
    }

    impl Flow {
        fn new(neighbours: &Arc<Neighbours>) -> Self {
            Self { pace: Pace::new(Arc::clone(neighbours)), window: WINDOW }
        }

        /// The peer sends, and the reader uses, up to `most` bytes in pieces; how much the peer may send afterwards.
        fn receive(&mut self, most: u32) -> u32 {
            let mut left = most.min(self.window);
            while left > 0 {
                let count = left.min(16 << 10);
                self.window -= count;
                left -= count;
                self.window += self.pace.used(count, WINDOW - self.window);
            }
            self.window
        }
    }

    fn neighbours(round_trip: Duration) -> (Arc<Neighbours>, impl Fn(u64)) {
        let seen = Seen::now();
        let clock = seen.clone();
        (Neighbours::new(seen, round_trip, &Parameters::default()), move |now| clock.set(now))
    }

    /// A megabyte each millisecond, 8 Gbit/s, for a tenth of a second, beside a request each ten.
    fn bulk(flow: &mut Flow, quick: Option<&mut Flow>, from: u64, set: &impl Fn(u64)) -> u32 {
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
        assert_eq!(neighbours.kept.load(Ordering::Relaxed), WINDOW - LEAST);
        assert_eq!(bulk(&mut flow, None, 200, &set), WINDOW);
        assert_eq!(neighbours.kept.load(Ordering::Relaxed), 0);
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
    fn many_never_keep_more_than_half_of_what_they_share() {
        let (neighbours, set) = neighbours(Duration::ZERO);
        let mut flows: Vec<_> = (0..20).map(|_index| Flow::new(&neighbours)).collect();
        let mut quick = Flow::new(&neighbours);
        for now in 1..200 {
            set(now);
            quick.receive(10);
            for flow in &mut flows {
                assert!(flow.receive(1 << 20) >= LEAST);
            }
        }
        let kept = neighbours.kept.load(Ordering::Relaxed);
        assert_eq!(kept, 8 << 20);
        drop(flows);
        assert_eq!(neighbours.kept.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn bulk_beside_bulk_keeps_nothing_back() {
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
