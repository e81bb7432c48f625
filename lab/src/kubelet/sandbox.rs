//! A pod's network namespace: made, joined to its node by a veth, kept at a path for the node agent, and taken away.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use cni::result::Assigned;
use linux::route::Route;
use linux::{NetNs, Prefix, link, netns, route, sysctl};
use serde_json::{Value, json};

use crate::fabric::{self, Node, PodAddress};
use crate::families::{Addresses, Family};

/// The pod's end of the veth.
const INTERFACE: &str = "eth0";

/// A pod's network.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// The pod's network namespace, or the node's for a pod on the host network.
    pub(crate) network: NetNs,
    /// The pod's addresses.
    pub(crate) addresses: Addresses,
    kept: Option<Kept>,
}

/// What has to be taken away with the pod.
#[derive(Debug)]
struct Kept {
    node: NetNs,
    interface: String,
    path: PathBuf,
    /// From the node's own range, if the lab's plugin has given it.
    address: Option<PodAddress>,
}

impl Sandbox {
    /// The node's own network.
    pub(crate) fn of_host(node: &Node) -> Self {
        Self { network: node.network.clone(), addresses: node.plan.addresses(), kept: None }
    }

    /// A network namespace of its own at its place on the node, with nothing in it but the loopback interface.
    ///
    /// # Errors
    /// The kernel's, named with the step; nothing is left behind.
    pub(crate) fn bare(node: &Node, uid: &str) -> io::Result<Self> {
        let network = NetNs::create()?;
        let kept = Kept {
            node: node.network.clone(),
            interface: interface_name(uid),
            path: node.network_directory().join(uid),
            address: None,
        };
        std::fs::create_dir_all(node.network_directory())?;
        network.run(|| fabric::prepare_families(node.plan.families))??;
        network.run(|| -> io::Result<()> {
            // Namespaces begin with the host's setting, which may drop what the mesh sends with a pod's own address.
            for scope in ["all", "default"] {
                sysctl::write(&format!("net/ipv4/conf/{scope}/rp_filter"), "0")?;
            }
            link::set_up("lo")
        })??;
        network.bind_to(&kept.path)?;
        Ok(Self { network, addresses: node.plan.addresses(), kept: Some(kept) })
    }

    /// Notes the address to give back in the end.
    pub(crate) fn hold(&mut self, address: PodAddress) {
        if let Some(kept) = &mut self.kept {
            kept.address = Some(address);
        }
    }

    /// Takes on the addresses that plugins have given.
    ///
    /// # Errors
    /// There are none.
    pub(crate) fn accept(&mut self, assigned: &[Assigned]) -> io::Result<()> {
        let first = assigned.first().ok_or_else(|| io::Error::other("the network gives no address"))?.address;
        let other = assigned.iter().map(|one| one.address).find(|other| Family::of(*other) != Family::of(first));
        self.addresses = Addresses { primary: first, secondary: other };
        Ok(())
    }

    /// What a CNI plugin that had made this network would print.
    pub(crate) fn result(&self, node: &Node) -> Value {
        let kept = self.kept.as_ref();
        let gateways = node.plan.gateways();
        let given = kept.and_then(|kept| kept.address).map(|given| given.addresses);
        let of = |address: IpAddr| {
            let gateway = gateways.of(Family::of(address));
            json!({"interface": 1, "address": Prefix::host(address).to_string(), "gateway": gateway})
        };
        let route = |gateway| json!({"dst": fabric::any(Family::of(gateway)).to_string()});
        json!({
            "cniVersion": "1.0.0",
            "interfaces": [
                {"name": kept.map(|kept| kept.interface.as_str())},
                {"name": INTERFACE, "sandbox": kept.map(|kept| kept.path.as_path())},
            ],
            "ips": given.iter().flat_map(Addresses::iter).map(of).collect::<Vec<_>>(),
            "routes": gateways.iter().map(route).collect::<Vec<_>>(),
        })
    }

    /// Takes the network away; what processes still hold of it lives until they end. Returns the addresses that are free
    /// now.
    pub(crate) fn remove(self) -> Option<PodAddress> {
        let kept = self.kept?;
        let deleted = match kept.address {
            Some(_) => kept.node.run(|| link::delete(&kept.interface)).and_then(|deleted| deleted),
            // The interfaces of other plugins are theirs.
            None => Ok(()),
        };
        for outcome in [deleted, netns::unbind(&kept.path)] {
            if let Err(error) = outcome {
                tracing::warn!(%error, interface = kept.interface, "a pod's network is not wholly gone");
            }
        }
        kept.address
    }

    /// Joins the namespace to its node. Blocks for some milliseconds.
    ///
    /// # Errors
    /// The kernel's, named with the step.
    pub(crate) fn connect(&self, node: &Node, addresses: Addresses) -> io::Result<()> {
        let Some(kept) = &self.kept else { return Ok(()) };
        let gateways = node.plan.gateways();
        node.network.run(|| -> io::Result<()> {
            link::add_veth(&kept.interface, INTERFACE, &self.network)?;
            link::set_up(&kept.interface)?;
            // The IPv4 one is on the loopback interface.
            gateways.of(Family::V6).map_or(Ok(()), |gateway| link::add_address(&kept.interface, Prefix::host(gateway)))
        })??;
        self.network.run(|| -> io::Result<()> {
            sysctl::write(&format!("net/ipv4/conf/{INTERFACE}/rp_filter"), "0")?;
            link::set_up(INTERFACE)?;
            for address in addresses.iter() {
                link::add_address(INTERFACE, Prefix::host(address))?;
            }
            for gateway in gateways.iter() {
                route::add(&Route::on_link(Prefix::host(gateway), INTERFACE))?;
                route::add(&Route::via(fabric::any(Family::of(gateway)), gateway))?;
            }
            Ok(())
        })??;
        for address in addresses.iter() {
            let source = node.plan.address(Family::of(address));
            let to_pod = Route { source, ..Route::on_link(Prefix::host(address), &kept.interface) };
            node.network.run(|| route::add(&to_pod))??;
        }
        Ok(())
    }
}

/// Interface names hold 15 bytes; the first part of a uid is as good as unique on one node.
fn interface_name(uid: &str) -> String {
    let letters: String = uid.chars().filter(char::is_ascii_alphanumeric).take(11).collect();
    format!("veth{letters}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_fit() {
        assert_eq!(interface_name("0a1b2c3d-4e5f-6789-abcd-ef0123456789"), "veth0a1b2c3d4e5");
    }
}
