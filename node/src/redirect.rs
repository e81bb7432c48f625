//! Putting redirection into a pod's network namespace and taking it out again.

use std::io;

use linux::netns::NetNs;
use linux::nft::{self, Chain, Change, Family, LiveChain, Table};
use linux::{Prefix, marks, route, sysctl};

use crate::eligibility::Capture;
use crate::linger::answers_lookups;
use crate::rules::{
    self, CONNECTION_MARK, FamilyRules, MARK_MASK, POD_TABLE, ROUTE_TABLE, RULE_PRIORITY, leaving_table,
};

/// Lets answers carry the mark of what they answer in a pod's network namespace, so that they can be routed by it.
///
/// ztunnel looks for that when it takes the pod over.
///
/// # Errors
/// The kernel's.
pub fn prepare(netns: &NetNs) -> io::Result<()> {
    netns.run(marks::copy_to_answers)?
}

/// Redirects a pod's new connections, and its name lookups if they are captured, to ztunnel, in place of whatever rules an
/// agent left before.
///
/// The rules are exchanged in one transaction: connections that run through ztunnel never lose their translation.
/// Lookups are redirected only in those address families in which somebody answers them on ztunnel's port, so that a
/// ztunnel that does not do it costs no pod its lookups.
///
/// # Errors
/// The kernel's; nothing is redirected then.
pub fn install(netns: &NetNs, families: &[FamilyRules], capture: &Capture) -> io::Result<()> {
    prepare(netns)?;
    netns.run(|| {
        for is_ipv6 in routed(families, |disabled| disabled == "0") {
            route::add(&return_route(is_ipv6))?;
            route::add_rule(&return_rule(is_ipv6))?;
        }
        let answering = if capture.lookups { answering(families)? } else { Vec::new() };
        nft::apply(&[Change::ReplaceTable(rules::pod_table(families, capture, &answering))])
    })?
}

/// Redirects nothing new and keeps what redirected connections need.
///
/// # Errors
/// The kernel's; the rules are as before then.
pub fn release(netns: &NetNs) -> io::Result<()> {
    netns.run(|| nft::apply(&[Change::ReplaceTable(leaving_table())]))?
}

/// Whether an agent has left its rules in a pod: those that redirect, or those that keep the last connections.
///
/// # Errors
/// The kernel's.
pub fn is_present(netns: &NetNs) -> io::Result<bool> {
    netns.run(|| nft::has_table(Family::Inet, POD_TABLE))?
}

/// Whether the rules and routes of a captured pod are all there, as far as their order and comments tell.
///
/// Rules with and without redirected lookups both count, for ztunnel may have begun or ceased to answer them since.
///
/// # Errors
/// The kernel's.
pub fn is_intact(netns: &NetNs, families: &[FamilyRules], capture: &Capture) -> io::Result<bool> {
    netns.run(|| {
        let live = nft::chains(Family::Inet, POD_TABLE)?;
        if !lookups_of(families, capture).any(|lookups| is_same(&live, &rules::pod_table(families, capture, &lookups)))
        {
            return Ok(false);
        }
        for is_ipv6 in routed(families, |disabled| disabled == "0") {
            let has_route = route::list(is_ipv6, ROUTE_TABLE)?.iter().any(|route| route.kind == route::Kind::Local);
            let own = return_rule(is_ipv6);
            let has_rule =
                route::rules(is_ipv6)?.iter().any(|rule| rule.priority == own.priority && rule.mark == own.mark);
            if !has_route || !has_rule {
                return Ok(false);
            }
        }
        Ok(marks::are_copied_to_answers())
    })?
}

/// Every set of families whose lookups may be redirected.
fn lookups_of(families: &[FamilyRules], capture: &Capture) -> impl Iterator<Item = Vec<FamilyRules>> {
    let count = if capture.lookups { families.len() } else { 0 };
    (0..1_u32 << count).map(move |chosen| {
        (0..).zip(families).filter(|(index, _)| chosen & (1 << index) != 0).map(|(_, family)| *family).collect()
    })
}

/// Whether these are the table's chains, at its hooks and with its rules in its order; names are unique in a table.
pub(crate) fn is_same(live: &[LiveChain], table: &Table) -> bool {
    let is_one_of_them = |wanted: &Chain| {
        live.iter().any(|live| {
            live.name == wanted.name
                && live.hook == wanted.base.as_ref().map(|base| (base.hook, base.priority))
                && live.rules.iter().eq(wanted.rules.iter().map(|rule| &rule.comment))
        })
    };
    live.len() == table.chains.len() && table.chains.iter().all(is_one_of_them)
}

/// Takes everything out: for a pod none of whose connections runs through ztunnel any more.
///
/// # Errors
/// The kernel's.
pub fn remove(netns: &NetNs, families: &[FamilyRules]) -> io::Result<()> {
    netns.run(|| {
        nft::apply(&[Change::DeleteTable { family: Family::Inet, name: POD_TABLE.to_owned() }])?;
        for is_ipv6 in routed(families, |_disabled| true) {
            route::delete_rule(&return_rule(is_ipv6))?;
            route::delete(&return_route(is_ipv6))?;
        }
        Ok(())
    })?
}

/// For which families, as `is_ipv6`, the current network namespace has routes: `may` judges whether IPv6 is switched off on
/// the loopback interface, and a kernel without IPv6 has nothing to judge.
///
/// The packet filter rules are there for all families in any case: a pod in which IPv6 is switched on later must not have
/// a way around the mesh.
fn routed(families: &[FamilyRules], may: impl Fn(&str) -> bool) -> impl Iterator<Item = bool> {
    let disabled = sysctl::read("net/ipv6/conf/lo/disable_ipv6");
    let has_ipv6 = disabled.is_ok_and(|disabled| may(&disabled));
    families.iter().map(|family| family.loopback.is_ipv6()).filter(move |is_ipv6| !is_ipv6 || has_ipv6)
}

/// The families in which lookups are answered in the current network namespace.
fn answering(families: &[FamilyRules]) -> io::Result<Vec<FamilyRules>> {
    let mut answering = Vec::new();
    for family in families {
        if answers_lookups(family.loopback)? {
            answering.push(*family);
        }
    }
    Ok(answering)
}

/// Replies to a client's address are delivered in the pod, where ztunnel waits for them, instead of leaving it.
fn return_route(is_ipv6: bool) -> route::Route {
    route::Route::local(if is_ipv6 { Prefix::ANY_V6 } else { Prefix::ANY_V4 }, "lo", ROUTE_TABLE)
}

fn return_rule(is_ipv6: bool) -> route::Rule {
    route::Rule { is_ipv6, mark: CONNECTION_MARK, mask: MARK_MASK, priority: RULE_PRIORITY, table: ROUTE_TABLE }
}
