//! Names that the mesh knows, and the addresses behind them.

use std::net::IpAddr;
use std::sync::Arc;

use discovery::{Service, View, Workload};
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use rand::Rng;
use rand::seq::SliceRandom;

use crate::names::{self, Alias};
use crate::query::Query;

/// How long an answer of the mesh may be kept, in seconds: addresses follow endpoints that come and go.
pub const TTL: u32 = 30;

/// What the answers depend on beyond discovery.
#[derive(Debug, Clone)]
pub struct Settings {
    domain: Vec<String>,
    suffix: String,
    /// Whether IPv6 addresses are given out.
    pub ipv6: bool,
    /// The namespace that is preferred where several define a host name and none is the client's or canonical.
    pub preferred_namespace: Option<String>,
}

impl Settings {
    /// Settings for a cluster whose Services have their names below `domain`, with IPv6.
    #[must_use]
    pub fn new(domain: &str) -> Self {
        let domain = domain.trim_matches('.').to_ascii_lowercase();
        Self {
            suffix: format!(".svc.{domain}"),
            domain: domain.split('.').map(str::to_owned).collect(),
            ipv6: true,
            preferred_namespace: None,
        }
    }
}

/// An answer of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The message to send back.
    pub bytes: Vec<u8>,
    /// How many addresses it holds, before truncation.
    pub endpoints: usize,
}

/// The mesh's answer to a query of `client`; `None` when others have to be asked.
///
/// Only addresses are answered: other types of a known name, such as SRV, are left to the cluster's own server, which
/// knows the ports' names.
pub fn answer<R: Rng + ?Sized>(
    view: &View,
    settings: &Settings,
    client: &Workload,
    query: &Query,
    random: &mut R,
) -> Option<Answer> {
    let is_wanted: fn(&IpAddr) -> bool = match query.record_type() {
        RecordType::A => IpAddr::is_ipv4,
        RecordType::AAAA => IpAddr::is_ipv6,
        _ => return None,
    };
    if query.question().query_class() != DNSClass::IN {
        return None;
    }
    let labels = host_labels(query.name())?;
    let (alias, service) = find(view, settings, client, &labels)?;
    let mut addresses = addresses(view, client, &service, is_wanted);
    addresses.retain(|ip| service.ip_families.accepts(*ip) && (settings.ipv6 || ip.is_ipv4()));
    addresses.shuffle(random);
    let records = records(query, &alias, &service, &addresses)?;
    Some(Answer { bytes: query.success(records), endpoints: addresses.len() })
}

/// The labels of a host name, lower case; `None` for names that no host can have.
fn host_labels(name: &Name) -> Option<Vec<String>> {
    let is_plain = |label: &[u8]| label.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.');
    let labels: Option<Vec<String>> =
        name.iter().map(|label| is_plain(label).then(|| String::from_utf8_lossy(label).to_ascii_lowercase())).collect();
    labels.filter(|labels| !labels.is_empty())
}

/// The first meaning of the name that is a service; for each an exact host name goes before wildcards.
fn find(view: &View, settings: &Settings, client: &Workload, labels: &[String]) -> Option<(Alias, Arc<Service>)> {
    // Without an address of its own, a name from outside the cluster is better known to others.
    let is_candidate =
        |service: &Service| !service.vips.is_empty() || has_suffix(service.hostname.as_str(), &settings.suffix);
    let look_up = |host: &str| {
        let preferred = settings.preferred_namespace.as_deref();
        view.service_by_hostname_if(host, Some(&client.namespace), preferred, is_candidate)
    };
    let aliases = names::aliases(labels, &client.namespace, &settings.domain);
    aliases.into_iter().find_map(|alias| {
        let found = look_up(&alias.host).or_else(|| names::wildcards(&alias.host).find_map(|host| look_up(&host)));
        found.map(|service| (alias, service))
    })
}

fn has_suffix(host: &str, suffix: &str) -> bool {
    let tail = host.len().checked_sub(suffix.len()).and_then(|start| host.get(start..));
    tail.is_some_and(|tail| tail.eq_ignore_ascii_case(suffix))
}

/// The virtual addresses in the client's network, or those of the endpoints of a service that has none at all.
fn addresses(view: &View, client: &Workload, service: &Service, is_wanted: fn(&IpAddr) -> bool) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = if service.vips.is_empty() {
        let endpoints = view.endpoints(&service.key());
        let healthy = endpoints.iter().filter(|endpoint| service.accepts(endpoint));
        healthy.filter_map(|endpoint| endpoint.addresses.iter().copied().find(is_wanted)).collect()
    } else {
        let near = service.vips.iter().filter(|vip| vip.network == client.network);
        near.map(|vip| vip.address).filter(is_wanted).collect()
    };
    // Endpoints on the host's network share its address.
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// The addresses belong to the queried name, or to the one that is left without search domain, which is then an alias.
fn records(query: &Query, alias: &Alias, service: &Service, addresses: &[IpAddr]) -> Option<Vec<Record>> {
    let mut records = Vec::with_capacity(addresses.len() + 1);
    let mut owner = query.name().clone();
    let is_wildcard = service.hostname.as_str().starts_with('*');
    if let Some(length) = alias.stripped_to.filter(|_| !is_wildcard) {
        let mut stripped = Name::from_labels(query.name().iter().take(length)).ok()?;
        stripped.set_fqdn(true);
        records.push(Record::from_rdata(owner, TTL, RData::CNAME(CNAME(stripped.clone()))));
        owner = stripped;
    }
    records.extend(addresses.iter().map(|ip| Record::from_rdata(owner.clone(), TTL, RData::from(*ip))));
    Some(records)
}
