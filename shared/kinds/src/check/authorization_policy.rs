//! Values of an AuthorizationPolicy, and which of its attributes only layer 7 can see.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Report;
use super::peer_authentication::{nearest_name, port_number, selector};
use crate::security::{Action, AuthorizationPolicySpec, Condition, Operation, Rule, Source};

/// Attributes of `when` that a connection has.
const CONNECTION_KEYS: &[&str] =
    &["source.ip", "source.namespace", "source.principal", "destination.ip", "destination.port"];
/// Attributes of `when` that only a request has, or that only a waypoint knows.
const REQUEST_KEYS: &[&str] = &[
    "connection.sni",
    "remote.ip",
    "request.auth.audiences",
    "request.auth.presenter",
    "request.auth.principal",
    "source.serviceAccount",
];
/// The same, with a name in brackets behind.
const REQUEST_MAPS: &[&str] = &["request.headers", "request.auth.claims", "experimental.envoy.filters."];

/// The attributes of a rule that a node proxy cannot see, sorted; empty if it can evaluate the whole rule.
///
/// Source: the [dependency of attributes on protocols](https://istio.io/latest/docs/reference/config/security/authorization-policy/).
#[must_use]
pub fn http_attributes(rule: &Rule) -> BTreeSet<String> {
    let sources = rule.from.iter().flat_map(|from| {
        let Source { remote_ip_blocks, not_remote_ip_blocks, request_principals, not_request_principals, .. } =
            &from.source;
        [
            ("remoteIpBlocks", remote_ip_blocks),
            ("notRemoteIpBlocks", not_remote_ip_blocks),
            ("requestPrincipals", request_principals),
            ("notRequestPrincipals", not_request_principals),
            ("trustDomains", &from.source.trust_domains),
            ("notTrustDomains", &from.source.not_trust_domains),
        ]
    });
    let operations = rule.to.iter().flat_map(|to| {
        let Operation { hosts, not_hosts, methods, not_methods, paths, not_paths, .. } = &to.operation;
        [
            ("hosts", hosts),
            ("notHosts", not_hosts),
            ("methods", methods),
            ("notMethods", not_methods),
            ("paths", paths),
            ("notPaths", not_paths),
        ]
    });
    let named = sources.chain(operations).filter(|(_, values)| !values.is_empty()).map(|(name, _)| name.to_owned());
    let conditions = rule.when.iter().map(|when| &when.key).filter(|key| !CONNECTION_KEYS.contains(&key.as_str()));
    named.chain(conditions.cloned()).collect()
}

pub(super) fn check(spec: &AuthorizationPolicySpec, report: &mut Report) {
    selector(spec.selector.as_ref(), report);
    targets(spec, report);
    action(spec, report);
    let mut attributes = BTreeSet::new();
    for (index, rule) in spec.rules.iter().enumerate() {
        let path = format!("spec.rules[{index}]");
        for (index, from) in rule.from.iter().enumerate() {
            source(&from.source, &format!("{path}.from[{index}].source"), report);
        }
        for (index, to) in rule.to.iter().enumerate() {
            operation(&to.operation, &format!("{path}.to[{index}].operation"), report);
        }
        for (index, when) in rule.when.iter().enumerate() {
            condition(when, &format!("{path}.when[{index}]"), report);
        }
        attributes.extend(http_attributes(rule));
    }
    if !attributes.is_empty() && !spec.is_for_waypoints() {
        unsupported_by_ztunnel(&spec.action(), &attributes, report);
    }
}

/// The wording is Istio's, so that what users find about it applies.
fn unsupported_by_ztunnel(action: &Action, attributes: &BTreeSet<String>, report: &mut Report) {
    let found: Vec<&str> = attributes.iter().map(String::as_str).collect();
    let until = match action {
        Action::Deny => "DENY policy with HTTP attributes is enforced without the HTTP rules.",
        _ => "Within an ALLOW policy, rules matching HTTP attributes are omitted.",
    };
    let text = format!(
        "ztunnel does not support HTTP attributes (found: {}). In ambient mode you must use a waypoint proxy to \
         enforce HTTP rules. {until} This will be more restrictive than requested. Deploy a waypoint proxy and use a \
         targetRef",
        found.join(", ")
    );
    report.unsupported("spec.rules", text, "set spec.targetRefs to the Service instead of spec.selector");
}

fn targets(spec: &AuthorizationPolicySpec, report: &mut Report) {
    let given = [spec.selector.is_some(), spec.target_ref.is_some(), !spec.target_refs.is_empty()];
    if given.iter().filter(|given| **given).count() > 1 {
        report.bad_value("spec", "selector and targetRefs", "only one of selector, targetRef and targetRefs");
    }
    for target in spec.target_ref.iter().chain(&spec.target_refs) {
        if !target.namespace.is_empty() && target.namespace != report.object.namespace {
            report.bad_value("spec.targetRefs.namespace", &target.namespace, "an object of the policy's own namespace");
        }
    }
}

fn action(spec: &AuthorizationPolicySpec, report: &mut Report) {
    let action = spec.action();
    match (&action, &spec.provider) {
        (Action::Custom, None) => {
            report.missing("spec.provider", "the external authorizer of a CUSTOM action");
        }
        (Action::Custom, Some(_)) | (_, None) => {}
        (_, Some(provider)) => {
            report.bad_value("spec.provider", &provider.name, "no provider unless the action is CUSTOM");
        }
    }
    if matches!(action, Action::Audit | Action::Custom) && !spec.is_for_waypoints() {
        let text = format!("ztunnel does not support the {action} action");
        report.unsupported("spec.action", text, "deploy a waypoint proxy and use a targetRef");
    }
}

fn source(source: &Source, path: &str, report: &mut Report) {
    if *source == Source::default() {
        report.missing(path, "at least one attribute of the source");
    }
    for (name, values) in [("principals", &source.principals), ("notPrincipals", &source.not_principals)] {
        list(values, &format!("{path}.{name}"), report, |value| match value.strip_prefix("spiffe://") {
            Some(rest) => Err(("an identity without its scheme", Some(rest.to_owned()))),
            None => Ok(()),
        });
    }
    for (name, values) in [("ipBlocks", &source.ip_blocks), ("notIpBlocks", &source.not_ip_blocks)] {
        list(values, &format!("{path}.{name}"), report, is_block);
    }
    for (name, values) in
        [("remoteIpBlocks", &source.remote_ip_blocks), ("notRemoteIpBlocks", &source.not_remote_ip_blocks)]
    {
        list(values, &format!("{path}.{name}"), report, is_block);
    }
    for (name, values) in
        [("serviceAccounts", &source.service_accounts), ("notServiceAccounts", &source.not_service_accounts)]
    {
        list(values, &format!("{path}.{name}"), report, |value| match value.split('/').count() {
            1 | 2 if !value.contains('*') => Ok(()),
            _ => Err(("namespace/name or name, without wildcards", None)),
        });
    }
    for (name, values) in [("namespaces", &source.namespaces), ("notNamespaces", &source.not_namespaces)] {
        list(values, &format!("{path}.{name}"), report, |_| Ok(()));
    }
    let has_accounts = !source.service_accounts.is_empty() || !source.not_service_accounts.is_empty();
    let others =
        [&source.principals, &source.not_principals, &source.namespaces, &source.not_namespaces].map(|list| list.len());
    if has_accounts && others.iter().sum::<usize>() > 0 {
        report.bad_value(path, "serviceAccounts", "serviceAccounts without namespaces or principals");
    }
}

fn operation(operation: &Operation, path: &str, report: &mut Report) {
    if *operation == Operation::default() {
        report.missing(path, "at least one attribute of the operation");
    }
    for (name, values) in [("ports", &operation.ports), ("notPorts", &operation.not_ports)] {
        list(values, &format!("{path}.{name}"), report, is_port);
    }
    for (name, values) in [
        ("hosts", &operation.hosts),
        ("notHosts", &operation.not_hosts),
        ("methods", &operation.methods),
        ("notMethods", &operation.not_methods),
        ("paths", &operation.paths),
        ("notPaths", &operation.not_paths),
    ] {
        list(values, &format!("{path}.{name}"), report, |_| Ok(()));
    }
}

fn condition(when: &Condition, path: &str, report: &mut Report) {
    let known = [CONNECTION_KEYS, REQUEST_KEYS].concat();
    let is_known = known.contains(&when.key.as_str()) || REQUEST_MAPS.iter().any(|map| when.key.starts_with(map));
    if !is_known {
        let finding = report.bad_value(&format!("{path}.key"), &when.key, &format!("one of {}", known.join(", ")));
        finding.nearest = nearest_name(&when.key, &known);
    }
    if when.values.is_empty() && when.not_values.is_empty() {
        report.missing(&format!("{path}.values"), "values or notValues");
    }
    for (name, values) in [("values", &when.values), ("notValues", &when.not_values)] {
        list(values, &format!("{path}.{name}"), report, |value| match when.key.as_str() {
            "source.ip" | "remote.ip" | "destination.ip" => is_block(value),
            "destination.port" => is_port(value),
            _ => Ok(()),
        });
    }
}

/// What was expected instead of a value, and the nearest valid one.
type Objection = (&'static str, Option<String>);

fn list(values: &[String], path: &str, report: &mut Report, check: impl Fn(&str) -> Result<(), Objection>) {
    for (index, value) in values.iter().enumerate() {
        let verdict = if value.is_empty() { Err(("a value that is not empty", None)) } else { check(value) };
        if let Err((expected, nearest)) = verdict {
            report.bad_value(&format!("{path}[{index}]"), value, expected).nearest = nearest;
        }
    }
}

fn is_port(value: &str) -> Result<(), Objection> {
    port_number(value).map(|_| ()).ok_or(("a port from 1 to 65535", None))
}

fn is_block(value: &str) -> Result<(), Objection> {
    let parsed = match value.split_once('/') {
        None => value.parse::<IpAddr>().is_ok(),
        Some((address, length)) => match (address.parse::<IpAddr>(), length.parse::<u8>()) {
            (Ok(IpAddr::V4(_)), Ok(length)) => length <= 32,
            (Ok(IpAddr::V6(_)), Ok(length)) => length <= 128,
            _ => false,
        },
    };
    if parsed { Ok(()) } else { Err(("an address such as 10.0.0.1 or a block such as 10.0.0.0/8", None)) }
}
