//! Streams that read and write in random pieces, pend at random, and hold written bytes back until they are flushed.

use std::sync::{Arc, Mutex};

use super::*;
use proptest::prelude::*;

/// A cheap generator; the seed comes from proptest, so that failures shrink.
#[derive(Debug, Clone)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

/// What the peer of a stream saw.
#[derive(Debug, Default)]
struct Seen {
    held_back: Vec<u8>,
    arrived: Vec<u8>,
    shutdowns: usize,
    has_violation: bool,
}

struct Chaos<const OWNS_BYTES: bool> {
    dice: Dice,
    /// What the peer says, last first: each part only after it has seen so many of our bytes.
    parts: Vec<(usize, Vec<u8>)>,
    seen: Arc<Mutex<Seen>>,
    has_ended: bool,
}

impl<const OWNS_BYTES: bool> Chaos<OWNS_BYTES> {
    fn new(seed: u64, mut parts: Vec<(usize, Vec<u8>)>) -> (Self, Arc<Mutex<Seen>>) {
        let seen = Arc::new(Mutex::new(Seen::default()));
        parts.reverse();
        (Self { dice: Dice(seed), parts, seen: Arc::clone(&seen), has_ended: false }, seen)
    }

    /// Sometimes not now, but soon.
    fn pends(&mut self, context: &Context<'_>) -> bool {
        let pends = self.dice.roll(3) == 0;
        if pends {
            context.waker().wake_by_ref();
        }
        pends
    }
}

impl<const OWNS_BYTES: bool> Duplex for Chaos<OWNS_BYTES> {
    const OWNS_BYTES: bool = OWNS_BYTES;
}

impl<const OWNS_BYTES: bool> AsyncRead for Chaos<OWNS_BYTES> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let arrived = self.seen.lock().unwrap().arrived.len();
        if self.parts.last().is_some_and(|(waits_for, _)| arrived < *waits_for) {
            // Polled again so that a copy that forgets to flush is found out by the step limit, not by hanging.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.pends(context) {
            return Poll::Pending;
        }
        self.seen.lock().unwrap().has_violation |= self.has_ended;
        let Some((waits_for, part)) = self.parts.pop() else {
            self.has_ended = true;
            return Poll::Ready(Ok(()));
        };
        let length = 1 + self.dice.roll(part.len().min(buffer.remaining()));
        let (now, later) = part.split_at(length);
        buffer.put_slice(now);
        if !later.is_empty() {
            self.parts.push((waits_for, later.to_vec()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<const OWNS_BYTES: bool> AsyncWrite for Chaos<OWNS_BYTES> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.pends(context) {
            return Poll::Pending;
        }
        let length = 1 + self.dice.roll(bytes.len());
        let mut seen = self.seen.lock().unwrap();
        seen.has_violation |= seen.shutdowns > 0 || bytes.is_empty();
        seen.held_back.extend_from_slice(&bytes[..length]);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.pends(context) {
            return Poll::Pending;
        }
        let mut seen = self.seen.lock().unwrap();
        let flushed = std::mem::take(&mut seen.held_back);
        seen.arrived.extend(flushed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.as_mut().poll_flush(context))?;
        self.seen.lock().unwrap().shutdowns += 1;
        Poll::Ready(Ok(()))
    }
}

fn part() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => proptest::collection::vec(any::<u8>(), 1..200),
        // Larger than a buffer.
        1 => (1..2 * READ).prop_map(|length| (0..=252).cycle().take(length).collect()),
    ]
}

/// What the two peers say in turns; `is_polite` if each waits until the other has finished its turn.
fn conversation(turns: &[(Vec<u8>, Vec<u8>)], is_polite: bool) -> [Vec<(usize, Vec<u8>)>; 2] {
    let (mut client, mut server) = (Vec::new(), Vec::new());
    let (mut from_client, mut from_server) = (0, 0);
    for (question, answer) in turns {
        client.push((if is_polite { from_server } else { 0 }, question.clone()));
        from_client += question.len();
        server.push((if is_polite { from_client } else { 0 }, answer.clone()));
        from_server += answer.len();
    }
    [client, server]
}

fn all(parts: &[(usize, Vec<u8>)]) -> Vec<u8> {
    parts.iter().flat_map(|(_, part)| part.clone()).collect()
}

/// Carries a conversation to its end.
fn carry<const DOWN: bool, const UP: bool>(
    [client, server]: [Vec<(usize, Vec<u8>)>; 2],
    seeds: (u64, u64),
) -> Result<(), TestCaseError> {
    let (to_upstream, to_downstream) = (all(&client), all(&server));
    let (downstream, client) = Chaos::<DOWN>::new(seeds.0, client);
    let (upstream, server) = Chaos::<UP>::new(seeds.1, server);
    let counters = Counters::new();
    let mut copy = Box::pin(copy_bidirectional(downstream, upstream, &counters));
    let mut context = Context::from_waker(Waker::noop());
    let result = (0..100_000).find_map(|_| match copy.as_mut().poll(&mut context) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    });
    prop_assert!(matches!(result, Some(Ok(()))), "{:?}", result);
    let (client, server) = (client.lock().unwrap(), server.lock().unwrap());
    prop_assert!(server.arrived == to_upstream && client.arrived == to_downstream);
    prop_assert_eq!((server.shutdowns, client.shutdowns), (1, 1));
    prop_assert!(!server.has_violation && !client.has_violation);
    prop_assert_eq!(counters.to_upstream(), to_upstream.len() as u64);
    prop_assert_eq!(counters.to_downstream(), to_downstream.len() as u64);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn every_byte_and_every_end_arrives_once_and_in_order(
        turns in proptest::collection::vec((part(), part()), 0..5),
        is_polite in any::<bool>(),
        owners in any::<(bool, bool)>(),
        seeds in any::<(u64, u64)>(),
    ) {
        let parts = conversation(&turns, is_polite);
        match owners {
            (false, false) => carry::<false, false>(parts, seeds)?,
            (false, true) => carry::<false, true>(parts, seeds)?,
            (true, false) => carry::<true, false>(parts, seeds)?,
            (true, true) => carry::<true, true>(parts, seeds)?,
        }
    }
}
