//! Resources of the control plane: what is accepted must be usable.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use discovery::{Workload, Writer, resolve};
use policy::{Connection, PolicySet};
use prost::Message;
use proto::istio::workload as wire;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use types::{NamespacedName, NetworkAddress};
use xds::convert::{self, Address};

/// An `istio.workload.Address`: taken in, dialled, taken out again.
pub(crate) fn address(bytes: &[u8]) {
    let Ok(message) = wire::Address::decode(bytes) else { return };
    let Ok(address) = convert::address(message) else { return };
    let mut writer = Writer::new("", None);
    let view = writer.view();
    let name = address.resource_name();
    let mut targets: Vec<IpAddr> = Vec::new();
    match address {
        Address::Workload(workload) => {
            targets.extend(workload.addresses.iter().copied());
            writer.upsert_workload(*workload);
        }
        Address::Service(service) => {
            targets.extend(view_addresses(&service.vips));
            writer.upsert_service(*service);
        }
    }
    for target in targets.into_iter().take(8) {
        let mut random = SmallRng::seed_from_u64(0);
        let _ = resolve(&view, &Workload::default(), SocketAddr::new(target, 80), &[], &mut random);
    }
    writer.remove(&name);
    assert_eq!((view.workloads().len(), view.services().len()), (0, 0), "{name} cannot be removed");
}

fn view_addresses(vips: &[NetworkAddress]) -> impl Iterator<Item = IpAddr> {
    vips.iter().map(|vip| vip.address)
}

/// An `istio.security.Authorization`: asked about a connection.
pub(crate) fn authorization(bytes: &[u8]) {
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let connection = Connection { source_ip: localhost, identity: None, destination: SocketAddr::new(localhost, 80) };
    let key = NamespacedName::new("namespace", "name");
    match convert::decode_authorization(bytes) {
        Ok(policy) => {
            let named = [policy.key.clone()];
            let set = PolicySet::default().with([policy], []);
            let _ = set.evaluate("namespace", &named, &connection);
            assert_eq!(set.with([], named).len(), 0);
        }
        Err(_) => {
            if let Some(unreadable) = convert::unreadable(key, bytes) {
                let named = [unreadable.key.clone()];
                let set = PolicySet::default().with_unreadable([unreadable]);
                let _ = set.evaluate("namespace", &named, &connection);
            }
        }
    }
}
