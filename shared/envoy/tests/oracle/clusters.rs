//! Random clusters.

use std::net::SocketAddr;
use std::num::NonZeroU32;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::common_lb_config::{
    LocalityConfigSpecifier, LocalityWeightedLbConfig,
};
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    CommonLbConfig, LbConfig, LbPolicy, MaglevLbConfig, RingHashLbConfig,
};
use envoy_types::pb::envoy::config::core::v3::Locality as Place;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, HealthStatus, Metadata, SocketAddress, address};
use envoy_types::pb::envoy::config::endpoint::v3::cluster_load_assignment::Policy as Overprovisioning;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint as Host, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::{Duration as Span, Struct, UInt32Value, UInt64Value, Value, value::Kind};
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use routing::{BalancePolicy, Balancing, Endpoint, Endpoints, Health, Locality, Priority, RingSizes, TableSize};

/// A policy of Envoy's, and what configures it.
pub(crate) type Policy = (LbPolicy, Option<LbConfig>);

/// Some of these servers, with priorities, places, weights and health.
pub(crate) fn endpoints(random: &mut SmallRng, servers: &[SocketAddr]) -> Endpoints {
    let mut servers = servers.to_vec();
    servers.shuffle(random);
    servers.truncate(random.random_range(3..=servers.len()));
    let some_are_down = random.random_bool(0.4);
    let mut priorities = vec![Priority::default(); if random.random_bool(0.3) { 2 } else { 1 }];
    for (number, part) in servers.chunks(random.random_range(1..5)).enumerate() {
        let endpoints = part.iter().map(|server| Endpoint {
            weight: NonZeroU32::new(*[1, 1, 2, 3, 10].choose(random).unwrap()).unwrap(),
            health: if some_are_down { health(random) } else { Health::Healthy },
            hash_key: random.random_bool(0.1).then(|| format!("key-{}", server.port()).into()),
            ..Endpoint::new(&server.to_string())
        });
        let endpoints = endpoints.collect();
        let weight = *[0, 1, 2, 5].choose(random).unwrap();
        let zone = ((number * 5) % 8).to_string().into();
        let place = number % priorities.len();
        priorities[place].localities.push(Locality { zone, weight, endpoints, ..Locality::default() });
    }
    // Envoy takes no number without those before it.
    priorities.retain(|priority| !priority.localities.is_empty());
    Endpoints {
        priorities,
        overprovisioning: *[140, 140, 100, 200].choose(random).unwrap(),
        weighs_health: random.random_bool(0.3),
    }
}

fn health(random: &mut SmallRng) -> Health {
    *[Health::Healthy, Health::Healthy, Health::Degraded, Health::Unhealthy].choose(random).unwrap()
}

/// All policies that do not hash, and what Envoy calls them, with and without shares of localities.
pub(crate) fn turns() -> Vec<(Balancing, Policy)> {
    let policies = [
        (BalancePolicy::RoundRobin { slow_start: None }, LbPolicy::RoundRobin),
        (BalancePolicy::LeastRequest { choices: 2, active_bias: 1.0, slow_start: None }, LbPolicy::LeastRequest),
        (BalancePolicy::Random, LbPolicy::Random),
    ];
    let balancing = |policy, weighs_localities| Balancing { policy, weighs_localities, ..Balancing::default() };
    let both = policies
        .into_iter()
        .flat_map(|(policy, wire)| [false, true].map(|weighs| (balancing(policy.clone(), weighs), (wire, None))));
    both.collect()
}

/// Consistent hashing of some kind, and what Envoy calls its policy.
pub(crate) fn hashing(random: &mut SmallRng) -> (Balancing, Policy) {
    let (policy, wire) = match random.random_range(0..6) {
        0 => ring(None, None),
        1 => ring(Some(random.random_range(1..5000)), None),
        2 => {
            let maximum = random.random_range(1..200);
            ring(Some(random.random_range(1..=maximum)), Some(maximum))
        }
        3 => (BalancePolicy::Maglev(TableSize::default()), (LbPolicy::Maglev, None)),
        _ => maglev(*[2, 7, 17, 251, 4099].choose(random).unwrap()),
    };
    let balancing = Balancing {
        policy,
        panic_threshold: *[50, 50, 0, 100].choose(random).unwrap(),
        weighs_localities: random.random_bool(0.3),
    };
    (balancing, wire)
}

fn ring(minimum: Option<u32>, maximum: Option<u32>) -> (BalancePolicy, Policy) {
    let size = |size: Option<u32>| size.map(|size| UInt64Value { value: size.into() });
    let config = RingHashLbConfig {
        minimum_ring_size: size(minimum),
        maximum_ring_size: size(maximum),
        ..RingHashLbConfig::default()
    };
    let sizes = RingSizes::new(minimum, maximum).unwrap();
    (BalancePolicy::RingHash(sizes), (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(config))))
}

fn maglev(size: u32) -> (BalancePolicy, Policy) {
    let config = MaglevLbConfig { table_size: Some(UInt64Value { value: size.into() }) };
    let size = TableSize::new(size).unwrap();
    (BalancePolicy::Maglev(size), (LbPolicy::Maglev, Some(LbConfig::MaglevLbConfig(config))))
}

/// A cluster of Envoy's.
pub(crate) fn cluster(name: &str, balancing: &Balancing, policy: &Policy, endpoints: &Endpoints) -> Cluster {
    let weighing = LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {});
    let common = CommonLbConfig {
        healthy_panic_threshold: Some(Percent { value: balancing.panic_threshold.into() }),
        locality_config_specifier: balancing.weighs_localities.then_some(weighing),
        ..CommonLbConfig::default()
    };
    Cluster {
        name: name.to_owned(),
        connect_timeout: Some(Span { seconds: 5, nanos: 0 }),
        lb_policy: policy.0.into(),
        lb_config: policy.1.clone(),
        common_lb_config: Some(common),
        load_assignment: Some(assignment(name, endpoints)),
        ..Cluster::default()
    }
}

fn assignment(name: &str, endpoints: &Endpoints) -> ClusterLoadAssignment {
    let policy = Overprovisioning {
        overprovisioning_factor: Some(UInt32Value { value: endpoints.overprovisioning }),
        weighted_priority_health: endpoints.weighs_health,
        ..Overprovisioning::default()
    };
    let localities = (0_u32..).zip(&endpoints.priorities).flat_map(|(priority, level)| {
        level.localities.iter().map(move |locality| LocalityLbEndpoints {
            locality: Some(Place { zone: locality.zone.as_ref().to_owned(), ..Place::default() }),
            lb_endpoints: locality.endpoints.iter().map(endpoint).collect(),
            load_balancing_weight: (locality.weight > 0).then_some(UInt32Value { value: locality.weight }),
            priority,
            ..LocalityLbEndpoints::default()
        })
    });
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: localities.collect(),
        policy: Some(policy),
        ..ClusterLoadAssignment::default()
    }
}

fn endpoint(endpoint: &Endpoint) -> LbEndpoint {
    let address: SocketAddr = endpoint.key.parse().unwrap();
    let socket = SocketAddress {
        address: address.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
        ..SocketAddress::default()
    };
    let address = Some(Address { address: Some(address::Address::SocketAddress(socket)) });
    let health = match endpoint.health {
        Health::Healthy => HealthStatus::Healthy,
        Health::Degraded => HealthStatus::Degraded,
        Health::Unhealthy => HealthStatus::Unhealthy,
    };
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Host { address, ..Host::default() })),
        health_status: health.into(),
        load_balancing_weight: Some(UInt32Value { value: endpoint.weight.get() }),
        metadata: endpoint.hash_key.as_deref().map(hash_key),
    }
}

/// Where Envoy looks for what stands for an endpoint.
fn hash_key(key: &str) -> Metadata {
    let value = Value { kind: Some(Kind::StringValue(key.to_owned())) };
    let fields = Struct { fields: [("hash_key".to_owned(), value)].into() };
    Metadata { filter_metadata: [("envoy.lb".to_owned(), fields)].into(), ..Metadata::default() }
}
