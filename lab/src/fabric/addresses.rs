//! Who has which address: nodes, pod ranges, pods.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use linux::Prefix;

/// The bridge that joins the nodes.
pub const BRIDGE: &str = "aquifer0";

/// The fabric's own address on the bridge.
pub const FABRIC_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);

/// Prefix length of the nodes' network.
const NODE_PREFIX: u8 = 24;

/// Most nodes that a lab can have: each needs some ten processes once the mesh runs.
pub const MAX_NODES: u8 = 16;

/// Where pods reach the API server after address translation.
pub const API_ENDPOINT: SocketAddr = SocketAddr::new(IpAddr::V4(FABRIC_ADDRESS), 443);

/// One node's share of the address plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeNetwork {
    /// 1 for the first node.
    pub index: u8,
    /// `node-1`, …
    pub name: String,
    /// The node's address on the bridge.
    pub address: Ipv4Addr,
}

impl NodeNetwork {
    /// The plan of node `index`, counted from 1 to [`MAX_NODES`].
    pub fn new(index: u8) -> Self {
        Self { index, name: format!("node-{index}"), address: Ipv4Addr::new(172, 30, 0, 10_u8.saturating_add(index)) }
    }

    /// The plans of a lab of `count` nodes.
    pub fn plan(count: u8) -> Vec<Self> {
        (1..=count).map(Self::new).collect()
    }

    /// The node's address with its prefix length.
    pub fn interface(&self) -> Prefix {
        prefix(self.address, NODE_PREFIX)
    }

    /// The range that the node's pods get their addresses from.
    pub fn pod_range(&self) -> Prefix {
        prefix(Ipv4Addr::new(10, 244, self.index, 0), 24)
    }

    /// The pods' next hop: the node's end of each pod's veth has this address.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.index, 1)
    }
}

/// The fabric's address with its prefix length.
pub fn fabric_interface() -> Prefix {
    prefix(FABRIC_ADDRESS, NODE_PREFIX)
}

fn prefix(address: Ipv4Addr, length: u8) -> Prefix {
    Prefix::new(address.into(), length).unwrap_or_else(|_| Prefix::host(address.into()))
}

/// Hands out the addresses of one node's pods.
///
/// An address that was given back is used again as late as possible, so that nobody takes a new pod for an old one.
#[derive(Debug)]
pub struct PodAddresses {
    index: u8,
    used: BTreeSet<u8>,
    last: u8,
}

impl PodAddresses {
    /// Lowest last byte of a pod's address; below it is the gateway.
    const FIRST: u8 = 2;
    /// Highest last byte of a pod's address.
    const LAST: u8 = 254;

    /// All addresses of `node` are free.
    pub fn new(node: &NodeNetwork) -> Self {
        Self { index: node.index, used: BTreeSet::new(), last: Self::FIRST - 1 }
    }

    /// The next free address; `None` when the range is used up.
    pub fn take(&mut self) -> Option<Ipv4Addr> {
        let after = self.last.saturating_add(1)..=Self::LAST;
        let found = after.chain(Self::FIRST..=self.last).find(|byte| !self.used.contains(byte))?;
        self.used.insert(found);
        self.last = found;
        Some(Ipv4Addr::new(10, 244, self.index, found))
    }

    /// Gives an address back.
    pub fn give_back(&mut self, address: Ipv4Addr) {
        let [.., last] = address.octets();
        self.used.remove(&last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_is_the_documented_one() {
        let node = NodeNetwork::new(2);
        assert_eq!(node.name, "node-2");
        assert_eq!(node.interface().to_string(), "172.30.0.12/24");
        assert_eq!(node.pod_range().to_string(), "10.244.2.0/24");
        assert_eq!(node.gateway().to_string(), "10.244.2.1");
    }

    #[test]
    fn an_address_given_back_is_used_last() {
        let mut addresses = PodAddresses::new(&NodeNetwork::new(1));
        let first = addresses.take().unwrap();
        addresses.give_back(first);
        let others: Vec<_> = (0..252).map(|_| addresses.take().unwrap()).collect();
        assert!(!others.contains(&first));
        assert_eq!(addresses.take(), Some(first));
        assert_eq!(addresses.take(), None);
    }
}
