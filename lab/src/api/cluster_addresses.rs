//! Which cluster addresses a Service has, and in which families.
//! [Kubernetes: dual-stack Services](https://kubernetes.io/docs/concepts/services-networking/dual-stack/#services).

use std::collections::HashSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use super::Status;
use super::defaults::{entry, fields};
use super::kind;
use super::store::{Store, key, text};
use crate::families::{Families, Family, service_address, service_number, service_range};

/// The first number given to a Service that asks for none: lower ones are for those that ask.
const FIRST_DYNAMIC: u16 = 256;

/// The address of a Service that wants none.
const NONE: &str = "None";

/// How many families a Service is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Single,
    Prefer,
    Require,
}

/// What a Service says about its addresses.
struct Asked {
    addresses: Vec<String>,
    families: Vec<Family>,
    policy: Option<Policy>,
    has_selector: bool,
}

/// Gives a Service its families and addresses, or keeps those that it has.
///
/// # Errors
/// When it asks for what the lab does not have, what somebody else has, or what contradicts itself.
pub(crate) fn assign(store: &Store, lab: Families, service: &mut Value) -> Result<(), Status> {
    let refused = Refused { name: text(service, "/metadata/name").to_owned() };
    let asked = Asked::of(service, &refused)?;
    let policy = asked.policy(lab, &refused)?;
    let families = asked.families(lab, policy, &refused)?;
    let addresses = if asked.is_headless() {
        vec![NONE.to_owned()]
    } else {
        let own = key(service);
        let others = store.iter(kind::of::<Service>(), None).filter(|other| key(other) != own);
        let taken: HashSet<&str> = others.flat_map(|other| addresses_of(other)).collect();
        let mut all = Vec::new();
        for family in &families {
            all.push(asked.address(*family, &taken, &refused)?);
        }
        all
    };
    let names: Vec<_> = families.iter().map(|family| family.name()).collect();
    let spec = entry(fields(service), "spec");
    spec.insert("clusterIP".into(), json!(addresses.first()));
    spec.insert("clusterIPs".into(), json!(addresses));
    spec.insert("ipFamilies".into(), json!(names));
    spec.insert("ipFamilyPolicy".into(), json!(policy.name()));
    Ok(())
}

/// As [`assign`] for a Service that changes: what it does not say stays, its first address always does, and the policy
/// decides about the second one.
///
/// # Errors
/// As [`assign`], or when an address is to become another.
pub(crate) fn reassign(store: &Store, lab: Families, current: &Value, next: &mut Value) -> Result<(), Status> {
    let refused = Refused { name: text(current, "/metadata/name").to_owned() };
    let is_policy_kept = current.pointer("/spec/ipFamilyPolicy") == next.pointer("/spec/ipFamilyPolicy")
        || next.pointer("/spec/ipFamilyPolicy").is_none();
    let spec = entry(fields(next), "spec");
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if let (Some(kept), None) = (current.pointer(&format!("/spec/{field}")), spec.get(field)) {
            spec.insert(field.into(), kept.clone());
        }
    }
    let asks_for_one = spec.get("ipFamilyPolicy").and_then(Value::as_str) == Some(Policy::Single.name());
    if asks_for_one && !is_policy_kept {
        for field in ["clusterIPs", "ipFamilies"] {
            if spec.get(field) == current.pointer(&format!("/spec/{field}"))
                && let Some(list) = spec.get_mut(field).and_then(Value::as_array_mut)
            {
                list.truncate(1);
            }
        }
    }
    let first = |service: &Value| service.pointer("/spec/clusterIP").cloned();
    if first(current).is_some() && first(current) != first(next) {
        return Err(refused.immutable("spec.clusterIP"));
    }
    let (old, new): (Vec<_>, Vec<_>) = (addresses_of(current).collect(), addresses_of(next).collect());
    if old.iter().zip(&new).any(|(old, new)| old != new) {
        return Err(refused.immutable("spec.clusterIPs"));
    }
    assign(store, lab, next)
}

/// The addresses that a Service has or asks for, without `None`.
fn addresses_of(service: &Value) -> impl Iterator<Item = &str> {
    let many = service.pointer("/spec/clusterIPs").and_then(Value::as_array).into_iter().flatten();
    many.filter_map(Value::as_str).filter(|address| *address != NONE)
}

impl Policy {
    fn name(self) -> &'static str {
        match self {
            Self::Single => "SingleStack",
            Self::Prefer => "PreferDualStack",
            Self::Require => "RequireDualStack",
        }
    }
}

impl Asked {
    fn of(service: &Value, refused: &Refused) -> Result<Self, Status> {
        let list = |field: &str| -> Vec<String> {
            let values = service.pointer(&format!("/spec/{field}")).and_then(Value::as_array).into_iter().flatten();
            values.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let (first, mut addresses) = (text(service, "/spec/clusterIP"), list("clusterIPs"));
        match addresses.first() {
            None if !first.is_empty() => addresses.push(first.to_owned()),
            Some(listed) if !first.is_empty() && listed != first => {
                return Err(refused.because(&format!(
                    "spec.clusterIPs[0]: Invalid value: {listed:?}: first value must match `clusterIP`"
                )));
            }
            _ => {}
        }
        let mut families = Vec::new();
        for (index, name) in list("ipFamilies").iter().enumerate() {
            let found = Family::named(name).ok_or_else(|| {
                let why = "supported values: \"IPv4\", \"IPv6\"";
                refused.because(&format!("spec.ipFamilies[{index}]: Unsupported value: {name:?}: {why}"))
            })?;
            if families.contains(&found) {
                return Err(refused.because(&format!("spec.ipFamilies[{index}]: Duplicate value: {name:?}")));
            }
            families.push(found);
        }
        let policy = match text(service, "/spec/ipFamilyPolicy") {
            "" => None,
            "SingleStack" => Some(Policy::Single),
            "PreferDualStack" => Some(Policy::Prefer),
            "RequireDualStack" => Some(Policy::Require),
            other => {
                let why = "supported values: \"SingleStack\", \"PreferDualStack\", \"RequireDualStack\"";
                return Err(refused.because(&format!("spec.ipFamilyPolicy: Unsupported value: {other:?}: {why}")));
            }
        };
        let selector = service.pointer("/spec/selector").and_then(Value::as_object);
        Ok(Self { addresses, families, policy, has_selector: selector.is_some_and(|selector| !selector.is_empty()) })
    }

    fn is_headless(&self) -> bool {
        self.addresses.first().is_some_and(|address| address == NONE)
    }

    /// Whoever names two families, or has no Pods to follow, wants both.
    fn policy(&self, lab: Families, refused: &Refused) -> Result<Policy, Status> {
        let names_both = self.families.len() > 1 || self.addresses.len() > 1;
        let follows_nobody = self.is_headless() && !self.has_selector;
        let policy = match self.policy {
            Some(policy) => policy,
            None if names_both || follows_nobody => Policy::Require,
            None => Policy::Single,
        };
        let wrong =
            |why: &str| refused.because(&format!("spec.ipFamilyPolicy: Invalid value: {:?}: {why}", policy.name()));
        if policy == Policy::Single && names_both {
            return Err(wrong("must be RequireDualStack or PreferDualStack when multiple IP families are specified"));
        }
        if policy == Policy::Require && lab != Families::Dual && !follows_nobody {
            return Err(wrong("this cluster is not configured for dual-stack services"));
        }
        Ok(policy)
    }

    fn families(&self, lab: Families, policy: Policy, refused: &Refused) -> Result<Vec<Family>, Status> {
        let mut families = self.families.clone();
        let given = self.addresses.iter().filter(|address| *address != NONE);
        for (index, address) in given.enumerate() {
            let family = Family::of(self.parse(address, refused)?);
            match families.get(index) {
                None if families.contains(&family) => {
                    let why = "may specify no more than one IP for each IP family";
                    return Err(refused.because(&format!("spec.clusterIPs: Invalid value: {address:?}: {why}")));
                }
                None => families.push(family),
                Some(named) if *named != family => {
                    let why = format!("expected an {named} value as indicated by `ipFamilies[{index}]`");
                    let found = format!("spec.clusterIPs[{index}]: Invalid value: {address:?}: {why}");
                    return Err(refused.because(&found));
                }
                Some(_) => {}
            }
        }
        let follows_nobody = self.is_headless() && !self.has_selector;
        for (index, family) in families.iter().enumerate().filter(|_| !follows_nobody) {
            if !lab.has(*family) {
                let why = format!("Invalid value: \"{family}\": not configured on this cluster");
                return Err(refused.because(&format!("spec.ipFamilies[{index}]: {why}")));
            }
        }
        if families.is_empty() {
            families.push(lab.primary());
        }
        if let [only] = *families.as_slice()
            && policy != Policy::Single
            && (lab == Families::Dual || follows_nobody)
        {
            families.push(only.other());
        }
        Ok(families)
    }

    /// The address that is asked for, or a free one.
    fn address(&self, family: Family, taken: &HashSet<&str>, refused: &Refused) -> Result<String, Status> {
        for asked in &self.addresses {
            let address = self.parse(asked, refused)?;
            if Family::of(address) != family {
                continue;
            }
            if service_number(address).is_none() {
                let why = format!("the provided IP is not in the valid range {}", service_range(family));
                return Err(refused.address(asked, &why));
            }
            if taken.contains(address.to_string().as_str()) {
                return Err(refused.address(asked, "provided IP is already allocated"));
            }
            return Ok(address.to_string());
        }
        (FIRST_DYNAMIC..u16::MAX)
            .map(|number| service_address(family, number).to_string())
            .find(|address| !taken.contains(address.as_str()))
            .ok_or_else(|| Status::unavailable("every cluster address is taken"))
    }

    fn parse(&self, address: &str, refused: &Refused) -> Result<IpAddr, Status> {
        address.parse().map_err(|_invalid| refused.address(address, "it is no IP address"))
    }
}

/// Why a Service is refused, in the words of Kubernetes.
struct Refused {
    name: String,
}

impl Refused {
    fn because(&self, why: &str) -> Status {
        Status::invalid("Service", &self.name, why)
    }

    fn address(&self, asked: &str, why: &str) -> Status {
        self.because(&format!("spec.clusterIPs: Invalid value: [{asked:?}]: failed to allocate IP {asked}: {why}"))
    }

    fn immutable(&self, field: &str) -> Status {
        self.because(&format!("{field}: Invalid value: field is immutable"))
    }
}
