//! Consistent hashing: which endpoint a hash belongs to.

mod maglev;
mod ring;

use self::maglev::Maglev;
pub use self::maglev::TableSize;
use self::ring::Ring;
pub use self::ring::RingSizes;
use super::{BalancePolicy, Endpoint};

/// Which endpoint each hash belongs to; members are numbers that the caller chooses.
#[derive(Debug, Clone)]
pub(super) enum Table {
    Ring(Ring),
    Maglev(Maglev),
}

/// An endpoint that takes part in consistent hashing, with its part of all requests.
pub(super) struct Weighed<'a> {
    pub(super) member: usize,
    pub(super) endpoint: &'a Endpoint,
    /// Between 0 and 1; those of all endpoints together are 1.
    pub(super) part: f64,
}

impl Table {
    /// The table that a policy wants; `None` if it wants none.
    pub(super) fn new(policy: &BalancePolicy, weighed: &[Weighed<'_>]) -> Option<Self> {
        match policy {
            BalancePolicy::RingHash(sizes) => Some(Self::Ring(Ring::new(weighed, *sizes))),
            BalancePolicy::Maglev(size) => Some(Self::Maglev(Maglev::new(weighed, *size))),
            _ => None,
        }
    }

    /// The member for a hash; other attempts give other ones, though not for sure.
    pub(super) fn choose(&self, hash: u64, attempt: u32) -> Option<usize> {
        match self {
            Self::Ring(ring) => ring.choose(hash, attempt),
            Self::Maglev(maglev) => maglev.choose(hash, attempt),
        }
    }
}

#[cfg(test)]
mod tests;
