//! PeerAuthentication to Authorization: plain text is denied by policies about connections without an identity.

use std::collections::{BTreeMap, HashMap};

use kinds::PeerAuthentication;
use kinds::security::MutualTlsMode;
use proto::istio::security::{Action, Authorization, Clause, Match, Rule, Scope, StringMatch, string_match};

use super::index::older;
use crate::checked::Checked;
use crate::objects::{Named, Objects};

/// The policy of every workload that must not accept plain text on any port.
///
/// An underscore is not allowed in Kubernetes names, so nobody's policy is called the same.
const STATIC_STRICT: &str = "istio_converted_static_strict";

/// Which PeerAuthentication counts where: workload before namespace before mesh, the oldest of each.
pub(super) struct Effective<'a> {
    root_namespace: &'a str,
    is_any: bool,
    mesh: Option<&'a Checked<PeerAuthentication>>,
    namespaces: HashMap<&'a str, &'a Checked<PeerAuthentication>>,
    /// Those with a selector, by namespace.
    workloads: HashMap<&'a str, Vec<&'a Checked<PeerAuthentication>>>,
}

impl<'a> Effective<'a> {
    pub(super) fn new(objects: &'a Objects, root_namespace: &'a str) -> Self {
        let mut effective =
            Self { root_namespace, is_any: false, mesh: None, namespaces: HashMap::new(), workloads: HashMap::new() };
        for policy in objects.peer_authentications.iter() {
            effective.is_any = true;
            let is_root = policy.namespace() == root_namespace;
            match (policy.object.spec.selected().is_some(), is_root) {
                (false, true) => effective.mesh = Some(effective.mesh.map_or(policy, |other| older(other, policy))),
                (false, false) => {
                    let slot = effective.namespaces.entry(policy.namespace()).or_insert(policy);
                    *slot = older(slot, policy);
                }
                (true, false) => effective.workloads.entry(policy.namespace()).or_default().push(policy),
                // A selector in the root namespace is not defined to mean anything; a condition says so.
                (true, true) => {}
            }
        }
        effective
    }

    /// The keys of the policies that a workload has to name.
    pub(super) fn keys_of(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Option<String> {
        let parent = self.is_parent_strict(namespace);
        let candidates = self.workloads.get(namespace).into_iter().flatten().copied();
        let selecting =
            candidates.filter(|policy| policy.object.spec.selected().is_some_and(|selector| selector.matches(labels)));
        match selecting.reduce(older).map(|policy| (policy, convert(policy, parent))) {
            Some((_, Converted::Strict)) => Some(self.static_key()),
            Some((_, Converted::Permissive)) => None,
            Some((policy, Converted::Ports(_))) => Some(format!("{namespace}/{}", converted_name(policy))),
            None => parent.then(|| self.static_key()),
        }
    }

    /// Every policy that stands for a PeerAuthentication.
    pub(super) fn authorizations(&self) -> Vec<Authorization> {
        let mut authorizations = Vec::new();
        if self.is_any {
            let deny_plain_text = Rule { clauses: vec![clause(without_identity())] };
            authorizations.push(deny(self.root_namespace, STATIC_STRICT.to_owned(), vec![deny_plain_text]));
        }
        for policy in self.workloads.values().flatten().copied() {
            if let Converted::Ports(rules) = convert(policy, self.is_parent_strict(policy.namespace())) {
                authorizations.push(deny(policy.namespace(), converted_name(policy), rules));
            }
        }
        authorizations
    }

    /// Whether a workload without settings of its own refuses plain text.
    fn is_parent_strict(&self, namespace: &str) -> bool {
        let of_namespace = self.namespaces.get(namespace).map(|policy| policy.mode());
        match of_namespace {
            Some(mode) if mode != MutualTlsMode::Unset => mode == MutualTlsMode::Strict,
            _ => self.mesh.is_some_and(|policy| policy.mode() == MutualTlsMode::Strict),
        }
    }

    fn static_key(&self) -> String {
        format!("{}/{STATIC_STRICT}", self.root_namespace)
    }
}

/// What a PeerAuthentication with a selector comes down to.
enum Converted {
    /// No plain text on any port: the static policy.
    Strict,
    /// Plain text on every port: no policy.
    Permissive,
    /// Different ports differ: a policy of its own with these rules.
    Ports(Vec<Rule>),
}

fn convert(policy: &Checked<PeerAuthentication>, is_parent_strict: bool) -> Converted {
    let is_strict = match policy.mode() {
        MutualTlsMode::Unset => is_parent_strict,
        mode => mode == MutualTlsMode::Strict,
    };
    let ports = policy.ports();
    let with = |strict: bool| {
        let meant = move |mode: &MutualTlsMode| match mode {
            MutualTlsMode::Unset => false,
            mode => (*mode == MutualTlsMode::Strict) == strict,
        };
        ports.iter().filter(move |(_, mode)| meant(mode)).map(|(port, _)| u32::from(*port))
    };
    let rules: Vec<Rule> = if is_strict {
        // Denied is what has no identity and goes to none of the exempt ports.
        let exempt = with(false).map(|port| clause(Match { not_destination_ports: vec![port], ..Match::default() }));
        let exempt: Vec<Clause> = exempt.collect();
        if exempt.is_empty() {
            return Converted::Strict;
        }
        vec![Rule { clauses: [vec![clause(without_identity())], exempt].concat() }]
    } else {
        let rule = |port| Match { destination_ports: vec![port], ..without_identity() };
        with(true).map(|port| Rule { clauses: vec![clause(rule(port))] }).collect()
    };
    if rules.is_empty() { Converted::Permissive } else { Converted::Ports(rules) }
}

fn converted_name(policy: &impl Named) -> String {
    format!("converted_peer_authentication_{}", policy.name())
}

fn deny(namespace: &str, name: String, rules: Vec<Rule>) -> Authorization {
    Authorization {
        name,
        namespace: namespace.to_owned(),
        scope: Scope::WorkloadSelector.into(),
        action: Action::Deny.into(),
        rules,
        ..Authorization::default()
    }
}

fn clause(one: Match) -> Clause {
    Clause { matches: vec![one] }
}

fn without_identity() -> Match {
    let presence = StringMatch { match_type: Some(string_match::MatchType::Presence(())) };
    Match { not_principals: vec![presence], ..Match::default() }
}
