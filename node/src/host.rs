//! The node's own rules: connections that its probes make to captured pods bypass the mesh.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use linux::nft::{self, Change, Element, Family};
use types::PodUid;

use crate::redirect::is_same;
use crate::rules::{FamilyRules, HOST_TABLE, host_table};

/// The captured pods' addresses, as the kernel has them; used in the node's network namespace.
#[derive(Debug, Clone)]
pub struct ProbeBypass {
    families: Vec<FamilyRules>,
}

impl ProbeBypass {
    /// Puts the node's table in place with the addresses of these pods, in one step: the probes of a pod that an
    /// earlier agent captured are never without it, and what belongs to no pod any more is gone.
    ///
    /// # Errors
    /// The kernel's.
    pub fn install(families: Vec<FamilyRules>, pods: &[(PodUid, Vec<IpAddr>)]) -> io::Result<Self> {
        let bypass = Self { families };
        bypass.replace(pods)?;
        Ok(bypass)
    }

    /// Puts the table anew, with the addresses of these pods alone.
    ///
    /// # Errors
    /// The kernel's.
    pub fn replace(&self, pods: &[(PodUid, Vec<IpAddr>)]) -> io::Result<()> {
        let mut changes = vec![Change::ReplaceTable(host_table(&self.families))];
        changes.extend(pods.iter().flat_map(|(uid, addresses)| self.additions(uid, addresses)));
        nft::apply(&changes)
    }

    /// Whether the rules are there, and the sets hold the addresses of these pods alone.
    ///
    /// # Errors
    /// The kernel's.
    pub fn is_intact(&self, pods: &[(PodUid, Vec<IpAddr>)]) -> io::Result<bool> {
        if !is_same(&nft::chains(Family::Inet, HOST_TABLE)?, &host_table(&self.families)) {
            return Ok(false);
        }
        for family in &self.families {
            let live = nft::set_elements(Family::Inet, HOST_TABLE, family.probe_set())?;
            let found: BTreeSet<IpAddr> = live.into_iter().map(|element| element.address).collect();
            let all = pods.iter().flat_map(|(_, addresses)| addresses);
            let wanted: BTreeSet<IpAddr> =
                all.filter(|ip| ip.is_ipv4() == family.loopback.is_ipv4()).copied().collect();
            if found != wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes the table away, for a node without an agent.
    ///
    /// # Errors
    /// The kernel's.
    pub fn uninstall(&self) -> io::Result<()> {
        nft::apply(&[Change::DeleteTable { family: Family::Inet, name: HOST_TABLE.to_owned() }])
    }

    /// Lets probes of these addresses pass.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add(&self, uid: &PodUid, addresses: &[IpAddr]) -> io::Result<()> {
        nft::apply(&self.additions(uid, addresses))
    }

    fn additions(&self, uid: &PodUid, addresses: &[IpAddr]) -> Vec<Change> {
        let element = |address| Element { address, comment: Some(uid.to_string()) };
        self.by_set(addresses)
            .map(|(set, addresses)| Change::AddElements {
                family: Family::Inet,
                table: HOST_TABLE.to_owned(),
                set: set.to_owned(),
                elements: addresses.into_iter().map(element).collect(),
            })
            .collect()
    }

    /// Forgets these addresses, but for those that belong to another pod by now.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&self, uid: &PodUid, addresses: &[IpAddr]) -> io::Result<()> {
        let mut changes = Vec::new();
        for (set, addresses) in self.by_set(addresses) {
            let live = nft::set_elements(Family::Inet, HOST_TABLE, set)?;
            let own = |address: &IpAddr| {
                live.iter()
                    .any(|element| element.address == *address && element.comment.as_deref() == Some(uid.as_str()))
            };
            changes.push(Change::RemoveElements {
                family: Family::Inet,
                table: HOST_TABLE.to_owned(),
                set: set.to_owned(),
                elements: addresses.into_iter().filter(own).collect(),
            });
        }
        nft::apply(&changes)
    }

    /// The addresses by the set that holds their family, where that family is captured and there are any.
    fn by_set<'a>(&'a self, addresses: &'a [IpAddr]) -> impl Iterator<Item = (&'static str, Vec<IpAddr>)> + 'a {
        self.families.iter().filter_map(|family| {
            let own: Vec<IpAddr> =
                addresses.iter().filter(|ip| ip.is_ipv4() == family.loopback.is_ipv4()).copied().collect();
            (!own.is_empty()).then(|| (family.probe_set(), own))
        })
    }
}

#[cfg(test)]
mod tests;
