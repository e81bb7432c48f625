//! Ports of services and what they map to.

use std::sync::Arc;

/// A port of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Port {
    /// The port that clients connect to.
    pub service_port: u16,
    /// The port that the workload listens on; 0 when only the endpoint knows, as with named target ports.
    pub target_port: u16,
    /// What is spoken on it.
    pub app_protocol: AppProtocol,
}

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AppProtocol {
    /// Not said.
    #[default]
    Unknown,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
    /// gRPC.
    Grpc,
    /// Plain TCP.
    Tcp,
    /// TLS of the application.
    Tls,
}

/// Ports by service port; a clone shares them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PortMap(Arc<[Port]>);

impl PortMap {
    /// The port that clients know by this number.
    #[must_use]
    pub fn port(&self, service_port: u16) -> Option<&Port> {
        let index = self.0.binary_search_by_key(&service_port, |port| port.service_port).ok()?;
        self.0.get(index)
    }

    /// Where a service port leads; `None` when it is not listed or the number is not known here.
    #[must_use]
    pub fn target(&self, service_port: u16) -> Option<u16> {
        self.port(service_port).map(|port| port.target_port).filter(|target| *target != 0)
    }

    /// All ports, sorted by service port.
    pub fn iter(&self) -> impl Iterator<Item = &Port> {
        self.0.iter()
    }

    /// Whether no other clone is left.
    pub(crate) fn is_last_reference(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Whether there is no port.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for PortMap {
    fn default() -> Self {
        Self(Arc::from([]))
    }
}

impl FromIterator<Port> for PortMap {
    /// Of several ports with the same service port the last one stays.
    fn from_iter<T: IntoIterator<Item = Port>>(ports: T) -> Self {
        let mut ports: Vec<Port> = ports.into_iter().collect();
        ports.reverse();
        ports.sort_by_key(|port| port.service_port);
        ports.dedup_by_key(|port| port.service_port);
        Self(Arc::from(ports))
    }
}
