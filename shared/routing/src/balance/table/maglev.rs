//! A table of Maglev.

use super::Weighed;
use crate::hash::xx_hash64;

/// The greatest table that is allowed.
const MAX_SIZE: u32 = 5_000_011;

/// How many places a table of Maglev has: a prime, 65537 unless told otherwise, as Envoy's [`MaglevLbConfig`] says it.
///
/// [`MaglevLbConfig`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/cluster/v3/cluster.proto#config-cluster-v3-cluster-maglevlbconfig
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableSize(u32);

/// [Maglev]: a table of prime size, in which endpoints take turns to take the next free place of an order of their own.
///
/// [Maglev]: https://research.google/pubs/maglev-a-fast-and-reliable-software-network-load-balancer/
#[derive(Debug, Clone)]
pub(in crate::balance) struct Maglev(Vec<u32>, Vec<usize>);

/// An endpoint's order of places.
struct Order {
    place: u64,
    skip: u64,
    part: f64,
    /// The turn that is the next one, in parts.
    due: f64,
}

impl TableSize {
    /// A size; `None` if it is no prime, or greater than 5,000,011.
    #[must_use]
    pub fn new(size: u32) -> Option<Self> {
        let mut divisors = (2..size).take_while(|divisor| divisor * divisor <= size);
        let is_prime = size > 1 && size <= MAX_SIZE && divisors.all(|divisor| !size.is_multiple_of(divisor));
        is_prime.then_some(Self(size))
    }
}

impl Default for TableSize {
    fn default() -> Self {
        Self(65537)
    }
}

impl Maglev {
    /// The table of these endpoints, whatever their order.
    ///
    /// An endpoint of the greatest weight takes a place in every round, one of half of it in every second round.
    pub(super) fn new(weighed: &[Weighed<'_>], TableSize(size): TableSize) -> Self {
        let mut sorted: Vec<_> = weighed.iter().collect();
        sorted.sort_by_key(|weighed| weighed.endpoint.hash_key());
        let members = sorted.iter().map(|weighed| weighed.member).collect();
        let most = sorted.iter().map(|weighed| weighed.part).fold(0.0, f64::max);
        let mut orders: Vec<_> = sorted.iter().map(|weighed| Order::new(weighed, u64::from(size))).collect();
        let mut places: Vec<Option<u32>> = vec![None; if orders.is_empty() { 0 } else { size as usize }];
        let mut left = places.len();
        let mut round = 0.0;
        while left > 0 {
            round += 1.0;
            for (number, order) in (0_u32..).zip(&mut orders) {
                if left == 0 {
                    break;
                }
                if round * order.part >= order.due {
                    order.due += most;
                    order.take_place(&mut places, number);
                    left -= 1;
                }
            }
        }
        Self(places.into_iter().flatten().collect(), members)
    }

    pub(super) fn choose(&self, hash: u64, attempt: u32) -> Option<usize> {
        // A number of which most bits are set changes most of the hash.
        let hash = hash ^ u64::from(attempt).wrapping_neg();
        let place = usize::try_from(hash.checked_rem(self.0.len() as u64)?).ok()?;
        self.1.get(usize::try_from(*self.0.get(place)?).ok()?).copied()
    }
}

impl Order {
    fn new(weighed: &Weighed<'_>, size: u64) -> Self {
        let key = weighed.endpoint.hash_key().as_bytes();
        Self { place: xx_hash64(key, 0) % size, skip: xx_hash64(key, 1) % (size - 1) + 1, part: weighed.part, due: 0.0 }
    }

    /// Takes the next free place, of which there is one, since the order of a prime table goes through all of it.
    fn take_place(&mut self, places: &mut [Option<u32>], number: u32) {
        let size = places.len() as u64;
        for _ in 0..size {
            let place = usize::try_from(self.place).ok().and_then(|place| places.get_mut(place));
            self.place = (self.place + self.skip) % size;
            if let Some(free @ None) = place {
                *free = Some(number);
                return;
            }
        }
    }
}
