//! Who else listens on ports of ours in a network namespace: those who were there before, and whoever came after.
//!
//! The kernel is asked, not the node agent: that holds whichever agent and whichever successor it is.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use linux::socket::{Listening, inode, listening};

/// A port, on one address or on all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    At(SocketAddr),
    /// Whatever the address: others may listen on the wildcard of another family.
    Port(u16),
}

impl Place {
    fn is_of(self, listener: &Listening) -> bool {
        match self {
            Self::At(address) => listener.address == address,
            Self::Port(port) => listener.address.port() == port,
        }
    }
}

/// A claim on ports that others may share; to be used inside the network namespace.
#[derive(Debug)]
pub(crate) struct Claim {
    places: Vec<Place>,
    own: HashSet<u64>,
    /// Listeners that were there before: whoever has them is to make way, not we.
    elders: HashSet<u64>,
}

impl Claim {
    /// To be made before the ports are bound: whoever listens on them now came earlier.
    pub(crate) fn after_elders(places: &[Place]) -> Self {
        let elders = listening().map_or_else(
            |error| {
                tracing::warn!(%error, "cannot tell who else listens");
                HashSet::new()
            },
            |all| all.iter().filter(|one| places.iter().any(|place| place.is_of(one))).map(|one| one.inode).collect(),
        );
        Self { elders, ..Self::of_the_last(places) }
    }

    /// As [`Claim::after_elders`] for a process that will end: it makes way for anybody.
    pub(crate) fn of_the_last(places: &[Place]) -> Self {
        Self { places: places.to_vec(), own: HashSet::new(), elders: HashSet::new() }
    }

    /// Notes a listener of ours.
    pub(crate) fn add(&mut self, listener: &impl AsFd) -> io::Result<()> {
        self.own.insert(inode(listener)?);
        Ok(())
    }

    /// Whether somebody was there before.
    pub(crate) fn has_elders(&self) -> bool {
        !self.elders.is_empty()
    }

    /// Whether somebody who came after us listens on every one of the ports.
    pub(crate) fn is_succeeded(&self) -> io::Result<bool> {
        Ok(self.is_succeeded_among(&listening()?))
    }

    /// As [`Claim::is_succeeded`], if `all` are who listens.
    pub(crate) fn is_succeeded_among(&self, all: &[Listening]) -> bool {
        let is_younger = |one: &Listening| !self.own.contains(&one.inode) && !self.elders.contains(&one.inode);
        let covers = |place: &Place| all.iter().any(|one| place.is_of(one) && is_younger(one));
        !self.places.is_empty() && self.places.iter().all(covers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: [Place; 2] = [Place::Port(1), Place::Port(2)];

    fn one(port: u16, inode: u64) -> Listening {
        Listening { address: ([0, 0, 0, 0], port).into(), waiting: 0, backlog: 1, inode }
    }

    fn claim() -> Claim {
        Claim { places: PLACES.to_vec(), own: [10, 11].into(), elders: [20].into() }
    }

    #[test]
    fn a_successor_has_every_port() {
        let own = [one(1, 10), one(2, 11)];
        assert!(!claim().is_succeeded_among(&own));
        assert!(!claim().is_succeeded_among(&[own.as_slice(), &[one(1, 30), one(3, 31)]].concat()));
        assert!(claim().is_succeeded_among(&[own.as_slice(), &[one(1, 30), one(2, 31)]].concat()));
        assert!(claim().is_succeeded_among(&[one(1, 30), one(2, 31)]), "also when our own are gone");
    }

    #[test]
    fn another_address_is_another_place() {
        let claim = Claim::of_the_last(&[Place::At(([127, 0, 0, 1], 1).into())]);
        assert!(!claim.is_succeeded_among(&[one(1, 30)]));
        let same = Listening { address: ([127, 0, 0, 1], 1).into(), ..one(1, 30) };
        assert!(claim.is_succeeded_among(&[same]));
    }

    #[test]
    fn whoever_was_there_before_is_no_successor() {
        assert!(!claim().is_succeeded_among(&[one(1, 20), one(2, 20)]));
        let last = Claim::of_the_last(&PLACES);
        assert!(last.is_succeeded_among(&[one(1, 20), one(2, 20)]), "who ends makes way for anybody");
    }
}
