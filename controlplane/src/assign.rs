//! Virtual addresses for the hosts of ServiceEntries that give none: chosen here, kept in their status.
//!
//! The choice depends on nothing but the objects, so that it is the same after a restart and in every replica.
//! What a status holds already is kept as long as it is right; where two entries hold one address, the older keeps it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use kinds::networking::AssignedAddress;
use kinds::{ServiceEntry, table};
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tracing::{debug, error, info};
use types::{Cidr, NamespacedName};

use crate::checked::Checked;
use crate::objects::{Named, Objects};
use crate::translate::{self, Ranges, by_age};

/// How long one write may take.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// Another try for what failed.
const RETRY: Duration = Duration::from_secs(2);

/// A ServiceEntry whose status has to hold other addresses than it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) key: NamespacedName,
    pub(crate) uid: Arc<str>,
    /// The version of the object that the assignment was made for.
    pub(crate) resource_version: Arc<str>,
    pub(crate) addresses: Vec<AssignedAddress>,
}

/// The assignments that are not written yet.
pub(crate) fn derive(objects: &Objects, ranges: &Ranges) -> Vec<Assignment> {
    let entries = by_age(objects);
    let mut pool = Pool::new(&entries, ranges);
    // First everybody keeps what they have, then the rest is given out: a newcomer never takes a written address.
    let kept: Vec<BTreeMap<(&str, bool), IpAddr>> = entries.iter().map(|entry| pool.keep(entry)).collect();
    let assigned = entries.iter().zip(kept).map(|(entry, kept)| (*entry, pool.complete(entry, kept)));
    let differs = |(entry, addresses): &(&Checked<ServiceEntry>, Vec<AssignedAddress>)| {
        let present = entry.object.status.as_ref().map_or(&[][..], |status| &status.addresses);
        present != addresses
    };
    let due = assigned.filter(differs).map(|(entry, addresses)| {
        let text = |part: &Option<String>| Arc::<str>::from(part.as_deref().unwrap_or_default());
        let metadata = entry.metadata();
        let (uid, resource_version) = (text(&metadata.uid), text(&metadata.resource_version));
        Assignment { key: entry.key(), uid, resource_version, addresses }
    });
    due.collect()
}

/// The hosts of an entry that are to have addresses, each once.
fn hosts(entry: &Checked<ServiceEntry>) -> BTreeSet<&str> {
    let hosts = entry.object.spec.hosts.iter().map(String::as_str);
    hosts.filter(|host| translate::takes_addresses(entry, host)).collect()
}

/// Addresses that are free and taken.
struct Pool<'a> {
    ranges: &'a Ranges,
    taken: BTreeSet<IpAddr>,
    /// What users chose themselves, ranges among it.
    given: Vec<Cidr>,
}

impl<'a> Pool<'a> {
    fn new(entries: &[&Checked<ServiceEntry>], ranges: &'a Ranges) -> Self {
        let given = entries.iter().flat_map(|entry| &entry.object.spec.addresses);
        let given = given.filter_map(|text| text.parse::<Cidr>().ok());
        let is_near = |range: &Cidr| {
            [ranges.v4, ranges.v6].iter().any(|own| own.contains(range.address()) || range.contains(own.address()))
        };
        Self { ranges, taken: BTreeSet::new(), given: given.filter(is_near).collect() }
    }

    /// What the entry's status holds and may keep, by host and whether it is IPv6.
    fn keep<'e>(&mut self, entry: &'e Checked<ServiceEntry>) -> BTreeMap<(&'e str, bool), IpAddr> {
        let hosts = hosts(entry);
        let mut kept = BTreeMap::new();
        for assigned in entry.object.status.iter().flat_map(|status| &status.addresses) {
            let (Some(host), Ok(ip)) = (hosts.get(assigned.host.as_str()), assigned.value.parse::<IpAddr>()) else {
                continue;
            };
            let slot = (*host, ip.is_ipv6());
            if !kept.contains_key(&slot) && self.range(ip.is_ipv6()).contains(ip) && self.take(ip) {
                kept.insert(slot, ip);
            }
        }
        kept
    }

    /// All addresses of an entry, in the order of its hosts, IPv4 first.
    fn complete<'e>(
        &mut self,
        entry: &'e Checked<ServiceEntry>,
        mut kept: BTreeMap<(&'e str, bool), IpAddr>,
    ) -> Vec<AssignedAddress> {
        let mut addresses = Vec::new();
        for host in hosts(entry) {
            for is_v6 in [false, true] {
                let ip = kept.remove(&(host, is_v6)).or_else(|| self.choose(&format!("{}/{host}", entry.key()), is_v6));
                match ip {
                    Some(ip) => addresses.push(AssignedAddress { value: ip.to_string(), host: host.to_owned() }),
                    None => error!(
                        entry = %entry.key(), host, range = %self.range(is_v6), "no address is left for the host"
                    ),
                }
            }
        }
        addresses
    }

    /// The first free address from a place on that follows from the name alone.
    fn choose(&mut self, name: &str, is_v6: bool) -> Option<IpAddr> {
        let range = self.range(is_v6);
        let bits = if is_v6 { 128 } else { 32 };
        // The first address of a range, and the last of an IPv4 one, are not for hosts. Of a wide IPv6 range 2^64 do.
        let size = 1_u128 << u32::from(bits - range.length()).min(64);
        let usable = size.saturating_sub(2);
        let hash = Sha256::digest(name);
        let hash = hash.iter().take(16).fold(0_u128, |hash, byte| hash << 8 | u128::from(*byte));
        let start = hash.checked_rem(usable)?;
        // With this many taken in a row, the range is as good as full.
        const MOST_TRIES: u128 = 1 << 17;
        (0..usable.min(MOST_TRIES)).find_map(|step| {
            let ip = nth(range, 1 + (start + step) % usable);
            self.take(ip).then_some(ip)
        })
    }

    fn take(&mut self, ip: IpAddr) -> bool {
        !self.given.iter().any(|range| range.contains(ip)) && self.taken.insert(ip)
    }

    fn range(&self, is_v6: bool) -> Cidr {
        if is_v6 { self.ranges.v6 } else { self.ranges.v4 }
    }
}

/// The address at this place of a range.
fn nth(range: Cidr, place: u128) -> IpAddr {
    match range.address() {
        IpAddr::V4(base) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(range.length())).unwrap_or(0);
            let place = u32::try_from(place).unwrap_or(u32::MAX) & !mask;
            Ipv4Addr::from(u32::from(base) & mask | place).into()
        }
        IpAddr::V6(base) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(range.length())).unwrap_or(0);
            Ipv6Addr::from(u128::from(base) & mask | (place & !mask)).into()
        }
    }
}

/// Writes assignments until the publisher is gone.
pub(crate) async fn run(client: Client, mut assignments: watch::Receiver<Arc<Vec<Assignment>>>) {
    // The object's own version that was last written about: the watch shows our own write only a moment later.
    let mut written: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();
    loop {
        let current = Arc::clone(&assignments.borrow_and_update());
        written.retain(|uid, _| current.iter().any(|assignment| assignment.uid == *uid));
        let mut has_failed = false;
        for assignment in current.iter() {
            if written.get(&assignment.uid) == Some(&assignment.resource_version) {
                continue;
            }
            if write(&client, assignment).await {
                written.insert(Arc::clone(&assignment.uid), Arc::clone(&assignment.resource_version));
            } else {
                has_failed = true;
            }
        }
        let changed = async {
            if has_failed {
                tokio::time::timeout(RETRY, assignments.changed()).await.unwrap_or(Ok(()))
            } else {
                assignments.changed().await
            }
        };
        if changed.await.is_err() {
            return;
        }
    }
}

/// Whether the matter is settled: written, or the object is gone or has changed.
async fn write(client: &Client, assignment: &Assignment) -> bool {
    let Some(kind) = table::find("networking.istio.io/v1", "ServiceEntry") else { return true };
    let resource = ApiResource {
        group: kind.group.to_owned(),
        version: kind.preferred_version().to_owned(),
        api_version: kind.api_version(kind.preferred_version()),
        kind: kind.kind.to_owned(),
        plural: kind.plural.to_owned(),
    };
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &assignment.key.namespace, &resource);
    let patch = patch(assignment);
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(&patch));
    let writing = api.patch_status(&assignment.key.name, &parameters, &patch);
    match tokio::time::timeout(WRITE_DEADLINE, writing).await {
        Ok(Ok(_)) => {
            debug!(entry = %assignment.key, "assigned addresses");
            true
        }
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => true,
        Ok(Err(error)) => {
            info!(entry = %assignment.key, %error, "could not write the assigned addresses");
            false
        }
        Err(_elapsed) => {
            info!(entry = %assignment.key, "writing the assigned addresses took too long");
            false
        }
    }
}

/// With the version the patch fails if the object changed meanwhile; the next assignment is about that.
fn patch(assignment: &Assignment) -> Value {
    json!({"metadata": {"resourceVersion": &*assignment.resource_version}, "status": {"addresses": assignment.addresses}})
}

#[cfg(test)]
mod tests;
