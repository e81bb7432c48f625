//! The node's own rules: connections that its probes make to captured pods bypass the mesh.

use std::io;
use std::net::IpAddr;

use linux::nft::{self, Change, Element, Family};
use types::PodUid;

use crate::rules::{FamilyRules, HOST_TABLE, host_table};

/// The captured pods' addresses, as the kernel has them; used in the node's network namespace.
#[derive(Debug, Clone)]
pub struct ProbeBypass {
    families: Vec<FamilyRules>,
}

impl ProbeBypass {
    /// Puts the node's table in place, with empty sets: whoever starts refills them.
    ///
    /// # Errors
    /// The kernel's.
    pub fn install(families: Vec<FamilyRules>) -> io::Result<Self> {
        nft::apply(&[Change::ReplaceTable(host_table(&families))])?;
        Ok(Self { families })
    }

    /// Lets probes of these addresses pass.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add(&self, uid: &PodUid, addresses: &[IpAddr]) -> io::Result<()> {
        let changes: Vec<Change> = self
            .by_set(addresses)
            .map(|(set, addresses)| Change::AddElements {
                family: Family::Inet,
                table: HOST_TABLE.to_owned(),
                set: set.to_owned(),
                elements: addresses
                    .into_iter()
                    .map(|address| Element { address, comment: Some(uid.to_string()) })
                    .collect(),
            })
            .collect();
        nft::apply(&changes)
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
