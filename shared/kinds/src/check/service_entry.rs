//! Values of a ServiceEntry and a WorkloadEntry, and which of them the node proxies cannot honour.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Report;
use super::nearest::nearest;
use crate::networking::{PortProtocol, Resolution, ServiceEntrySpec, ServicePort, WorkloadEntrySpec};

pub(super) fn check(spec: &ServiceEntrySpec, report: &mut Report) {
    hosts(spec, report);
    addresses(spec, report);
    ports(&spec.ports, report);
    endpoints(spec, report);
    export_to(&spec.export_to, report);
    for (index, name) in spec.subject_alt_names.iter().enumerate() {
        // Other names are for TLS that a waypoint originates.
        if !name.starts_with("spiffe://") {
            let path = format!("spec.subjectAltNames[{index}]");
            let advice = "only the spiffe:// names of endpoints that speak HBONE are compared";
            report.unsupported(&path, format!("ztunnel does not compare the DNS name {name}"), advice);
        }
    }
}

fn hosts(spec: &ServiceEntrySpec, report: &mut Report) {
    if spec.hosts.is_empty() {
        report.missing("spec.hosts", "at least one DNS name");
    }
    for (index, host) in spec.hosts.iter().enumerate() {
        let path = format!("spec.hosts[{index}]");
        let name = host.strip_prefix("*.").unwrap_or(host);
        if !is_dns_name(name) || name.contains('*') || name.parse::<IpAddr>().is_ok() {
            report.bad_value(&path, host, "a DNS name, which may begin with \"*.\"");
        } else if host.starts_with('*') {
            wildcard(spec, &path, host, report);
        }
    }
}

fn wildcard(spec: &ServiceEntrySpec, path: &str, host: &str, report: &mut Report) {
    let has_endpoints = !spec.endpoints.is_empty() || spec.workload_selector.is_some();
    match spec.resolution() {
        Resolution::Dns | Resolution::DnsRoundRobin if !has_endpoints => {
            report.bad_value(path, host, "a name without wildcard, or endpoints, where resolution is DNS");
        }
        Resolution::DynamicDns => {}
        _ if spec.addresses.is_empty() => {
            let advice = "give spec.addresses, or set spec.resolution to DYNAMIC_DNS and use a waypoint";
            let found = format!("no address is assigned to the wildcard {host}, so that ztunnel never sees it");
            report.unsupported(path, found, advice);
        }
        _ => {}
    }
}

fn addresses(spec: &ServiceEntrySpec, report: &mut Report) {
    for (index, text) in spec.addresses.iter().enumerate() {
        let path = format!("spec.addresses[{index}]");
        match (text.parse::<IpAddr>(), text.parse::<types::Cidr>()) {
            (Ok(_), _) => {}
            (Err(_), Ok(_)) if matches!(spec.resolution(), Resolution::None | Resolution::Static) => {}
            (Err(_), Ok(_)) => {
                report.bad_value(&path, text, "single addresses; ranges are for resolution NONE and STATIC alone");
            }
            (Err(_), Err(_)) => {
                report.bad_value(&path, text, "an IP address or a range such as 10.0.0.0/8");
            }
        }
    }
}

fn ports(ports: &[ServicePort], report: &mut Report) {
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        for (field, number) in [("number", Some(port.number)), ("targetPort", port.target_port)] {
            if let Some(number) = number.filter(|number| !is_port(*number)) {
                report.bad_value(&format!("{path}.{field}"), &number.to_string(), "a port from 1 to 65535");
            }
        }
        if port.name.is_empty() {
            report.missing(&format!("{path}.name"), "a name");
        } else if !names.insert(&port.name) {
            report.bad_value(&format!("{path}.name"), &port.name, "a name that no other port has");
        }
        if !numbers.insert(port.number) {
            report.bad_value(&format!("{path}.number"), &port.number.to_string(), "a number that no other port has");
        }
        protocol(port, &format!("{path}.protocol"), report);
    }
}

fn protocol(port: &ServicePort, path: &str, report: &mut Report) {
    match PortProtocol::parse(&port.protocol) {
        Some(PortProtocol::Udp) => {
            report.unsupported(path, "the mesh carries TCP alone; this port is left out", "");
        }
        None if !port.protocol.is_empty() => {
            let upper = port.protocol.to_ascii_uppercase();
            let meant = nearest(&upper, PortProtocol::KNOWN.iter().copied()).map(str::to_owned);
            let expected = format!("one of {}", PortProtocol::KNOWN.join(", "));
            report.bad_value(path, &port.protocol, &expected).nearest = meant;
        }
        _ => {}
    }
}

fn endpoints(spec: &ServiceEntrySpec, report: &mut Report) {
    if !spec.endpoints.is_empty() && spec.workload_selector.is_some() {
        report.bad_value("spec.workloadSelector", "a selector", "either endpoints or workloadSelector");
    }
    if spec.workload_selector.is_some() && spec.selected().is_none() {
        report.missing("spec.workloadSelector.labels", "labels of the endpoints; without any, none is selected");
    }
    if spec.resolution() == Resolution::None && !spec.endpoints.is_empty() {
        let finding = report.bad_value("spec.endpoints", "endpoints", "none where resolution is NONE");
        "set spec.resolution to STATIC or DNS".clone_into(&mut finding.advice);
    }
    if spec.resolution() == Resolution::DnsRoundRobin && spec.endpoints.len() > 1 {
        report.bad_value("spec.endpoints", "several", "one where resolution is DNS_ROUND_ROBIN");
    }
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let path = format!("spec.endpoints[{index}]");
        self::endpoint(endpoint, &path, report);
        let is_name = !endpoint.address.is_empty() && endpoint.address.parse::<IpAddr>().is_err();
        if spec.resolution() == Resolution::Static && is_name && !endpoint.address.starts_with("unix://") {
            report.bad_value(&format!("{path}.address"), &endpoint.address, "an IP address where resolution is STATIC");
        }
        for name in endpoint.ports.keys().filter(|name| !spec.ports.iter().any(|port| port.name == **name)) {
            let names: Vec<&str> = spec.ports.iter().map(|port| port.name.as_str()).collect();
            let finding =
                report.bad_value(&format!("{path}.ports.{name}"), name, &format!("one of {}", names.join(", ")));
            finding.nearest = nearest(name, names).map(str::to_owned);
        }
    }
}

/// Checks one endpoint at `path`, which is `spec` for a WorkloadEntry.
pub(super) fn endpoint(endpoint: &WorkloadEntrySpec, path: &str, report: &mut Report) {
    let WorkloadEntrySpec { address, network, .. } = endpoint;
    let at = format!("{path}.address");
    if address.starts_with("unix://") {
        report.unsupported(&at, "ztunnel does not connect to unix sockets; this endpoint is left out", "");
    } else if address.is_empty() && network.is_empty() {
        report.missing(&at, "an IP address or host name, or a network");
    } else if !address.is_empty() && address.parse::<IpAddr>().is_err() && !is_dns_name(address) {
        report.bad_value(&at, address, "an IP address or a host name");
    }
    for (name, number) in endpoint.ports.iter().filter(|(_, number)| !is_port(**number)) {
        report.bad_value(&format!("{path}.ports.{name}"), &number.to_string(), "a port from 1 to 65535");
    }
    if endpoint.locality.split('/').count() > 3 {
        report.bad_value(&format!("{path}.locality"), &endpoint.locality, "region/zone/subzone");
    }
}

fn export_to(namespaces: &[String], report: &mut Report) {
    let is_all = namespaces.iter().any(|namespace| namespace == "*");
    for (index, namespace) in namespaces.iter().enumerate() {
        let path = format!("spec.exportTo[{index}]");
        match namespace.as_str() {
            "*" | "." => {}
            "~" if namespaces.len() > 1 => {
                report.bad_value(&path, namespace, "\"~\" alone, which is nobody");
            }
            "~" => {}
            _ if is_all => {}
            _ => {
                let found = format!("ztunnel knows everybody and the own namespace alone; {namespace} does not see it");
                report.unsupported(&path, found, "use \"*\" or \".\"");
            }
        }
    }
}

/// Labels of letters, digits, hyphens and underscores, 253 characters at most (RFC 1123, section 2.1).
fn is_dns_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_edge = |byte: Option<u8>| byte.is_some_and(|byte| byte != b'-');
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len())
            && label.bytes().all(is_inner)
            && is_edge(label.bytes().next())
            && is_edge(label.bytes().last())
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_port(number: u32) -> bool {
    (1..=65535).contains(&number)
}
