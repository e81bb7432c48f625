//! What an Envoy is told at its start.

use std::path::Path;

use serde_json::{Value, json};

/// Everything that Envoy logs of a connection or a stream.
const LOG: &str = "peer=%DOWNSTREAM_PEER_URI_SAN% server=%UPSTREAM_PEER_URI_SAN% authority=%REQ(:AUTHORITY)% \
                   code=%RESPONSE_CODE% flags=%RESPONSE_FLAGS% details=%RESPONSE_CODE_DETAILS% \
                   failure=%UPSTREAM_TRANSPORT_FAILURE_REASON% in=%BYTES_RECEIVED% out=%BYTES_SENT% \
                   local=%DOWNSTREAM_LOCAL_ADDRESS% upstream=%UPSTREAM_HOST% baggage=%REQ(BAGGAGE)% \
                   forwarded=%REQ(FORWARDED)%\n";

/// The metadata and filter that carry where a connection was going.
const ORIGINAL_DESTINATION: &str = "envoy.filters.listener.original_dst";

/// What comes in at one address leaves through a tunnel to another: both `address:port`.
#[derive(Debug, Clone)]
pub(crate) struct Relay {
    pub(crate) from: String,
    pub(crate) to: String,
}

/// What an Envoy is to do besides ending tunnels on port 15008 and connecting to what they ask for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    /// Connections to addresses of the pod, carried on through tunnels: a gateway.
    pub(crate) listeners: Vec<Relay>,
    /// Tunnels that ask for the first address, carried on through tunnels: a waypoint.
    pub(crate) services: Vec<Relay>,
    /// The identity whose tunnels are refused.
    pub(crate) denied: Option<&'static str>,
}

impl Plan {
    /// The file that Envoy starts with; `credentials` is the folder with its certificate.
    pub(crate) fn bootstrap(&self, credentials: &Path) -> Value {
        let mut clusters = vec![
            originate_cluster(credentials),
            local_cluster(),
            internal_cluster("main_internal", "main_internal", None),
        ];
        let mut listeners = vec![originate_listener(), terminate_listener(credentials, self.denied)];
        for relay in &self.listeners {
            clusters.push(internal_cluster(&relay.from, "connect_originate", Some(&relay.to)));
            listeners.push(json!({
                "name": relay.from, "address": address(&relay.from),
                "filter_chains": [{"filters": [tcp_proxy("gateway", &relay.from, json!({}))]}],
            }));
        }
        let mut chains = Vec::new();
        for relay in &self.services {
            clusters.push(internal_cluster(&relay.from, "connect_originate", Some(&relay.to)));
            let (ip, port) = halves(&relay.from);
            let range = json!({"address_prefix": ip, "prefix_len": 32});
            chains.push(json!({
                "filter_chain_match": {"prefix_ranges": [range], "destination_port": port},
                "filters": [tcp_proxy("waypoint", &relay.from, json!({}))],
            }));
        }
        let others = json!({"filters": [tcp_proxy("inbound", "local", json!({}))]});
        let main = json!({"filter_chains": chains, "default_filter_chain": others});
        listeners.push(merged(internal_listener("main_internal"), main));
        json!({
            "admin": {"address": address("127.0.0.1:15000")},
            "bootstrap_extensions": [extension(
                "envoy.bootstrap.internal_listener", "bootstrap.internal_listener.v3.InternalListener", json!({}),
            )],
            "static_resources": {"listeners": listeners, "clusters": clusters},
        })
    }
}

/// Ends tunnels: mutual TLS, HTTP/2, CONNECT; what was asked for becomes the destination of an inner connection.
fn terminate_listener(credentials: &Path, denied: Option<&str>) -> Value {
    let destination = json!({
        "object_key": format!("{ORIGINAL_DESTINATION}.local_ip"), "shared_with_upstream": "ONCE",
        "format_string": {"text_format_source": {"inline_string": "%REQ(:AUTHORITY)%"}},
    });
    let refusal = denied.map(|denied| {
        let who = json!({"authenticated": {"principal_name": {"exact": denied}}});
        let policies = json!({"denied": {"permissions": [{"any": true}], "principals": [who]}});
        let rules = json!({"rules": {"action": "DENY", "policies": policies}});
        extension("envoy.filters.http.rbac", "filters.http.rbac.v3.RBAC", rules)
    });
    let rest = [
        extension("authority", "filters.http.set_filter_state.v3.Config", json!({"on_request_headers": [destination]})),
        extension("envoy.filters.http.router", "filters.http.router.v3.Router", json!({})),
    ];
    let filters: Vec<Value> = refusal.into_iter().chain(rest).collect();
    let upgrades = json!([{"upgrade_type": "CONNECT", "connect_config": {}}]);
    let route = json!({
        "match": {"connect_matcher": {}}, "route": {"cluster": "main_internal", "upgrade_configs": upgrades},
    });
    let manager = extension(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "connect_terminate", "codec_type": "HTTP2", "stream_idle_timeout": "0s",
            "access_log": [log("terminate")],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
            "http_filters": filters,
            "http2_protocol_options": {
                "allow_connect": true, "max_concurrent_streams": 100,
                "connection_keepalive": {"interval": "10s", "timeout": "20s"},
            },
            "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        }),
    );
    let tls = tls(credentials, "DownstreamTlsContext", json!({"require_client_certificate": true}));
    json!({
        "name": "connect_terminate", "address": address("0.0.0.0:15008"),
        "filter_chains": [{"filters": [manager], "transport_socket": tls}],
    })
}

/// Begins tunnels: the destination of an inner connection is what is asked for.
fn originate_listener() -> Value {
    let tunnel = json!({"tunneling_config": {"hostname": "%DOWNSTREAM_LOCAL_ADDRESS%"}});
    let chain = json!({"filters": [tcp_proxy("originate", "connect_originate", tunnel)]});
    merged(internal_listener("connect_originate"), json!({"filter_chains": [chain]}))
}

/// The node proxy, or whoever else ends tunnels, at a destination's address.
fn originate_cluster(credentials: &Path) -> Value {
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    json!({
        "name": "connect_originate", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "10s",
        "original_dst_lb_config": {"upstream_port_override": 15008},
        "typed_extension_protocol_options": {options: {
            "@type": format!("type.googleapis.com/{options}"),
            "explicit_http_config": {"http2_protocol_options": {"allow_connect": true}},
        }},
        "transport_socket": tls(credentials, "UpstreamTlsContext", json!({})),
    })
}

/// The application itself.
fn local_cluster() -> Value {
    json!({"name": "local", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "5s"})
}

/// A listener inside the process, told where its connections go.
fn internal_cluster(name: &str, listener: &str, destination: Option<&str>) -> Value {
    let inner = json!({"server_listener_name": listener, "endpoint_id": name});
    let mut endpoint = json!({"endpoint": {"address": {"envoy_internal_address": inner}}});
    let raw = extension("raw_buffer", "transport_sockets.raw_buffer.v3.RawBuffer", json!({}));
    let mut socket = json!({"transport_socket": raw});
    if let Some(destination) = destination {
        endpoint["metadata"] = json!({"filter_metadata": {ORIGINAL_DESTINATION: {"local": destination}}});
        socket["passthrough_metadata"] = json!([{"kind": {"host": {}}, "name": ORIGINAL_DESTINATION}]);
    }
    let kind = "transport_sockets.internal_upstream.v3.InternalUpstreamTransport";
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "transport_socket": extension("internal_upstream", kind, socket),
    })
}

fn internal_listener(name: &str) -> Value {
    let filter = extension(ORIGINAL_DESTINATION, "filters.listener.original_dst.v3.OriginalDst", json!({}));
    json!({"name": name, "internal_listener": {}, "listener_filters": [filter]})
}

fn tcp_proxy(what: &str, cluster: &str, more: Value) -> Value {
    let fields = json!({"stat_prefix": what, "cluster": cluster, "access_log": [log(what)]});
    extension("envoy.filters.network.tcp_proxy", "filters.network.tcp_proxy.v3.TcpProxy", merged(fields, more))
}

fn log(what: &str) -> Value {
    let line = json!({"text_format_source": {"inline_string": format!("{what}: {LOG}")}});
    let kind = "access_loggers.stream.v3.StdoutAccessLog";
    extension("envoy.access_loggers.stdout", kind, json!({"log_format": line}))
}

/// TLS as the mesh has it: version 1.3, HTTP/2, both sides with an identity of the trust domain.
fn tls(credentials: &Path, kind: &str, more: Value) -> Value {
    let file = |name| json!({"filename": credentials.join(name).display().to_string()});
    let names = json!({"san_type": "URI", "matcher": {"prefix": "spiffe://cluster.local/"}});
    let common = json!({"common_tls_context": {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "alpn_protocols": ["h2"],
        "tls_certificates": [{"certificate_chain": file("chain.pem"), "private_key": file("key.pem")}],
        "validation_context": {"trusted_ca": file("root.pem"), "match_typed_subject_alt_names": [names]},
    }});
    extension("tls", &format!("transport_sockets.tls.v3.{kind}"), merged(common, more))
}

fn extension(name: &str, kind: &str, fields: Value) -> Value {
    let kind = json!({"@type": format!("type.googleapis.com/envoy.extensions.{kind}")});
    json!({"name": name, "typed_config": merged(kind, fields)})
}

fn address(text: &str) -> Value {
    let (ip, port) = halves(text);
    json!({"socket_address": {"address": ip, "port_value": port}})
}

fn halves(text: &str) -> (&str, u16) {
    let (ip, port) = text.rsplit_once(':').unwrap();
    (ip, port.parse().unwrap())
}

fn merged(mut fields: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("{more} is no object") };
    fields.as_object_mut().unwrap().extend(more);
    fields
}
