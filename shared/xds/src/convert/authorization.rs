//! Authorization policies.
//!
//! A policy is taken whole or not at all. Dropping a condition that is not understood would widen a rule, and dropping
//! the last of a list would turn it into "not specified".

use policy::{Action, Authorization, Clause, Match, Rule, Scope, ServiceAccountMatch, StringMatch, Unreadable};
use prost::Message;
use prost::bytes::Bytes;
use proto::istio::security as wire;
use proto::istio::security::string_match::MatchType;
use types::{Cidr, NamespacedName};

use super::{ConvertError, each, enumeration, ip_as_given};

/// The rules of an encoded policy, each as it came.
#[derive(Clone, PartialEq, Message)]
struct EncodedRules {
    #[prost(bytes = "bytes", repeated, tag = "5")]
    rules: Vec<Bytes>,
}

/// Decodes and converts a policy, and refuses conditions that this version has no field for.
///
/// Protobuf skips unknown fields without a word. Elsewhere that is how versions get along; inside a rule it would leave
/// a condition out. A rule that is shorter when it is encoded again than it was on the wire had such a field.
///
/// # Errors
/// The message does not decode, or the first field that is not as it should be.
pub fn decode_authorization(encoded: &[u8]) -> Result<Authorization, ConvertError> {
    let undecodable = |error| ConvertError::new("message", error);
    let message = wire::Authorization::decode(encoded).map_err(undecodable)?;
    let raw = EncodedRules::decode(encoded).map_err(undecodable)?;
    for (index, (rule, raw)) in message.rules.iter().zip(&raw.rules).enumerate() {
        if rule.encoded_len() != raw.len() {
            return Err(ConvertError::new(format!("rules[{index}]"), "holds a condition that is not known"));
        }
    }
    authorization(message)
}

/// Converts a policy.
///
/// # Errors
/// The first field that is not as it should be, with its path: `rules[0].clauses[1].matches[0].source_ips[2].length`.
pub fn authorization(message: wire::Authorization) -> Result<Authorization, ConvertError> {
    for (field, text) in [("namespace", &message.namespace), ("name", &message.name)] {
        if text.is_empty() {
            return Err(ConvertError::new(field, "not set"));
        }
    }
    if message.namespace.contains('/') {
        return Err(ConvertError::new("namespace", format!("{:?} contains a slash", message.namespace)));
    }
    Ok(Authorization {
        scope: scope(enumeration("scope", message.scope)?),
        action: action(enumeration("action", message.action)?),
        dry_run: message.dry_run,
        rules: each("rules", message.rules, rule)?,
        key: NamespacedName::new(message.namespace, message.name),
    })
}

/// What can still be told of a policy that was refused; `None` if it would not have been enforced.
///
/// The content is believed only where it says that it is the policy of that key.
pub fn unreadable(key: NamespacedName, encoded: &[u8]) -> Option<Unreadable> {
    let is_own = |message: &wire::Authorization| *message.namespace == *key.namespace && *message.name == *key.name;
    let Some(message) = wire::Authorization::decode(encoded).ok().filter(is_own) else {
        return Some(Unreadable { key, scope: None, action: None });
    };
    let scope = wire::Scope::try_from(message.scope).ok().map(scope);
    let action = wire::Action::try_from(message.action).ok().map(action);
    (!message.dry_run).then_some(Unreadable { key, scope, action })
}

fn scope(message: wire::Scope) -> Scope {
    match message {
        wire::Scope::Global => Scope::Global,
        wire::Scope::Namespace => Scope::Namespace,
        wire::Scope::WorkloadSelector => Scope::WorkloadSelector,
    }
}

fn action(message: wire::Action) -> Action {
    match message {
        wire::Action::Allow => Action::Allow,
        wire::Action::Deny => Action::Deny,
    }
}

fn rule(message: wire::Rule) -> Result<Rule, ConvertError> {
    Ok(Rule { clauses: each("clauses", message.clauses, clause)? })
}

fn clause(message: wire::Clause) -> Result<Clause, ConvertError> {
    Ok(Clause { matches: each("matches", message.matches, one_match)? })
}

fn one_match(message: wire::Match) -> Result<Match, ConvertError> {
    if let Some(extension) = message.extensions.first() {
        let reason = format!("the condition {:?} is not known", extension.name);
        return Err(ConvertError::new("extensions", reason));
    }
    Ok(Match {
        namespaces: each("namespaces", message.namespaces, string_match)?,
        not_namespaces: each("not_namespaces", message.not_namespaces, string_match)?,
        principals: each("principals", message.principals, string_match)?,
        not_principals: each("not_principals", message.not_principals, string_match)?,
        source_ips: each("source_ips", &message.source_ips, range)?,
        not_source_ips: each("not_source_ips", &message.not_source_ips, range)?,
        destination_ips: each("destination_ips", &message.destination_ips, range)?,
        not_destination_ips: each("not_destination_ips", &message.not_destination_ips, range)?,
        destination_ports: port_list("destination_ports", &message.destination_ports)?,
        not_destination_ports: port_list("not_destination_ports", &message.not_destination_ports)?,
        service_accounts: each("service_accounts", message.service_accounts, service_account)?,
        not_service_accounts: each("not_service_accounts", message.not_service_accounts, service_account)?,
    })
}

fn string_match(message: wire::StringMatch) -> Result<StringMatch, ConvertError> {
    match message.match_type {
        Some(MatchType::Exact(text)) => Ok(StringMatch::Exact(text.into())),
        Some(MatchType::Prefix(text)) => Ok(StringMatch::Prefix(text.into())),
        Some(MatchType::Suffix(text)) => Ok(StringMatch::Suffix(text.into())),
        Some(MatchType::Presence(())) => Ok(StringMatch::Presence),
        None => Err(ConvertError::new("match_type", "not set")),
    }
}

fn range(message: &wire::Address) -> Result<Cidr, ConvertError> {
    let address = ip_as_given("address", &message.address)?;
    u8::try_from(message.length)
        .ok()
        .and_then(|length| Cidr::new(address, length).ok())
        .ok_or_else(|| ConvertError::new("length", format!("{} is too long a prefix for {address}", message.length)))
}

fn port_list(field: &str, ports: &[u32]) -> Result<Vec<u16>, ConvertError> {
    let numbered = ports.iter().enumerate();
    numbered.map(|(index, &port)| super::port_number(&format!("{field}[{index}]"), port)).collect()
}

fn service_account(message: wire::ServiceAccountMatch) -> Result<ServiceAccountMatch, ConvertError> {
    for (field, text) in [("namespace", &message.namespace), ("service_account", &message.service_account)] {
        if text.is_empty() {
            return Err(ConvertError::new(field, "not set"));
        }
    }
    Ok(ServiceAccountMatch { namespace: message.namespace.into(), service_account: message.service_account.into() })
}
