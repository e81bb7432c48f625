//! The label values of a connection.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use types::Identity;

/// The labels of a client that are always there, in the order of [`WorkloadLabels::values`].
pub(crate) const SOURCE: [&str; 8] = [
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
];

/// As [`SOURCE`], of a server.
pub(super) const DESTINATION: [&str; 8] = [
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_cluster",
];

/// Which side of the mesh counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The proxy of the client.
    Source,
    /// The proxy of the server.
    Destination,
}

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Security {
    /// Mutual TLS.
    MutualTls,
    /// Handed over inside the node; identities are proven by the network namespaces.
    SameNode,
    /// Not at all, as far as the mesh knows.
    Unknown,
}

/// Why a connection ended as it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResponseFlag {
    /// It did not fail, or a drain ended it.
    None,
    /// A policy denied it, at its start or later.
    Deny,
    /// The upstream could not be reached, or the connection broke.
    Connect,
    /// The TLS handshake failed.
    TlsFailure,
    /// The HTTP/2 handshake or protocol failed.
    H2HandshakeFailure,
    /// Connecting timed out in a way that hints at a network policy.
    NetworkPolicy,
    /// There was no certificate of one's own.
    IdentityError,
    /// The peer's certificate is revoked.
    CertRevoked,
}

/// What is known of a workload; an empty value is shown as `unknown`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct WorkloadLabels {
    /// The name of the workload (of the Deployment, not of the pod).
    pub workload: Arc<str>,
    /// The canonical service name.
    pub canonical_service: Arc<str>,
    /// The canonical revision.
    pub canonical_revision: Arc<str>,
    /// The namespace.
    pub namespace: Arc<str>,
    /// The identity, if mutual TLS has proven it.
    pub principal: Option<Identity>,
    /// The application.
    pub app: Arc<str>,
    /// The version.
    pub version: Arc<str>,
    /// The cluster.
    pub cluster: Arc<str>,
    /// The region of its locality.
    pub region: Arc<str>,
    /// The zone of its locality.
    pub zone: Arc<str>,
}

impl WorkloadLabels {
    /// The values of [`SOURCE`] or [`DESTINATION`], empty where they are not known.
    pub(crate) fn values(&self) -> [Cow<'_, str>; 8] {
        let principal = self.principal.as_ref().map(ToString::to_string).unwrap_or_default();
        [
            Cow::Borrowed(&*self.workload),
            Cow::Borrowed(&*self.canonical_service),
            Cow::Borrowed(&*self.canonical_revision),
            Cow::Borrowed(&*self.namespace),
            Cow::Owned(principal),
            Cow::Borrowed(&*self.app),
            Cow::Borrowed(&*self.version),
            Cow::Borrowed(&*self.cluster),
        ]
    }
}

/// A label's value as it is shown.
pub(crate) fn shown(value: &str) -> &str {
    if value.is_empty() { "unknown" } else { value }
}

/// The Service that was addressed; empty when none was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ServiceLabels {
    /// The host name.
    pub host: Arc<str>,
    /// The name.
    pub name: Arc<str>,
    /// The namespace.
    pub namespace: Arc<str>,
}

/// The label values of a workload, interned: comparing and hashing look at the address alone.
#[derive(Debug, Clone)]
pub struct Party(pub(super) Arc<WorkloadLabels>);

impl Party {
    /// The values.
    #[must_use]
    pub fn labels(&self) -> &WorkloadLabels {
        &self.0
    }
}

impl PartialEq for Party {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Party {}

impl Hash for Party {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// The label set of a connection, but for its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConnectionLabels {
    /// Which side counts.
    pub reporter: Reporter,
    /// The client.
    pub source: Party,
    /// The server.
    pub destination: Party,
    /// The Service that was addressed.
    pub service: ServiceLabels,
    /// How the connection is protected.
    pub security: Security,
}

impl ResponseFlag {
    /// The label's value.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::Deny => "DENY",
            Self::Connect => "CONNECT",
            Self::TlsFailure => "TLS_FAILURE",
            Self::H2HandshakeFailure => "H2_HANDSHAKE_FAILURE",
            Self::NetworkPolicy => "NETWORK_POLICY",
            Self::IdentityError => "IDENTITY_ERROR",
            Self::CertRevoked => "CERT_REVOKED",
        }
    }
}

impl Reporter {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

impl Security {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::MutualTls => "mutual_tls",
            Self::SameNode => "same_node",
            Self::Unknown => "unknown",
        }
    }
}
