//! The node proxy's configuration.

mod dns;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::{
    CompliancePolicy, ConfigError, Cpus, LogFormat, Lookup, ProxyConfig, RootSource, ServerAddress, Threads, Token,
    Value, duration_text, table,
};

pub use dns::Dns;

/// What the node proxy is told; serialized it is the `config` of a configuration dump, without secrets.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ztunnel {
    /// Who and where the proxy itself is.
    pub own: Own,
    /// The discovery server; absent means no discovery.
    pub xds: Option<ControlEndpoint>,
    /// Ask for workloads and services one by one.
    pub on_demand: bool,
    /// The certificate authority's server.
    pub ca: ControlEndpoint,
    /// The ServiceAccount token.
    pub token: Token,
    /// The lifetime that is asked for certificates.
    #[serde(serialize_with = "duration")]
    pub secret_ttl: Duration,
    /// Revocation lists that peers are checked against.
    pub revocation_lists: Option<PathBuf>,
    /// Sign certificates inside the process.
    pub fake_ca: bool,
    /// Serve pods.
    pub serves_pods: bool,
    /// Allow TLS 1.2 towards the control plane.
    pub control_plane_tls12: bool,
    /// Restricts cryptography.
    pub compliance_policy: Option<CompliancePolicy>,
    /// Sockets inside pods.
    pub in_pod: InPod,
    /// Name lookups of pods.
    pub dns: Dns,
    /// HBONE parameters.
    pub http2: Http2,
    /// Keep-alives on TCP connections; absent means none.
    pub keepalive: Option<Keepalive>,
    /// Describe the destination in the answer to CONNECT.
    pub response_baggage: bool,
    /// Hand connections between two pods of the node over inside the process.
    pub same_node_handover: bool,
    /// Reach applications that want a PROXY header on loopback.
    pub local_application_tunnel: bool,
    /// Log policy decisions at level info.
    pub authorization_info_log: bool,
    /// Threads that carry connections.
    pub worker_threads: usize,
    /// How long connections may go on after a termination signal.
    #[serde(serialize_with = "duration")]
    pub drain_deadline: Duration,
    /// Filter and layout of the log.
    pub log: Log,
    /// The proxy's own ports.
    pub ports: Ports,
    /// Variables that are set and not honoured, with what happens instead.
    pub not_honoured: Vec<(&'static str, &'static str)>,
}

/// Who and where the proxy itself is.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Own {
    /// The node; absent means that workloads of any node are served.
    pub node_name: Option<String>,
    /// The network of the node.
    pub network: String,
    /// The cluster.
    pub cluster_id: String,
    /// Its own pod.
    pub pod_name: String,
    /// Its own pod's namespace.
    pub pod_namespace: String,
    /// Its own pod's ServiceAccount.
    pub service_account: String,
    /// Its own pod's address.
    pub instance_ip: IpAddr,
    /// Further node metadata for the discovery server.
    pub metadata: BTreeMap<String, serde_json::Value>,
}

/// A control-plane server and how it is proven.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlEndpoint {
    /// Where it is.
    pub address: ServerAddress,
    /// The roots that prove it.
    pub root: RootSource,
    /// The name its certificate must have, if not the host of the address.
    pub alternative_name: Option<String>,
    /// Metadata on every call; values are not shown in a dump.
    #[serde(serialize_with = "header_names")]
    pub headers: Vec<(String, String)>,
}

/// Sockets inside pods.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InPod {
    /// The node agent's socket.
    pub socket: PathBuf,
    /// The mark on every socket.
    pub mark: u32,
    /// SO_REUSEPORT on listeners.
    pub reuse_port: bool,
    /// Keep the client's address towards the application; absent means where the kernel permits it.
    pub original_source: Option<bool>,
    /// Listen on both families.
    pub ipv6: bool,
    /// Serve SOCKS on the loopback address.
    pub socks: bool,
}

/// HBONE parameters.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Http2 {
    /// Streams on one pooled connection.
    pub pool_max_streams: u16,
    /// How long the pool keeps an idle connection.
    #[serde(serialize_with = "duration")]
    pub pool_unused_release: Duration,
    /// Window of a stream in bytes.
    pub stream_window: u32,
    /// Window of a connection in bytes.
    pub connection_window: u32,
    /// Largest frame in bytes.
    pub frame_size: u32,
}

/// TCP keep-alives.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Keepalive {
    /// Idle time before the first.
    #[serde(serialize_with = "duration")]
    pub time: Duration,
    /// Time between two.
    #[serde(serialize_with = "duration")]
    pub interval: Duration,
    /// How many may stay unanswered.
    pub retries: u32,
    /// TCP_USER_TIMEOUT, if asked for.
    #[serde(serialize_with = "optional_duration")]
    pub user_timeout: Option<Duration>,
}

/// Filter and layout of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Log {
    /// The filter.
    pub filter: String,
    /// The layout.
    pub format: LogFormat,
}

/// The proxy's own ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ports {
    /// The admin interface, on loopback.
    pub admin: u16,
    /// Metrics.
    pub stats: u16,
    /// Readiness.
    pub readiness: u16,
}

impl Ztunnel {
    /// Reads the knobs.
    ///
    /// # Errors
    /// When a value is malformed or asks for something less secure if left out.
    pub fn from(lookup: &Lookup) -> Result<Self, ConfigError> {
        refuse_unsupported(lookup)?;
        let proxy = ProxyConfig::read(lookup)?;
        let dns = Dns::read(lookup, &proxy)?;
        let on_demand = table::XDS_ON_DEMAND.read(lookup)?;
        if on_demand && !dns.listen.is_empty() {
            return Err(ConfigError::Unsupported {
                name: table::XDS_ON_DEMAND.name,
                found: "true".to_owned(),
                reason: "name lookups are answered from what is known, so that ISTIO_META_DNS_CAPTURE must be false",
            });
        }
        Ok(Self {
            own: own(lookup, &proxy)?,
            xds: xds(lookup, &proxy)?,
            on_demand,
            ca: ca(lookup)?,
            token: token(lookup)?,
            secret_ttl: table::SECRET_TTL.read(lookup)?,
            revocation_lists: table::CRL_PATH.read(lookup)?,
            fake_ca: table::FAKE_CA.read(lookup)?,
            serves_pods: table::ENABLE_PROXY.read(lookup)?,
            control_plane_tls12: table::TLS12_ENABLED.read(lookup)?,
            compliance_policy: table::COMPLIANCE_POLICY.read(lookup)?,
            in_pod: in_pod(lookup)?,
            dns,
            http2: http2(lookup)?,
            keepalive: keepalive(lookup)?,
            response_baggage: table::ENABLE_RESPONSE_BAGGAGE.read(lookup)?,
            same_node_handover: table::SAME_NODE_HANDOVER.read(lookup)?,
            local_application_tunnel: table::LOCALHOST_APP_TUNNEL.read(lookup)?,
            authorization_info_log: table::AUTHZ_POLICY_INFO_LOGGING.read(lookup)?,
            worker_threads: worker_threads(lookup, proxy.concurrency)?,
            drain_deadline: drain_deadline(lookup)?,
            log: Log::read(lookup)?,
            ports: Ports {
                admin: proxy.proxy_admin_port.unwrap_or(15000),
                stats: proxy.stats_port.unwrap_or(15020),
                readiness: 15021,
            },
            not_honoured: table::NOT_HONOURED
                .iter()
                .filter(|(name, _)| lookup.variable(name).is_some_and(|value| !value.is_empty()))
                .copied()
                .collect(),
        })
    }
}

impl Log {
    /// Reads `RUST_LOG` and `LOG_FORMAT`.
    ///
    /// # Errors
    /// When the layout is unknown; the filter is checked by whoever applies it.
    pub fn read(lookup: &Lookup) -> Result<Self, ConfigError> {
        let filter = table::RUST_LOG.read(lookup)?;
        let filter = if filter.is_empty() { table::RUST_LOG.default.to_owned() } else { filter };
        Ok(Self { filter, format: table::LOG_FORMAT.read(lookup)? })
    }
}

fn refuse_unsupported(lookup: &Lookup) -> Result<(), ConfigError> {
    if table::COMPLIANCE_POLICY.read(lookup)?.is_some() && table::TLS12_ENABLED.read(lookup)? {
        return Err(ConfigError::Unsupported {
            name: table::TLS12_ENABLED.name,
            found: "true".to_owned(),
            reason: "TLS 1.2 has no post-quantum key exchange, which COMPLIANCE_POLICY demands",
        });
    }
    match table::PROXY_MODE.read(lookup)?.as_str() {
        "shared" => Ok(()),
        found => Err(ConfigError::malformed("PROXY_MODE", found, "shared")),
    }
}

fn own(lookup: &Lookup, proxy: &ProxyConfig) -> Result<Own, ConfigError> {
    Ok(Own {
        node_name: table::NODE_NAME.read(lookup)?,
        network: table::NETWORK.read(lookup)?,
        cluster_id: cluster_id(lookup)?,
        pod_name: table::POD_NAME.read(lookup)?,
        pod_namespace: table::POD_NAMESPACE.read(lookup)?,
        service_account: table::SERVICE_ACCOUNT.read(lookup)?,
        instance_ip: table::INSTANCE_IP.read(lookup)?,
        metadata: metadata(lookup, proxy)?,
    })
}

fn metadata(lookup: &Lookup, proxy: &ProxyConfig) -> Result<BTreeMap<String, serde_json::Value>, ConfigError> {
    let text = |(name, value): (&str, &str)| (name.to_owned(), serde_json::Value::from(value));
    let mut metadata: BTreeMap<_, _> = proxy.proxy_metadata.iter().map(|(name, value)| text((name, value))).collect();
    metadata.extend(lookup.family("ISTIO_META_").map(text));
    for (name, value) in lookup.family("ISTIO_METAJSON_") {
        let json = serde_json::from_str(value).map_err(|error| ConfigError::Document {
            name: format!("ISTIO_METAJSON_{name}"),
            reason: error.to_string(),
        })?;
        metadata.insert(name.to_owned(), json);
    }
    Ok(metadata)
}

pub(crate) fn cluster_id(lookup: &Lookup) -> Result<String, ConfigError> {
    match table::ISTIO_META_CLUSTER_ID.read(lookup)? {
        Some(id) => Ok(id),
        None => table::CLUSTER_ID.read(lookup),
    }
}

fn xds(lookup: &Lookup, proxy: &ProxyConfig) -> Result<Option<ControlEndpoint>, ConfigError> {
    let address = match (lookup.variable(table::XDS_ADDRESS.name), &proxy.discovery_address) {
        (Some(_), _) => table::XDS_ADDRESS.read(lookup)?,
        (None, Some(text)) => {
            let address = ServerAddress::parse(text);
            Some(address.map_err(|expected| ConfigError::malformed("discoveryAddress", text, expected))?)
        }
        (None, None) => Some(default_server(lookup)),
    };
    let Some(address) = address else { return Ok(None) };
    Ok(Some(ControlEndpoint {
        address,
        root: RootSource::new(&table::XDS_ROOT_CA.read(lookup)?),
        alternative_name: table::ALT_XDS_HOSTNAME.read(lookup)?,
        headers: headers(lookup, "XDS_HEADER_"),
    }))
}

fn ca(lookup: &Lookup) -> Result<ControlEndpoint, ConfigError> {
    Ok(ControlEndpoint {
        address: table::CA_ADDRESS.read(lookup)?.unwrap_or_else(|| default_server(lookup)),
        root: RootSource::new(&table::CA_ROOT_CA.read(lookup)?),
        alternative_name: table::ALT_CA_HOSTNAME.read(lookup)?,
        headers: headers(lookup, "CA_HEADER_"),
    })
}

fn default_server(lookup: &Lookup) -> ServerAddress {
    let in_cluster = lookup.variable("KUBERNETES_SERVICE_HOST").is_some_and(|host| !host.is_empty());
    let host = if in_cluster { "aquifer.aquifer-system.svc" } else { "localhost" };
    ServerAddress { tls: true, host: host.to_owned(), port: 15012 }
}

/// Header names are lower-cased: HTTP/2 has no others.
fn headers(lookup: &Lookup, prefix: &str) -> Vec<(String, String)> {
    lookup.family(prefix).map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect()
}

fn token(lookup: &Lookup) -> Result<Token, ConfigError> {
    let text = table::AUTH_TOKEN.read(lookup)?;
    let is_default = lookup.variable(table::AUTH_TOKEN.name).is_none();
    if is_default && !Path::new(&text).exists() {
        return Ok(Token::None);
    }
    Ok(Token::new(&text))
}

fn in_pod(lookup: &Lookup) -> Result<InPod, ConfigError> {
    Ok(InPod {
        socket: table::INPOD_UDS.read(lookup)?,
        mark: table::PACKET_MARK.read(lookup)?,
        reuse_port: table::INPOD_PORT_REUSE.read(lookup)?,
        original_source: table::ENABLE_ORIG_SRC.read(lookup)?,
        ipv6: table::IPV6_ENABLED.read(lookup)?,
        socks: table::UNSTABLE_ENABLE_SOCKS5.read(lookup)?,
    })
}

fn http2(lookup: &Lookup) -> Result<Http2, ConfigError> {
    // RFC 9113: windows reach 2^31-1, frames from 2^14 to 2^24-1.
    let window = |knob: &crate::Knob<u32>| match knob.read(lookup)? {
        size @ 65_535..=0x7fff_ffff => Ok(size),
        size => Err(ConfigError::malformed(knob.name, size.to_string(), "a window from 65535 to 2147483647 bytes")),
    };
    Ok(Http2 {
        pool_max_streams: match table::POOL_MAX_STREAMS_PER_CONNECTION.read(lookup)? {
            0 => return Err(ConfigError::malformed(table::POOL_MAX_STREAMS_PER_CONNECTION.name, "0", "at least 1")),
            streams => streams,
        },
        pool_unused_release: table::POOL_UNUSED_RELEASE_TIMEOUT.read(lookup)?,
        stream_window: window(&table::HTTP2_STREAM_WINDOW_SIZE)?,
        connection_window: window(&table::HTTP2_CONNECTION_WINDOW_SIZE)?,
        frame_size: match table::HTTP2_FRAME_SIZE.read(lookup)? {
            size @ 0x4000..=0x00ff_ffff => size,
            size => {
                let name = table::HTTP2_FRAME_SIZE.name;
                return Err(ConfigError::malformed(name, size.to_string(), "a size from 16384 to 16777215 bytes"));
            }
        },
    })
}

fn keepalive(lookup: &Lookup) -> Result<Option<Keepalive>, ConfigError> {
    let time = table::KEEPALIVE_TIME.read(lookup)?;
    let interval = table::KEEPALIVE_INTERVAL.read(lookup)?;
    let retries = table::KEEPALIVE_RETRIES.read(lookup)?;
    let user_timeout =
        table::USER_TIMEOUT_ENABLED.read(lookup)?.then(|| time.saturating_add(interval.saturating_mul(retries)));
    let is_enabled = table::KEEPALIVE_ENABLED.read(lookup)?;
    Ok(is_enabled.then_some(Keepalive { time, interval, retries, user_timeout }))
}

fn worker_threads(lookup: &Lookup, concurrency: Option<usize>) -> Result<usize, ConfigError> {
    let limit = table::ZTUNNEL_RESOURCE_CPU_LIMIT.read(lookup)?;
    let Cpus(request) = table::ZTUNNEL_RESOURCE_CPU_REQUEST.read(lookup)?.unwrap_or(Cpus(0));
    let cpus = table::ZTUNNEL_CPU_LIMIT.read(lookup)?.filter(|cpus| *cpus > 0).unwrap_or_else(|| lookup.cpus().get());
    let concurrency = concurrency.map(|count| if count == 0 { Threads::All } else { Threads::Count(count) });
    let threads = match (table::ZTUNNEL_WORKER_THREADS.read(lookup)?.or(concurrency), limit) {
        (Some(Threads::All), _) => cpus,
        (Some(Threads::Count(count)), _) => count,
        (Some(Threads::Percent(percent)), _) => (cpus * percent).div_ceil(100),
        (None, Some(Cpus(limit))) => limit.max(request),
        (None, None) => cpus.div_ceil(4).max(request).max(2),
    };
    Ok(threads.max(1))
}

pub(crate) fn drain_deadline(lookup: &Lookup) -> Result<Duration, ConfigError> {
    let deadline = table::CONNECTION_TERMINATION_DEADLINE.read(lookup)?;
    let grace = table::TERMINATION_GRACE_PERIOD_SECONDS.read(lookup)?;
    Ok(match (deadline, grace) {
        (Some(deadline), _) => deadline,
        (None, Some(grace)) => Duration::from_secs(if grace > 10 { grace - 5 } else { grace.saturating_sub(1).max(1) }),
        (None, None) => Duration::from_secs(5),
    })
}

fn duration<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&duration_text(*value))
}

#[expect(clippy::ref_option, reason = "serde hands the field by reference")]
fn optional_duration<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(duration_text).serialize(serializer)
}

fn header_names<S: Serializer>(headers: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(headers.iter().map(|(name, _)| name))
}

#[cfg(test)]
mod tests;
