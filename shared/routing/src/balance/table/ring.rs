//! A ring of hashes.

use super::Weighed;
use crate::hash::xx_hash64;

/// The most hashes that a ring may have.
const MAX_SIZE: u32 = 8 << 20;

/// How many hashes a ring has, as Envoy's [`RingHashLbConfig`] says it.
///
/// [`RingHashLbConfig`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/cluster/v3/cluster.proto#config-cluster-v3-cluster-ringhashlbconfig
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingSizes {
    minimum: u32,
    maximum: u32,
}

/// The hashes of all endpoints, sorted; a hash belongs to the next one.
#[derive(Debug, Clone)]
pub(in crate::balance) struct Ring(Vec<(u64, usize)>);

impl RingSizes {
    /// A minimum, 1024 if there is none, and a maximum, 8,388,608 if there is none; `None` if they contradict each other or
    /// are greater than that.
    #[must_use]
    pub fn new(minimum: Option<u32>, maximum: Option<u32>) -> Option<Self> {
        let sizes = Self { minimum: minimum.unwrap_or(1024), maximum: maximum.unwrap_or(MAX_SIZE) };
        (sizes.minimum <= sizes.maximum && sizes.maximum <= MAX_SIZE).then_some(sizes)
    }
}

impl Ring {
    /// The ring of these endpoints, in this order.
    ///
    /// Each has hashes of its key, `_` and a number that counts them, so many that the one of the smallest weight has a whole
    /// number of them and all together at least the minimum; where that is above the maximum, all have fewer.
    pub(super) fn new(weighed: &[Weighed<'_>], sizes: RingSizes) -> Self {
        let least = weighed.iter().map(|weighed| weighed.part).fold(1.0, f64::min);
        let scale = ((least * f64::from(sizes.minimum)).ceil() / least).min(f64::from(sizes.maximum));
        let mut ring = Vec::new();
        // Sums over all endpoints, so that parts of hashes are not lost.
        let (mut count, mut target) = (0.0, 0.0);
        for Weighed { member, endpoint, part } in weighed {
            target += scale * part;
            let mut number = 0_u32;
            while count < target {
                ring.push((xx_hash64(format!("{}_{number}", endpoint.hash_key()).as_bytes(), 0), *member));
                number += 1;
                count += 1.0;
            }
        }
        ring.sort_by_key(|(hash, _)| *hash);
        Self(ring)
    }

    pub(super) fn choose(&self, hash: u64, attempt: u32) -> Option<usize> {
        let next = self.0.partition_point(|(own, _)| *own < hash);
        // After the last one comes the first; attempts go on from there.
        let start = if next == self.0.len() { 0 } else { next };
        let place = (start + usize::try_from(attempt).ok()?).checked_rem(self.0.len())?;
        self.0.get(place).map(|(_, member)| *member)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
