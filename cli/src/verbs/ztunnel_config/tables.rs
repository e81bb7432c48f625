//! The tables, with the columns that users of other ambient meshes know.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;

use crate::admin::dump::{Certificate, ChainLink, Dump, Entry, Gateway, Pod, Policy, Service, Workload};
use crate::output::Table;

/// What is printed where there is nothing.
const NONE: &str = "None";

/// The names of addresses.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// An address that several workloads share, as pods on the host's network do, has none.
    by_address: BTreeMap<IpAddr, Option<String>>,
    /// Services by address and by `namespace/hostname`, as waypoints are given.
    services: BTreeMap<String, String>,
}

impl Names {
    pub(super) fn new(dump: &Dump) -> Self {
        let mut names = Self::default();
        for workload in dump.workloads.iter().map(|entry| &entry.item) {
            for address in workload.workload_ips.iter().filter_map(|address| address.parse().ok()) {
                let name = format!("{}.{}", workload.name, workload.namespace);
                names.by_address.entry(address).and_modify(|known| *known = None).or_insert(Some(name));
            }
        }
        for service in dump.services.iter().map(|entry| &entry.item) {
            for vip in &service.vips {
                names.services.insert(vip.clone(), service.name.clone());
                if let Some(address) = vip.rsplit_once('/').and_then(|(_, address)| address.parse().ok()) {
                    names.by_address.insert(address, Some(service.hostname.clone()));
                }
            }
            names.services.insert(format!("{}/{}", service.namespace, service.hostname), service.name.clone());
        }
        names
    }

    /// `cart.shop:8080` for `10.244.1.2:8080`; what has no name stays as it is.
    fn of(&self, address: &str) -> String {
        let Ok(socket) = address.parse::<SocketAddr>() else {
            return address.to_owned();
        };
        match self.by_address.get(&socket.ip()) {
            Some(Some(name)) => format!("{name}:{}", socket.port()),
            _ => address.to_owned(),
        }
    }

    fn waypoint(&self, gateway: Option<&Gateway>) -> String {
        let Some(gateway) = gateway else {
            return NONE.to_owned();
        };
        self.services.get(&gateway.destination).unwrap_or(&gateway.destination).clone()
    }
}

pub(super) fn workloads(workloads: &[Entry<Workload>], names: &Names) -> String {
    let mut sorted: Vec<&Workload> = workloads.iter().map(|entry| &entry.item).collect();
    sorted.sort_by_key(|workload| (&workload.namespace, &workload.name));
    let mut table = Table::new(["NAMESPACE", "POD NAME", "ADDRESS", "NODE", "WAYPOINT", "PROTOCOL"]);
    for workload in sorted {
        let address =
            if workload.workload_ips.is_empty() { workload.hostname.clone() } else { workload.workload_ips.join(",") };
        table.row([
            workload.namespace.clone(),
            workload.name.clone(),
            or_none(address),
            or_none(workload.node.clone()),
            names.waypoint(workload.waypoint.as_ref()),
            workload.protocol.clone(),
        ]);
    }
    table.to_string()
}

pub(super) fn services(services: &[Entry<Service>], names: &Names) -> String {
    let mut sorted: Vec<&Service> = services.iter().map(|entry| &entry.item).collect();
    sorted.sort_by_key(|service| (&service.namespace, &service.name, &service.hostname));
    let mut table = Table::new(["NAMESPACE", "SERVICE NAME", "SERVICE VIP", "WAYPOINT", "ENDPOINTS"]);
    for service in sorted {
        let addresses: Vec<&str> =
            service.vips.iter().map(|vip| vip.rsplit_once('/').map_or(vip.as_str(), |(_, address)| address)).collect();
        let healthy = service.endpoints.values().filter(|endpoint| endpoint.status == "Healthy").count();
        table.row([
            service.namespace.clone(),
            service.name.clone(),
            or_none(addresses.join(",")),
            names.waypoint(service.waypoint.as_ref()),
            format!("{healthy}/{}", service.endpoints.len()),
        ]);
    }
    table.to_string()
}

pub(super) fn policies(policies: &[Entry<Policy>]) -> String {
    let mut sorted: Vec<&Policy> = policies.iter().map(|entry| &entry.item).collect();
    sorted.sort_by_key(|policy| (&policy.namespace, &policy.name));
    let mut table = Table::new(["NAMESPACE", "POLICY NAME", "ACTION", "SCOPE"]);
    for policy in sorted {
        let dry = if policy.dry_run { " (dry run)" } else { "" };
        table.row([
            policy.namespace.clone(),
            policy.name.clone(),
            format!("{}{dry}", policy.action),
            policy.scope.clone(),
        ]);
    }
    table.to_string()
}

pub(super) fn certificates(certificates: &[Entry<Certificate>], now: Timestamp) -> String {
    let mut table =
        Table::new(["CERTIFICATE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"]);
    for certificate in certificates.iter().map(|entry| &entry.item) {
        let mut row = |kind: &str, link: &ChainLink| {
            table.row([
                certificate.identity.clone(),
                kind.to_owned(),
                certificate.state.clone(),
                is_valid(link, now).to_string(),
                hexadecimal(&link.serial_number),
                link.expiration_time.clone(),
                link.valid_from.clone(),
            ]);
        };
        match certificate.cert_chain.split_first() {
            Some((leaf, intermediates)) => {
                row("Leaf", leaf);
                intermediates.iter().for_each(|link| row("Intermediate", link));
            }
            // Asked for and not there yet, or refused: the state says which.
            None => row("Leaf", &ChainLink::default()),
        }
        certificate.root_certs.iter().for_each(|root| row("Root", root));
    }
    table.to_string()
}

pub(super) fn connections(pods: &BTreeMap<String, Entry<Pod>>, names: &Names, raw: bool) -> String {
    let name = |address: &str| if raw { address.to_owned() } else { names.of(address) };
    let mut sorted: Vec<&Pod> = pods.values().map(|entry| &entry.item).collect();
    sorted.sort_by_key(|pod| (&pod.info.namespace, &pod.info.name));
    let mut table = Table::new(["WORKLOAD", "DIRECTION", "LOCAL", "REMOTE", "REMOTE TARGET", "PROTOCOL"]);
    for pod in sorted {
        let workload = format!("{}.{}", pod.info.name, pod.info.namespace);
        for inbound in &pod.connections.inbound {
            table.row([
                workload.clone(),
                "Inbound".to_owned(),
                name(&inbound.actual_dst),
                name(&inbound.src),
                or_none(inbound.original_dst.as_deref().map(name).unwrap_or_default()),
                inbound.protocol.clone(),
            ]);
        }
        for outbound in &pod.connections.outbound {
            table.row([
                workload.clone(),
                "Outbound".to_owned(),
                name(&outbound.src),
                name(&outbound.actual_dst),
                or_none(outbound.original_dst.as_deref().map(name).unwrap_or_default()),
                outbound.protocol.clone(),
            ]);
        }
    }
    table.to_string()
}

fn or_none(text: String) -> String {
    if text.is_empty() { NONE.to_owned() } else { text }
}

/// Whether `now` lies within the certificate's time; a time that cannot be read is none.
fn is_valid(link: &ChainLink, now: Timestamp) -> bool {
    let (from, until) = (link.valid_from.parse::<Timestamp>(), link.expiration_time.parse::<Timestamp>());
    matches!((from, until), (Ok(from), Ok(until)) if from <= now && now < until)
}

/// A decimal number of any length as other tools print serial numbers; what is no number stays as it is.
fn hexadecimal(decimal: &str) -> String {
    // Least significant digit first.
    let mut digits: Vec<u32> = vec![0];
    for character in decimal.chars() {
        let Some(mut carry) = character.to_digit(10) else {
            return decimal.to_owned();
        };
        for digit in &mut digits {
            let value = *digit * 10 + carry;
            (*digit, carry) = (value % 16, value / 16);
        }
        if carry > 0 {
            digits.push(carry);
        }
    }
    if decimal.is_empty() {
        return String::new();
    }
    digits.iter().rev().filter_map(|digit| char::from_digit(*digit, 16)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_of_any_length_are_hexadecimal() {
        let cases = [
            ("0", "0"),
            ("255", "ff"),
            ("256", "100"),
            ("340282366920938463463374607431768211455", "ffffffffffffffffffffffffffffffff"),
            ("", ""),
            ("ab", "ab"),
        ];
        for (decimal, expected) in cases {
            assert_eq!(hexadecimal(decimal), expected, "{decimal}");
        }
    }

    #[test]
    fn a_certificate_is_valid_between_its_times() {
        let link = ChainLink {
            serial_number: String::new(),
            valid_from: "2026-01-01T00:00:00Z".to_owned(),
            expiration_time: "2026-01-02T00:00:00Z".to_owned(),
        };
        let at = |text: &str| is_valid(&link, text.parse().unwrap());
        assert!(at("2026-01-01T00:00:00Z") && at("2026-01-01T23:59:59Z"));
        assert!(!at("2025-12-31T23:59:59Z") && !at("2026-01-02T00:00:00Z"));
        assert!(!is_valid(&ChainLink::default(), "2026-01-01T00:00:00Z".parse().unwrap()));
    }
}
