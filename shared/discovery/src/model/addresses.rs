//! The addresses of a workload.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;

/// Addresses in order of preference; a single one, which is what most workloads have, lies in place.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Addresses(List);

#[derive(Clone, PartialEq, Eq)]
enum List {
    One(IpAddr),
    /// Never one.
    Several(Box<[IpAddr]>),
}

impl Default for List {
    fn default() -> Self {
        Self::Several(Box::default())
    }
}

impl Deref for Addresses {
    type Target = [IpAddr];

    fn deref(&self) -> &[IpAddr] {
        match &self.0 {
            List::One(address) => std::slice::from_ref(address),
            List::Several(addresses) => addresses,
        }
    }
}

impl From<Vec<IpAddr>> for Addresses {
    fn from(addresses: Vec<IpAddr>) -> Self {
        Self(match *addresses {
            [address] => List::One(address),
            _ => List::Several(addresses.into()),
        })
    }
}

impl From<IpAddr> for Addresses {
    fn from(address: IpAddr) -> Self {
        Self(List::One(address))
    }
}

impl FromIterator<IpAddr> for Addresses {
    fn from_iter<T: IntoIterator<Item = IpAddr>>(addresses: T) -> Self {
        addresses.into_iter().collect::<Vec<_>>().into()
    }
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_what_it_was_made_from() {
        let ip = |last| IpAddr::from([10, 0, 0, last]);
        for count in 0..4 {
            let addresses: Vec<IpAddr> = (0..count).map(ip).collect();
            assert_eq!(*Addresses::from(addresses.clone()), *addresses);
        }
        assert_eq!(Addresses::from(ip(1)), Addresses::from(vec![ip(1)]));
        assert!(Addresses::default().is_empty());
    }
}
