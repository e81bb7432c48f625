//! The node agent's configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use crate::ztunnel::Log;
use crate::{ConfigError, EnablementSelector, Lookup, mesh, table};

/// What the node agent is told.
#[derive(Debug, Clone)]
pub struct Node {
    /// The node whose pods it looks after.
    pub node_name: String,
    /// The namespace of the mesh's own components.
    pub system_namespace: String,
    /// Where it listens for the node proxy.
    pub socket: PathBuf,
    /// Holds a pod's network namespace under the pod's UID.
    pub netns_dir: Option<PathBuf>,
    /// Namespaces whose pods are never captured.
    pub exclude_namespaces: Vec<String>,
    /// A pod is captured if one of these matches.
    pub enablement: Vec<EnablementSelector>,
    /// Capture IPv6 as well.
    pub ipv6: bool,
    /// Capture name lookups, unless a pod says otherwise.
    pub dns_capture: bool,
    /// Source address of health probes inside pods, IPv4.
    pub probe_source_v4: Ipv4Addr,
    /// Source address of health probes inside pods, IPv6.
    pub probe_source_v6: Ipv6Addr,
    /// The port of metrics.
    pub monitoring_port: u16,
    /// The port of `/healthz` and `/readyz`.
    pub health_port: u16,
    /// How long un-enrolment waits for the control plane.
    pub leaving_timeout: Duration,
    /// The CNI plugin; absent where it is not to be installed.
    pub plugin: Option<Plugin>,
    /// Filter and layout of the log.
    pub log: Log,
}

/// How the CNI plugin is installed.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// The host's network configurations, as the agent sees them.
    pub network_dir: PathBuf,
    /// The host's plugins, as the agent sees them.
    pub binary_dir: PathBuf,
    /// Socket and kubeconfig.
    pub run_dir: PathBuf,
    /// Where the agent sees the host's root directory.
    pub host_root: PathBuf,
    /// Pods of which nobody can say whether they belong into the mesh do not start.
    pub fails_closed: bool,
    /// The agent's own pod, by which it knows whether it is being taken away for good.
    pub own_pod: String,
    /// The namespace of that pod.
    pub own_namespace: String,
    /// The API server for the plugin's kubeconfig, as every pod of a cluster is told it.
    pub api_server: Option<String>,
}

impl Node {
    /// Reads the knobs.
    ///
    /// # Errors
    /// When a value is malformed, or `NODE_NAME` is absent.
    pub fn from(lookup: &Lookup) -> Result<Self, ConfigError> {
        let missing =
            ConfigError::Missing { name: "NODE_NAME", expected: "the name of the node that the agent runs on" };
        Ok(Self {
            node_name: table::NODE_NAME.read(lookup)?.ok_or(missing)?,
            system_namespace: table::SYSTEM_NAMESPACE.read(lookup)?,
            socket: table::ZTUNNEL_UDS_ADDRESS.read(lookup)?,
            netns_dir: table::POD_NETNS_DIR.read(lookup)?,
            exclude_namespaces: table::EXCLUDE_NAMESPACES.read(lookup)?,
            enablement: enablement(lookup)?,
            ipv6: table::AMBIENT_IPV6.read(lookup)?,
            dns_capture: table::AMBIENT_DNS_CAPTURE.read(lookup)?,
            probe_source_v4: match table::HOST_PROBE_SNAT_IP.read(lookup)? {
                IpAddr::V4(ip) => ip,
                ip @ IpAddr::V6(_) => return Err(wrong_family("HOST_PROBE_SNAT_IP", ip, "an IPv4 address")),
            },
            probe_source_v6: match table::HOST_PROBE_SNAT_IPV6.read(lookup)? {
                IpAddr::V6(ip) => ip,
                ip @ IpAddr::V4(_) => return Err(wrong_family("HOST_PROBE_SNAT_IPV6", ip, "an IPv6 address")),
            },
            monitoring_port: table::MONITORING_PORT.read(lookup)?,
            health_port: table::HEALTH_PORT.read(lookup)?,
            leaving_timeout: table::LEAVING_TIMEOUT.read(lookup)?,
            plugin: Plugin::read(lookup)?,
            log: Log::read(lookup)?,
        })
    }
}

impl Plugin {
    fn read(lookup: &Lookup) -> Result<Option<Self>, ConfigError> {
        let Some(network_dir) = table::MOUNTED_CNI_NET_DIR.read(lookup)? else { return Ok(None) };
        Ok(Some(Self {
            network_dir,
            binary_dir: table::MOUNTED_CNI_BIN_DIR.read(lookup)?,
            run_dir: table::CNI_AGENT_RUN_DIR.read(lookup)?,
            host_root: table::CNI_HOST_ROOT.read(lookup)?,
            fails_closed: table::ENABLE_AMBIENT_DETECTION_RETRY.read(lookup)?,
            own_pod: table::POD_NAME.read(lookup)?,
            own_namespace: table::POD_NAMESPACE.read(lookup)?,
            api_server: api_server(lookup),
        }))
    }
}

fn api_server(lookup: &Lookup) -> Option<String> {
    let host = lookup.variable("KUBERNETES_SERVICE_HOST").filter(|host| !host.is_empty())?;
    let port = lookup.variable("KUBERNETES_SERVICE_PORT").unwrap_or("443");
    // An IPv6 address needs brackets before a port.
    Some(if host.contains(':') { format!("https://[{host}]:{port}") } else { format!("https://{host}:{port}") })
}

fn wrong_family(name: &str, ip: IpAddr, expected: &str) -> ConfigError {
    ConfigError::malformed(name, ip.to_string(), expected)
}

fn enablement(lookup: &Lookup) -> Result<Vec<EnablementSelector>, ConfigError> {
    match table::AMBIENT_ENABLEMENT_SELECTOR.read(lookup)? {
        Some(text) => mesh::yaml(table::AMBIENT_ENABLEMENT_SELECTOR.name, &text),
        None => Ok(EnablementSelector::defaults()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_needs_its_nodes_name() {
        let error = Node::from(&Lookup::from_iter([("POD_NAME", "aquifer-node-1")])).unwrap_err();
        assert!(error.to_string().starts_with("NODE_NAME is not set"), "{error}");
    }

    #[test]
    fn the_enablement_rule_is_yaml() {
        let yaml = "- podSelector:\n    matchExpressions:\n    - {key: mesh, operator: Exists}\n";
        let node = Node::from(&Lookup::from_iter([("NODE_NAME", "n"), ("AMBIENT_ENABLEMENT_SELECTOR", yaml)])).unwrap();
        let labels = std::collections::BTreeMap::from([("mesh".to_owned(), String::new())]);
        assert!(node.enablement[0].matches(&labels, &Default::default()));
        assert!(!node.enablement[0].matches(&Default::default(), &Default::default()));
    }

    #[test]
    fn the_plugin_is_installed_where_the_hosts_networks_are_mounted() {
        assert!(Node::from(&Lookup::from_iter([("NODE_NAME", "n")])).unwrap().plugin.is_none());
        let lookup = Lookup::from_iter([("NODE_NAME", "n"), ("MOUNTED_CNI_NET_DIR", "/host/etc/cni/net.d")]);
        let plugin = Node::from(&lookup).unwrap().plugin.unwrap();
        assert!(plugin.fails_closed);
        assert_eq!(plugin.run_dir, PathBuf::from("/var/run/aquifer-cni"));
    }

    #[test]
    fn a_misspelt_enablement_rule_is_refused() {
        let lookup = Lookup::from_iter([("NODE_NAME", "n"), ("AMBIENT_ENABLEMENT_SELECTOR", "- podSelektor: {}")]);
        let error = Node::from(&lookup).unwrap_err().to_string();
        assert!(error.contains("AMBIENT_ENABLEMENT_SELECTOR") && error.contains("podSelektor"), "{error}");
    }
}
