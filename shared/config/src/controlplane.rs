//! The control plane's configuration.

use std::time::Duration;

use types::{Cidr, NamespacedName, TrustDomain};

use crate::ztunnel::{Log, cluster_id, drain_deadline};
use crate::{ConfigError, Knob, Lookup, table};

/// What the control plane is told.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    /// The cluster's id.
    pub cluster_id: String,
    /// The domain below which Services have their names.
    pub cluster_domain: String,
    /// The trust domain of the mesh.
    pub trust_domain: TrustDomain,
    /// The namespace of its own pod.
    pub pod_namespace: String,
    /// The namespace whose objects apply to the whole mesh.
    pub root_namespace: String,
    /// The port of discovery and certificates.
    pub xds_port: u16,
    /// The port of metrics and readiness.
    pub monitoring_port: u16,
    /// Serve discovery without authentication on 127.0.0.1:15010.
    pub plaintext_xds: bool,
    /// Further names in the server's certificate.
    pub server_names: Vec<String>,
    /// Audiences of which a token must have one.
    pub token_audiences: Vec<String>,
    /// ServiceAccounts that may ask for their node's workloads.
    pub trusted_node_accounts: Vec<NamespacedName>,
    /// Lifetime of a certificate when the request names none.
    pub default_certificate_ttl: Duration,
    /// Longest lifetime of a certificate.
    pub max_certificate_ttl: Duration,
    /// Lifetime of a root of its own making.
    pub root_ttl: Duration,
    /// How long a change waits for others.
    pub debounce_after: Duration,
    /// The longest that changes are held back.
    pub debounce_max: Duration,
    /// Send dry-run policies to the node proxies.
    pub dry_run_policies: bool,
    /// Where assigned IPv4 addresses are taken from.
    pub assigned_v4: Cidr,
    /// Where assigned IPv6 addresses are taken from.
    pub assigned_v6: Cidr,
    /// How long calls may go on after a termination signal.
    pub drain_deadline: Duration,
    /// Filter and layout of the log.
    pub log: Log,
}

impl ControlPlane {
    /// Reads the knobs.
    ///
    /// # Errors
    /// When a value is malformed.
    pub fn from(lookup: &Lookup) -> Result<Self, ConfigError> {
        Ok(Self {
            cluster_id: cluster_id(lookup)?,
            cluster_domain: table::CLUSTER_DOMAIN.read(lookup)?,
            trust_domain: table::TRUST_DOMAIN.read(lookup)?,
            pod_namespace: table::POD_NAMESPACE.read(lookup)?,
            root_namespace: table::ROOT_NAMESPACE.read(lookup)?,
            xds_port: table::XDS_PORT.read(lookup)?,
            monitoring_port: table::MONITORING_PORT.read(lookup)?,
            plaintext_xds: table::PLAINTEXT_XDS.read(lookup)?,
            server_names: table::SERVER_NAMES.read(lookup)?,
            token_audiences: table::TOKEN_AUDIENCES.read(lookup)?,
            trusted_node_accounts: trusted_accounts(lookup)?,
            default_certificate_ttl: table::DEFAULT_WORKLOAD_CERT_TTL.read(lookup)?,
            max_certificate_ttl: table::MAX_WORKLOAD_CERT_TTL.read(lookup)?,
            root_ttl: table::SELF_SIGNED_CA_TTL.read(lookup)?,
            debounce_after: table::PILOT_DEBOUNCE_AFTER.read(lookup)?,
            debounce_max: table::PILOT_DEBOUNCE_MAX.read(lookup)?,
            dry_run_policies: table::AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY.read(lookup)?,
            assigned_v4: range(lookup, &table::PILOT_IP_AUTOALLOCATE_IPV4_PREFIX, |range| range.address().is_ipv4())?,
            assigned_v6: range(lookup, &table::PILOT_IP_AUTOALLOCATE_IPV6_PREFIX, |range| range.address().is_ipv6())?,
            drain_deadline: drain_deadline(lookup)?,
            log: Log::read(lookup)?,
        })
    }
}

fn range(lookup: &Lookup, knob: &Knob<Cidr>, is_meant: fn(&Cidr) -> bool) -> Result<Cidr, ConfigError> {
    let range = knob.read(lookup)?;
    let expected = "a range of the variable's IP family";
    if is_meant(&range) { Ok(range) } else { Err(ConfigError::malformed(knob.name, range.to_string(), expected)) }
}

fn trusted_accounts(lookup: &Lookup) -> Result<Vec<NamespacedName>, ConfigError> {
    let knob = &table::CA_TRUSTED_NODE_ACCOUNTS;
    let parse = |text: String| {
        let account = text.parse();
        account.map_err(|error: types::ParseError| ConfigError::malformed(knob.name, text, error.expected))
    };
    knob.read(lookup)?.into_iter().map(parse).collect()
}
