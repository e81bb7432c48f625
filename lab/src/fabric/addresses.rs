//! Who has which address: nodes, pod ranges, pods.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use linux::Prefix;

use crate::families::{Addresses, Families, Family, ipv6};

/// The bridge that joins the nodes.
pub const BRIDGE: &str = "aquifer0";

/// Most nodes that a lab can have: each needs some ten processes once the mesh runs.
pub const MAX_NODES: u8 = 16;

/// The third group of the nodes' IPv6 network; the fourth is 1.
const NODES: u16 = 0;

/// The third group of the pods' IPv6 networks; the fourth is the node's number.
const PODS: u16 = 1;

/// One node's share of the address plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeNetwork {
    /// 1 for the first node.
    pub index: u8,
    /// `node-1`, …
    pub name: String,
    /// In which families it has addresses.
    pub families: Families,
}

impl NodeNetwork {
    /// The plan of node `index`, counted from 1 to [`MAX_NODES`].
    pub fn new(index: u8, families: Families) -> Self {
        Self { index, name: format!("node-{index}"), families }
    }

    /// The plans of a lab of `count` nodes.
    pub fn plan(count: u8, families: Families) -> Vec<Self> {
        (1..=count).map(|index| Self::new(index, families)).collect()
    }

    /// The node's addresses on the bridge.
    pub fn addresses(&self) -> Addresses {
        self.families.addresses(|family| node_address(family, 10_u8.saturating_add(self.index)))
    }

    /// The node's address on the bridge, as far as it has one of that family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses().of(family)
    }

    /// The range that the node's pods get their addresses from, one of each family.
    pub fn pod_ranges(&self) -> Vec<Prefix> {
        let range = |family: &Family| match family {
            Family::V4 => prefix(pod_address(Family::V4, self.index, 0), 24),
            Family::V6 => prefix(pod_address(Family::V6, self.index, 0), 64),
        };
        self.families.list().iter().map(range).collect()
    }

    /// The pods' next hops: the node's end of each pod's veth has these addresses.
    pub fn gateways(&self) -> Addresses {
        self.pod_addresses(1)
    }

    /// The addresses of the pod with this number.
    fn pod_addresses(&self, number: u8) -> Addresses {
        self.families.addresses(|family| pod_address(family, self.index, number))
    }
}

/// The fabric's own addresses on the bridge.
pub fn fabric_addresses(families: Families) -> Addresses {
    families.addresses(|family| node_address(family, 1))
}

/// Where pods reach the API server after address translation.
pub fn api_endpoint(families: Families) -> SocketAddr {
    SocketAddr::new(fabric_addresses(families).primary, 443)
}

/// An address on the bridge with the prefix length of the nodes' network.
pub fn on_bridge(address: IpAddr) -> Prefix {
    prefix(address, if address.is_ipv4() { 24 } else { 64 })
}

fn node_address(family: Family, number: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(172, 30, 0, number).into(),
        Family::V6 => ipv6([NODES, 1], number.into()),
    }
}

fn pod_address(family: Family, node: u8, number: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 244, node, number).into(),
        Family::V6 => ipv6([PODS, node.into()], number.into()),
    }
}

fn prefix(address: IpAddr, length: u8) -> Prefix {
    Prefix::new(address, length).unwrap_or_else(|_| Prefix::host(address))
}

/// Hands out the addresses of one node's pods.
///
/// An address that was given back is used again as late as possible, so that nobody takes a new pod for an old one.
#[derive(Debug)]
pub struct PodAddresses {
    node: NodeNetwork,
    used: BTreeSet<u8>,
    last: u8,
}

/// The addresses of one pod, until they are given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodAddress {
    /// In each family.
    pub addresses: Addresses,
    number: u8,
}

impl PodAddresses {
    /// Lowest number of a pod; below it is the gateway.
    const FIRST: u8 = 2;
    /// Highest number of a pod: the last byte of its IPv4 address.
    const LAST: u8 = 254;

    /// All addresses of `node` are free.
    pub fn new(node: &NodeNetwork) -> Self {
        Self { node: node.clone(), used: BTreeSet::new(), last: Self::FIRST - 1 }
    }

    /// The next free addresses; `None` when the range is used up.
    pub fn take(&mut self) -> Option<PodAddress> {
        let after = self.last.saturating_add(1)..=Self::LAST;
        let number = after.chain(Self::FIRST..=self.last).find(|number| !self.used.contains(number))?;
        self.used.insert(number);
        self.last = number;
        Some(PodAddress { addresses: self.node.pod_addresses(number), number })
    }

    /// Gives addresses back.
    pub fn give_back(&mut self, address: PodAddress) {
        self.used.remove(&address.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(all: impl IntoIterator<Item = impl ToString>) -> Vec<String> {
        all.into_iter().map(|one| one.to_string()).collect()
    }

    #[test]
    fn the_plan_is_the_documented_one() {
        let node = NodeNetwork::new(2, Families::Dual);
        assert_eq!(node.name, "node-2");
        assert_eq!(texts(node.addresses().iter().map(on_bridge)), ["172.30.0.12/24", "fd00:a:0:1::c/64"]);
        assert_eq!(texts(node.pod_ranges()), ["10.244.2.0/24", "fd00:a:1:2::/64"]);
        assert_eq!(texts(node.gateways().iter()), ["10.244.2.1", "fd00:a:1:2::1"]);
        let pod = PodAddresses::new(&node).take().unwrap();
        assert_eq!(texts(pod.addresses.iter()), ["10.244.2.2", "fd00:a:1:2::2"]);
    }

    #[test]
    fn a_lab_of_one_family_has_no_other_addresses() {
        let node = NodeNetwork::new(1, Families::Ipv4);
        assert_eq!(texts(node.addresses().iter()), ["172.30.0.11"]);
        assert_eq!(texts(node.pod_ranges()), ["10.244.1.0/24"]);
        let node = NodeNetwork::new(1, Families::Ipv6);
        assert_eq!(texts(node.addresses().iter()), ["fd00:a:0:1::b"]);
        assert_eq!(api_endpoint(Families::Ipv6).to_string(), "[fd00:a:0:1::1]:443");
    }

    #[test]
    fn an_address_given_back_is_used_last() {
        let mut addresses = PodAddresses::new(&NodeNetwork::new(1, Families::Dual));
        let first = addresses.take().unwrap();
        addresses.give_back(first);
        let others: Vec<_> = (0..252).map(|_| addresses.take().unwrap()).collect();
        assert!(!others.contains(&first));
        assert_eq!(addresses.take(), Some(first));
        assert_eq!(addresses.take(), None);
    }
}
