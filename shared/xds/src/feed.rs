//! What arrives goes here: workloads and services into discovery, policies into the policy set.

mod beside;
mod kinds;

use std::sync::Arc;

use discovery::{Maker, Record, Writer};
use policy::{PolicySet, Unreadable};
use prost::Message;
use proto::istio::workload::Address;
use tokio::sync::watch;
use tracing::debug;
use types::NamespacedName;

use crate::convert;
use crate::delta::{Feed, Rejected, Update};

use kinds::Kinds;

/// From how many resources on a second thread pays: less is done before one has started.
const MANY: usize = 2048;

/// Feeds `istio.workload.Address` into discovery.
pub struct AddressFeed {
    writer: Writer,
}

impl AddressFeed {
    /// Feeds this writer.
    #[must_use]
    pub fn new(writer: Writer) -> Self {
        Self { writer }
    }
}

impl Feed for AddressFeed {
    fn apply(&mut self, update: Update<'_>) -> Vec<Rejected> {
        let mut batch = self.writer.batch();
        let most = update.resources.size_hint().1.unwrap_or_default();
        batch.reserve(most);
        let (mut maker, mut keeper) = batch.halves();
        let (mut kinds, mut rejected) = (Kinds::default(), Vec::new());
        let records = update.resources.filter_map(|(name, encoded)| {
            let record = record(&mut maker, &mut kinds, &name, encoded?);
            record.map_err(|reason| rejected.push(Rejected { name: name.to_string(), reason })).ok()
        });
        let keep = |record| keeper.keep(record);
        if most >= MANY {
            beside::for_each(records, keep)
        } else {
            records.for_each(keep)
        }
        for name in update.removed {
            batch.remove(name);
        }
        rejected
    }
}

/// Feeds `istio.security.Authorization` into the policy set that connections are judged by.
///
/// Each response becomes one new set: readers never see half of it.
/// A policy that is refused leaves its last good version in force; without one it counts as
/// [unreadable](PolicySet::with_unreadable), so that what it was going to deny does not pass.
pub struct PolicyFeed {
    policies: watch::Sender<Arc<PolicySet>>,
}

impl PolicyFeed {
    /// Publishes through this sender, beginning with the set that it holds.
    #[must_use]
    pub fn new(policies: watch::Sender<Arc<PolicySet>>) -> Self {
        Self { policies }
    }
}

impl Feed for PolicyFeed {
    fn apply(&mut self, update: Update<'_>) -> Vec<Rejected> {
        let (mut rejected, mut upserts, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for (name, encoded) in update.resources {
            let Some(encoded) = encoded else {
                refused.extend(unreadable(&name, &[]));
                continue;
            };
            match authorization(&name, encoded) {
                Ok(policy) => upserts.push(policy),
                Err(reason) => {
                    refused.extend(unreadable(&name, encoded));
                    rejected.push(Rejected { name: name.to_string(), reason });
                }
            }
        }
        let removals: Vec<NamespacedName> = update.removed.iter().filter_map(|name| removed_key(name)).collect();
        if !(upserts.is_empty() && refused.is_empty() && removals.is_empty()) {
            let next = self.policies.borrow().with(upserts, []).with_unreadable(refused).with([], removals);
            self.policies.send_replace(Arc::new(next));
        }
        rejected
    }

    fn remembers_refused(&self) -> bool {
        true
    }
}

fn record(maker: &mut Maker<'_>, kinds: &mut Kinds, name: &Arc<str>, encoded: &[u8]) -> Result<Record, String> {
    if let Some(record) = kinds.record(maker, name, encoded) {
        return Ok(record);
    }
    Ok(match address(name, encoded)? {
        convert::Address::Workload(workload) => maker.workload(*workload),
        convert::Address::Service(service) => maker.service(*service),
    })
}

fn address(name: &str, encoded: &[u8]) -> Result<convert::Address, String> {
    let message = Address::decode(encoded).map_err(|error| error.to_string())?;
    let address = convert::address(message).map_err(|error| error.to_string())?;
    check_name(name, &address.resource_name())?;
    Ok(address)
}

fn authorization(name: &str, encoded: &[u8]) -> Result<policy::Authorization, String> {
    let policy = convert::decode_authorization(encoded).map_err(|error| error.to_string())?;
    check_name(name, &policy.key.to_string())?;
    Ok(policy)
}

/// What a refused policy counts as; nothing if no policy can have its name.
fn unreadable(name: &str, encoded: &[u8]) -> Option<Unreadable> {
    convert::unreadable(name.parse().ok()?, encoded)
}

/// A resource under another's name could never be removed, and would take the other's place.
fn check_name(name: &str, own: &str) -> Result<(), String> {
    if name == own { Ok(()) } else { Err(format!("name: the resource calls itself {own:?}")) }
}

fn removed_key(name: &str) -> Option<NamespacedName> {
    let key = name.parse().ok();
    if key.is_none() {
        debug!(name, "removed a policy whose name no policy can have");
    }
    key
}

#[cfg(test)]
mod tests;
