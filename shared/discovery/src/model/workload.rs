//! Workloads.

use std::sync::Arc;

use types::{Hostname, Identity, NamespacedHostname, NamespacedName, NetworkAddress, TrustDomain, WorkloadUid};

use super::{Addresses, GatewayAddress, PortMap};

/// Something that connections come from and go to: a pod, a machine, an endpoint outside the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The primary key.
    pub uid: WorkloadUid,
    /// The name, a pod's for instance.
    pub name: Arc<str>,
    /// The namespace.
    pub namespace: Arc<str>,
    /// The addresses, in canonical form and in order of preference.
    pub addresses: Addresses,
    /// The name to resolve on demand when there are no addresses; empty if none.
    pub hostname: Hostname,
    /// The network that the addresses are in; empty for the default one.
    pub network: Arc<str>,
    /// How the workload is reached.
    pub protocol: Protocol,
    /// The mesh that vouches for the workload.
    pub trust_domain: TrustDomain,
    /// The service account.
    pub service_account: Arc<str>,
    /// The waypoint that connections to the workload's own addresses go through.
    pub waypoint: Option<Arc<GatewayAddress>>,
    /// The gateway of the workload's network, for sources in other networks.
    pub network_gateway: Option<Arc<GatewayAddress>>,
    /// The node that the workload runs on.
    pub node: Arc<str>,
    /// The application's name in telemetry.
    pub canonical_name: Arc<str>,
    /// The application's revision in telemetry.
    pub canonical_revision: Arc<str>,
    /// What kind of controller owns the workload.
    pub workload_type: WorkloadType,
    /// The owner's name.
    pub workload_name: Arc<str>,
    /// Whether the workload ends HBONE itself instead of leaving it to its node's proxy.
    pub native_tunnel: bool,
    /// Keys of the policies that select the workload.
    pub authorization_policies: Arc<[NamespacedName]>,
    /// Whether the workload should get connections for its services.
    pub health: Health,
    /// The cluster that the workload is in.
    pub cluster_id: Arc<str>,
    /// The services that the workload is an endpoint of, and its own ports for them.
    pub services: Arc<[(NamespacedHostname, PortMap)]>,
    /// How the application behind the proxy wants to be told about connections.
    pub application_tunnel: Option<ApplicationTunnel>,
    /// Where the workload is.
    pub locality: Arc<Locality>,
    /// Whether the addresses are the workload's alone.
    pub network_mode: NetworkMode,
    /// Its share of a service's connections, in relation to the other endpoints; 0 is never chosen.
    pub capacity: u32,
    /// The labels, if the control plane sends them (extension `aquifer.dev/labels`), sorted by key.
    pub labels: Option<Labels>,
}

/// What a workload does not have in common with others of its kind, the pods of one deployment for instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// See [`Workload::uid`].
    pub uid: WorkloadUid,
    /// See [`Workload::name`].
    pub name: Arc<str>,
    /// See [`Workload::addresses`].
    pub addresses: Addresses,
    /// See [`Workload::node`].
    pub node: Arc<str>,
    /// See [`Workload::locality`].
    pub locality: Arc<Locality>,
    /// See [`Workload::health`].
    pub health: Health,
}

/// Pairs of key and value, sorted by key; a clone shares them.
pub type Labels = Arc<[(Arc<str>, Arc<str>)]>;

impl Default for Workload {
    /// What the wire means where it says nothing.
    fn default() -> Self {
        Self {
            uid: WorkloadUid::default(),
            name: Arc::default(),
            namespace: Arc::default(),
            addresses: Addresses::default(),
            hostname: Hostname::default(),
            network: Arc::default(),
            protocol: Protocol::default(),
            trust_domain: TrustDomain::default(),
            service_account: Arc::from("default"),
            waypoint: None,
            network_gateway: None,
            node: Arc::default(),
            canonical_name: Arc::default(),
            canonical_revision: Arc::default(),
            workload_type: WorkloadType::default(),
            workload_name: Arc::default(),
            native_tunnel: false,
            authorization_policies: Arc::default(),
            health: Health::default(),
            cluster_id: Arc::from("Kubernetes"),
            services: Arc::default(),
            application_tunnel: None,
            locality: Arc::default(),
            network_mode: NetworkMode::default(),
            capacity: 1,
            labels: None,
        }
    }
}

impl Workload {
    /// A workload that is of the same kind as this one.
    #[must_use]
    pub fn with(&self, instance: Instance) -> Self {
        let Instance { uid, name, addresses, node, locality, health } = instance;
        Self { uid, name, addresses, node, locality, health, ..self.clone() }
    }

    /// Who the workload is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            trust_domain: self.trust_domain.clone(),
            namespace: Arc::clone(&self.namespace),
            service_account: Arc::clone(&self.service_account),
        }
    }

    /// The name under which the node's proxy looks its own pods up.
    #[must_use]
    pub fn local_name(&self) -> LocalName {
        LocalName {
            namespace: Arc::clone(&self.namespace),
            name: Arc::clone(&self.name),
            service_account: Arc::clone(&self.service_account),
        }
    }

    /// The namespace and host name by which waypoint references may mean the workload; `None` without a host name.
    #[must_use]
    pub fn named(&self) -> Option<NamespacedHostname> {
        let hostname = Some(&self.hostname).filter(|hostname| !hostname.as_str().is_empty())?;
        Some(NamespacedHostname { namespace: Arc::clone(&self.namespace), hostname: hostname.clone() })
    }

    /// The workload's own ports for a service; `None` when it is not an endpoint of it.
    #[must_use]
    pub fn ports(&self, service: &NamespacedHostname) -> Option<&PortMap> {
        self.services.iter().find(|(key, _)| key == service).map(|(_, ports)| ports)
    }

    /// The addresses by which the workload is found: none when they are its node's, not its own.
    pub fn indexed_addresses(&self) -> impl Iterator<Item = NetworkAddress> {
        let addresses = match self.network_mode {
            NetworkMode::Standard => &*self.addresses,
            NetworkMode::HostNetwork => &[],
        };
        addresses.iter().map(|address| NetworkAddress { network: Arc::clone(&self.network), address: *address })
    }

    /// Whether a proxy of the workload's node needs a certificate for it.
    #[must_use]
    pub fn needs_certificate(&self) -> bool {
        self.protocol == Protocol::Hbone || self.native_tunnel
    }
}

/// How a workload is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// As it is, without the mesh.
    #[default]
    Tcp,
    /// Through an HTTP/2 CONNECT tunnel over mTLS.
    Hbone,
}

/// What kind of controller owns a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WorkloadType {
    /// A Deployment.
    #[default]
    Deployment,
    /// A CronJob.
    CronJob,
    /// None: a pod by itself.
    Pod,
    /// A Job.
    Job,
}

impl WorkloadType {
    /// The lower-case name, as in baggage and dumps.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::CronJob => "cronjob",
            Self::Pod => "pod",
            Self::Job => "job",
        }
    }
}

/// Whether a workload should get connections for its services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Health {
    /// It should.
    #[default]
    Healthy,
    /// It is not ready or going away.
    Unhealthy,
}

/// Whether a workload's addresses are its alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NetworkMode {
    /// They are.
    #[default]
    Standard,
    /// They are those of its node and shared with others, so they do not identify it.
    HostNetwork,
}

/// How an application wants to be told about connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApplicationTunnel {
    /// What precedes the bytes of a connection.
    pub protocol: TunnelProtocol,
    /// The port of the application, instead of the one that was asked for.
    pub port: Option<u16>,
}

/// What precedes the bytes of a connection to an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TunnelProtocol {
    /// Nothing.
    #[default]
    None,
    /// A PROXY protocol header, version 2.
    Proxy,
}

/// Where a workload is; unknown parts are empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Locality {
    /// The region.
    pub region: Arc<str>,
    /// The zone inside the region.
    pub zone: Arc<str>,
    /// The part of the zone.
    pub subzone: Arc<str>,
}

/// The name under which a node's proxy looks its own pods up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalName {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The pod's name.
    pub name: Arc<str>,
    /// The service account.
    pub service_account: Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_stays_small() {
        // A hundred thousand of them are kept by every proxy of the mesh.
        let bytes = size_of::<Workload>();
        assert!(bytes <= 328, "{bytes}");
    }
}
