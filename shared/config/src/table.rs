//! The table of knobs: what a user can set, in the order in which the documentation shows it.
//!
//! To add a knob, add a row here and read it in the component's structure; `docs/configuration.md` follows.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use types::{Cidr, TrustDomain};

use crate::knob::Component::{ControlPlane, Node, Ztunnel};
use crate::{CompliancePolicy, Cpus, Knob, LogFormat, Row, ServerAddress, Threads, Value};

macro_rules! knobs {
    ($($section:literal {
        $($(#[doc = $doc:literal])+ $name:ident: $kind:ty = $default:literal $unit:literal [$($component:ident)+];)+
    })+) => {
        $($($(#[doc = $doc])+ pub const $name: Knob<$kind> = Knob::new(stringify!($name), $default);)+)+

        /// Every knob that has a fixed name.
        pub const TABLE: &[Row] = &[$($(Row {
            section: $section,
            name: stringify!($name),
            kind: <$kind as Value>::KIND,
            unit: $unit,
            default: $default,
            doc: concat!($($doc),+),
            components: &[$($component),+],
        },)+)+];

        /// Reads the default of every knob; a test calls it, so that a default that does not parse cannot be shipped.
        #[cfg(test)]
        pub(crate) fn read_all(lookup: &crate::Lookup) -> Result<(), crate::ConfigError> {
            $($($name.read(lookup)?;)+)+
            Ok(())
        }
    };
}

knobs! {
    "Identity and place" {
        /// The node that the process runs on.
        /// ztunnel serves only workloads of this node and prefers endpoints by it; the node agent watches its pods.
        NODE_NAME: Option<String> = "" "" [Ztunnel Node];
        /// The network of the node.
        NETWORK: String = "" "" [Ztunnel];
        /// The cluster, sent as metadata `clusterid`.
        ISTIO_META_CLUSTER_ID: Option<String> = "" "" [Ztunnel ControlPlane];
        /// The cluster when `ISTIO_META_CLUSTER_ID` is not set.
        CLUSTER_ID: String = "Kubernetes" "" [Ztunnel ControlPlane];
        /// The domain below which Services have their names.
        CLUSTER_DOMAIN: String = "cluster.local" "" [Ztunnel ControlPlane];
        /// The trust domain of the mesh.
        TRUST_DOMAIN: TrustDomain = "cluster.local" "" [ControlPlane];
        /// The name of the component's own pod.
        POD_NAME: String = "" "" [Ztunnel Node];
        /// The namespace of the component's own pod.
        POD_NAMESPACE: String = "aquifer-system" "" [Ztunnel ControlPlane Node];
        /// The ServiceAccount of the component's own pod.
        SERVICE_ACCOUNT: String = "" "" [Ztunnel];
        /// The address of the component's own pod, part of its name towards the control plane.
        INSTANCE_IP: IpAddr = "1.1.1.1" "" [Ztunnel];
        /// The namespace whose objects apply to the whole mesh.
        ROOT_NAMESPACE: String = "istio-system" "" [ControlPlane];
    }
    "Control plane connection" {
        /// Where discovery is served; `https://` is assumed, `http://` means no TLS, the empty text turns discovery off.
        /// Without it: `discoveryAddress` of the proxy configuration, then `https://aquifer.aquifer-system.svc:15012`
        /// inside a cluster and `https://localhost:15012` outside.
        XDS_ADDRESS: Option<ServerAddress> = "" "" [Ztunnel];
        /// Where certificates are signed; the defaults are those of `XDS_ADDRESS` without `discoveryAddress`.
        CA_ADDRESS: Option<ServerAddress> = "" "" [Ztunnel];
        /// Asks for workloads and services when a connection needs them, instead of having them all.
        /// Names cannot be answered without knowing them all: `ISTIO_META_DNS_CAPTURE` must be off.
        XDS_ON_DEMAND: bool = "false" "" [Ztunnel];
        /// Roots that prove the discovery server: a file (read again at each connect), `SYSTEM`, or PEM text.
        XDS_ROOT_CA: String = "./var/run/secrets/istio/root-cert.pem" "" [Ztunnel];
        /// Roots that prove the certificate authority's server, in the same forms.
        CA_ROOT_CA: String = "./var/run/secrets/istio/root-cert.pem" "" [Ztunnel];
        /// The name that the discovery server's certificate must have, if not the host of its address.
        ALT_XDS_HOSTNAME: Option<String> = "" "" [Ztunnel];
        /// The name that the certificate authority's server certificate must have, if not the host of its address.
        ALT_CA_HOSTNAME: Option<String> = "" "" [Ztunnel];
        /// The ServiceAccount token: a file (read again at each call) or the token itself.
        /// An absent file of the default name means no token.
        AUTH_TOKEN: String = "./var/run/secrets/tokens/istio-token" "" [Ztunnel];
        /// The lifetime that is asked for workload certificates.
        SECRET_TTL: Duration = "24h" "" [Ztunnel];
        /// Revocation lists (PEM or DER) that HBONE peers are checked against, looked at again every two seconds.
        /// The file may come later; unset means that revocation is not looked at.
        CRL_PATH: Option<PathBuf> = "" "" [Ztunnel];
        /// Signs certificates inside the process instead of asking the control plane: for tests of one node alone.
        FAKE_CA: bool = "false" "" [Ztunnel];
        /// Allows TLS 1.2 on connections to the control plane; HBONE is TLS 1.3 always.
        TLS12_ENABLED: bool = "false" "" [Ztunnel];
        /// Restricts the key exchange of HBONE and of connections to the control plane to X25519MLKEM768.
        /// Peers without it are not reached; it excludes `TLS12_ENABLED`.
        COMPLIANCE_POLICY: Option<CompliancePolicy> = "" "" [Ztunnel];
    }
    "Data path" {
        /// Serves pods; `false` means discovery and the proxy's own ports alone.
        ENABLE_PROXY: bool = "true" "" [Ztunnel];
        /// Only `shared` (one proxy per node) exists in this release.
        PROXY_MODE: String = "shared" "" [Ztunnel];
        /// Listens on both IP families; `false` means IPv4 alone.
        IPV6_ENABLED: bool = "true" "" [Ztunnel];
        /// The mark on every socket that the proxy opens; the redirection rules let marked packets pass.
        /// Connections to an application that our node agent has captured have the mark that leads answers back, 0x111.
        PACKET_MARK: u32 = "1337" "" [Ztunnel];
        /// The node agent's socket.
        INPOD_UDS: PathBuf = "/var/run/ztunnel/ztunnel.sock" "" [Ztunnel];
        /// Sets SO_REUSEPORT on listeners inside pods, so that two proxies overlap during an upgrade.
        INPOD_PORT_REUSE: bool = "true" "" [Ztunnel];
        /// Keeps the client's address on connections to the application; unset means where the kernel permits it.
        ENABLE_ORIG_SRC: Option<bool> = "" "" [Ztunnel];
        /// Streams on one pooled HBONE connection, unless the peer allows fewer.
        POOL_MAX_STREAMS_PER_CONNECTION: u16 = "100" "streams" [Ztunnel];
        /// How long the pool keeps a connection that carries no stream. `0s`: it ends with its last stream.
        POOL_UNUSED_RELEASE_TIMEOUT: Duration = "5m" "" [Ztunnel];
        /// Flow-control window of one HBONE stream; a bulk stream gets less of it while others on its connection are quick.
        HTTP2_STREAM_WINDOW_SIZE: u32 = "4194304" "bytes" [Ztunnel];
        /// Flow-control window of one HBONE connection.
        HTTP2_CONNECTION_WINDOW_SIZE: u32 = "16777216" "bytes" [Ztunnel];
        /// The largest frame that the proxy accepts, from 16384 to 16777215.
        HTTP2_FRAME_SIZE: u32 = "1048576" "bytes" [Ztunnel];
        /// Sends TCP keep-alives.
        KEEPALIVE_ENABLED: bool = "true" "" [Ztunnel];
        /// Idle time before the first keep-alive.
        KEEPALIVE_TIME: Duration = "180s" "" [Ztunnel];
        /// Time between keep-alives.
        KEEPALIVE_INTERVAL: Duration = "180s" "" [Ztunnel];
        /// Unanswered keep-alives after which a connection is dead.
        KEEPALIVE_RETRIES: u32 = "9" "" [Ztunnel];
        /// Sets TCP_USER_TIMEOUT to time + interval × retries of the keep-alives.
        USER_TIMEOUT_ENABLED: bool = "false" "" [Ztunnel];
        /// Describes the destination workload in the answer to CONNECT.
        ENABLE_RESPONSE_BAGGAGE: bool = "true" "" [Ztunnel];
        /// Serves SOCKS 5 (CONNECT without login) on 127.0.0.1:15080 inside pods, for outgoing connections.
        UNSTABLE_ENABLE_SOCKS5: bool = "false" "" [Ztunnel];
        /// Reaches an application that wants a PROXY header on loopback instead of the pod's address.
        LOCALHOST_APP_TUNNEL: bool = "true" "" [Ztunnel];
        /// Hands connections between two captured pods of the node over inside the process, without a tunnel.
        /// Policy, access log and metrics of both sides stay; `false` means HBONE there too.
        SAME_NODE_HANDOVER: bool = "true" "" [Ztunnel];
        /// Logs policy decisions at level info instead of debug.
        AUTHZ_POLICY_INFO_LOGGING: bool = "false" "" [Ztunnel];
    }
    "Name lookups" {
        /// Answers the name lookups of captured pods; anything but `true` (in any case) turns it off.
        /// Without it: `DNS_CAPTURE` of the proxy metadata, then on.
        ISTIO_META_DNS_CAPTURE: Option<String> = "" "" [Ztunnel];
        /// Where lookups are answered inside pods, over UDP and TCP: `localhost:<port>`, which is both loopback
        /// addresses, or an IP address with a port. The redirection rules lead to port 15053 of the loopback addresses.
        /// Without it: `DNS_PROXY_ADDR` of the proxy metadata, then `localhost:15053`.
        ISTIO_META_DNS_PROXY_ADDR: Option<String> = "" "" [Ztunnel];
        /// The namespace that is preferred where several define a host name and none is the client's or canonical.
        PREFERED_SERVICE_NAMESPACE: Option<String> = "" "" [Ztunnel];
        /// Redirects the name lookups of captured pods to the node proxy, where it answers them.
        /// The annotation `ambient.istio.io/dns-capture` on a pod overrides it.
        AMBIENT_DNS_CAPTURE: bool = "true" "" [Node];
    }
    "Threads and shutdown" {
        /// Worker threads: a count, `0` for one per CPU, or a share of the CPUs in percent.
        /// Without it: `concurrency` of the proxy configuration, then a rule.
        /// With a CPU limit the rule takes the larger of limit and request,
        /// otherwise the largest of 2, the request and a quarter of the CPUs.
        ZTUNNEL_WORKER_THREADS: Option<Threads> = "" "" [Ztunnel];
        /// The container's CPU limit.
        ZTUNNEL_RESOURCE_CPU_LIMIT: Option<Cpus> = "" "" [Ztunnel];
        /// The container's CPU request.
        ZTUNNEL_RESOURCE_CPU_REQUEST: Option<Cpus> = "" "" [Ztunnel];
        /// The number of CPUs that percentages and the rule count with; the machine's if unset.
        ZTUNNEL_CPU_LIMIT: Option<usize> = "" "CPUs" [Ztunnel];
        /// How long connections may go on after a termination signal.
        CONNECTION_TERMINATION_DEADLINE: Option<Duration> = "" "" [Ztunnel ControlPlane];
        /// The pod's grace period, from which the deadline follows if not given: 5 s less if over 10, else 1 s less,
        /// at least 1 s; 5 s if neither is set.
        TERMINATION_GRACE_PERIOD_SECONDS: Option<u64> = "" "seconds" [Ztunnel ControlPlane];
    }
    "Logs" {
        /// The log filter: a level, `target=level` clauses, or both, separated by commas.
        RUST_LOG: String = "info" "" [Ztunnel ControlPlane Node];
        /// The layout of log lines.
        LOG_FORMAT: LogFormat = "plain" "" [Ztunnel ControlPlane Node];
    }
    "Control plane" {
        /// The port of discovery and certificates, with TLS.
        XDS_PORT: u16 = "15012" "" [ControlPlane];
        /// The port of metrics and readiness.
        MONITORING_PORT: u16 = "15014" "" [ControlPlane Node];
        /// Serves discovery without authentication on 127.0.0.1:15010, for debugging.
        PLAINTEXT_XDS: bool = "false" "" [ControlPlane];
        /// Host names in the server's certificate, besides those of its Service.
        SERVER_NAMES: Vec<String> = "istiod.istio-system.svc" "" [ControlPlane];
        /// Audiences of which a ServiceAccount token must have one.
        TOKEN_AUDIENCES: Vec<String> = "istio-ca" "" [ControlPlane];
        /// ServiceAccounts, as `namespace/name`, that may ask for certificates of the workloads on their node.
        CA_TRUSTED_NODE_ACCOUNTS: Vec<String> = "aquifer-system/ztunnel" "" [ControlPlane];
        /// The lifetime of a workload certificate when the request names none.
        DEFAULT_WORKLOAD_CERT_TTL: Duration = "24h" "" [ControlPlane];
        /// The longest lifetime of a workload certificate.
        MAX_WORKLOAD_CERT_TTL: Duration = "2160h" "" [ControlPlane];
        /// The lifetime of a root that the control plane makes for itself.
        SELF_SIGNED_CA_TTL: Duration = "87600h" "" [ControlPlane];
        /// How long a change waits for others before it is pushed.
        PILOT_DEBOUNCE_AFTER: Duration = "10ms" "" [ControlPlane];
        /// The longest that a stream of changes is held back.
        PILOT_DEBOUNCE_MAX: Duration = "100ms" "" [ControlPlane];
        /// Sends dry-run policies to the node proxies, which log their verdicts.
        AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY: bool = "false" "" [ControlPlane];
        /// Where the IPv4 addresses of ServiceEntries that give none are taken from.
        PILOT_IP_AUTOALLOCATE_IPV4_PREFIX: Cidr = "240.240.0.0/16" "" [ControlPlane];
        /// Where the IPv6 addresses of ServiceEntries that give none are taken from.
        PILOT_IP_AUTOALLOCATE_IPV6_PREFIX: Cidr = "2001:2::/48" "" [ControlPlane];
    }
    "Node agent" {
        /// Where the agent listens for the node proxy.
        ZTUNNEL_UDS_ADDRESS: PathBuf = "/var/run/ztunnel/ztunnel.sock" "" [Node];
        /// A directory that holds a pod's network namespace under the pod's UID;
        /// without it the agent looks through /proc for the pod's processes.
        POD_NETNS_DIR: Option<PathBuf> = "" "" [Node];
        /// Namespaces whose pods are never captured.
        EXCLUDE_NAMESPACES: Vec<String> = "kube-system" "" [Node];
        /// The namespace of the mesh's own components.
        SYSTEM_NAMESPACE: String = "aquifer-system" "" [Node];
        /// Which pods are captured: a YAML list of `podSelector` and `namespaceSelector`.
        /// Without it: the label `istio.io/dataplane-mode=ambient` on the pod, or on its namespace unless the pod says
        /// `none`.
        AMBIENT_ENABLEMENT_SELECTOR: Option<String> = "" "" [Node];
        /// Captures IPv6 as well.
        AMBIENT_IPV6: bool = "true" "" [Node];
        /// The source address that health probes have inside pods, IPv4.
        HOST_PROBE_SNAT_IP: IpAddr = "169.254.7.127" "" [Node];
        /// The source address that health probes have inside pods, IPv6.
        HOST_PROBE_SNAT_IPV6: IpAddr = "fd16:9254:7127:1337:ffff:ffff:ffff:ffff" "" [Node];
        /// The port of `/healthz` and `/readyz`.
        HEALTH_PORT: u16 = "8000" "" [Node];
        /// How long un-enrolment waits for the control plane to tell every client.
        LEAVING_TIMEOUT: Duration = "2s" "" [Node];
        /// Where the agent sees the directory of the host's network configurations (`/etc/cni/net.d`).
        /// Without it the CNI plugin is not installed, and new pods are captured a moment after they have started.
        MOUNTED_CNI_NET_DIR: Option<PathBuf> = "" "" [Node];
        /// Where the agent sees the directory of the host's CNI plugins (`/opt/cni/bin`), for the plugin's binary.
        MOUNTED_CNI_BIN_DIR: PathBuf = "/host/opt/cni/bin" "" [Node];
        /// The directory of the CNI plugin's socket and kubeconfig; it has the same path on the host.
        CNI_AGENT_RUN_DIR: PathBuf = "/var/run/aquifer-cni" "" [Node];
        /// What to put before the paths of network namespaces that the CNI plugin tells, which are the host's.
        CNI_HOST_ROOT: PathBuf = "/host" "" [Node];
        /// Refuses to start pods of which neither the agent nor the Kubernetes API can say whether they belong into the
        /// mesh; `false` starts them outside of it, to be captured once the agent is back.
        ENABLE_AMBIENT_DETECTION_RETRY: bool = "true" "" [Node];
    }
}

/// Families of variables: a prefix, and the rest of the name as part of the value.
pub const FAMILIES: &[Row] = &[
    family("XDS_HEADER_<NAME>", "Metadata `<NAME>` on every call to the discovery server."),
    family("CA_HEADER_<NAME>", "Metadata `<NAME>` on every call to the certificate authority."),
    family("ISTIO_META_<NAME>", "Node metadata `<NAME>`, text."),
    family("ISTIO_METAJSON_<NAME>", "Node metadata `<NAME>`, a JSON value."),
    family(
        "PROXY_CONFIG",
        "YAML with `discoveryAddress`, `proxyAdminPort` (15000), `statsPort` (15020), `concurrency` and \
         `proxyMetadata`; it goes before `defaultConfig` in the file ./etc/istio/config/mesh.",
    ),
];

const fn family(name: &'static str, doc: &'static str) -> Row {
    Row { section: "Families", name, kind: "text", unit: "", default: "", doc, components: &[Ztunnel] }
}

/// Variables of other node proxies that this release does not honour, with what it does instead.
///
/// The component names those that are set in one warning at start; where ignoring would weaken security it refuses.
pub const NOT_HONOURED: &[(&str, &str)] = &[
    ("LOCAL_XDS_PATH", "discovery comes from the control plane alone"),
    ("LOCAL_XDS", "discovery comes from the control plane alone"),
];

/// Variables that installations of other meshes set, and that ask for nothing that is not so anyhow; with the reason.
pub const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("INPOD_ENABLED", "pods are served through their own network namespaces, always"),
    ("PROXY_WORKLOAD_INFO", "it names the one pod of a dedicated proxy, which there is not"),
    ("TRUST_DOMAIN (ztunnel)", "the node proxy has no identity of its own; those of pods come with discovery"),
    ("AMBIENT_ENABLED, PILOT_ENABLE_AMBIENT", "there is no other mode"),
    ("NATIVE_NFTABLES", "redirection rules are made with nf_tables, always"),
];
