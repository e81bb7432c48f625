//! A waypoint: ends tunnels, reads the HTTP in them, and sends it on in tunnels of its own, configured as Istio's are:
//! listeners inside the process between the side of the tunnels and the side of HTTP.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::Reads;
use super::credentials::Credentials;
use super::parts::{
    address, as_downstream, bootstrap, bytes, cluster, extension, http, merged, no_limits, protocol, tls,
};

/// The metadata and filter that carry where a connection was going.
const ORIGINAL_DESTINATION: &str = "envoy.filters.listener.original_dst";

/// Where tunnels end.
const HBONE: u16 = 15008;

/// One port of a Service that the waypoint stands in front of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// What tunnels ask for.
    pub from: SocketAddr,
    /// The pod behind it.
    pub to: SocketAddr,
    /// What is read there.
    pub reads: Reads,
}

/// A waypoint in front of services.
#[must_use]
pub fn waypoint(services: &[Service], credentials: &Credentials) -> Value {
    let mut clusters =
        vec![originate_cluster(credentials), internal_cluster("main_internal", "main_internal", None, json!({}))];
    let mut chains = Vec::new();
    for Service { from, to, reads } in services {
        let name = from.to_string();
        let (filter, protocol) = match reads {
            Reads::Http => (http("waypoint", &name, json!({})), as_downstream()),
            Reads::Nothing => (bytes("waypoint", &name, json!({})), json!({})),
        };
        clusters.push(internal_cluster(&name, "connect_originate", Some(*to), protocol));
        let bits = if from.is_ipv4() { 32 } else { 128 };
        let range = json!({"address_prefix": from.ip().to_string(), "prefix_len": bits});
        chains.push(json!({
            "filter_chain_match": {"prefix_ranges": [range], "destination_port": from.port()}, "filters": [filter],
        }));
    }
    let main = merged(internal_listener("main_internal"), json!({"filter_chains": chains}));
    bootstrap(vec![terminate_listener(credentials), main, originate_listener()], clusters)
}

/// Ends tunnels: mutual TLS, HTTP/2, CONNECT; what was asked for becomes the destination of an inner connection.
fn terminate_listener(credentials: &Credentials) -> Value {
    let destination = json!({
        "object_key": format!("{ORIGINAL_DESTINATION}.local_ip"), "shared_with_upstream": "ONCE",
        "format_string": {"text_format_source": {"inline_string": "%REQ(:AUTHORITY)%"}},
    });
    let filters = [
        extension("authority", "filters.http.set_filter_state.v3.Config", json!({"on_request_headers": [destination]})),
        extension("envoy.filters.http.router", "filters.http.router.v3.Router", json!({})),
    ];
    let upgrades = json!([{"upgrade_type": "CONNECT", "connect_config": {}}]);
    let to = json!({"cluster": "main_internal", "upgrade_configs": upgrades, "timeout": "0s"});
    let route = json!({"match": {"connect_matcher": {}}, "route": to});
    let manager = http(
        "connect_terminate",
        "main_internal",
        json!({
            "codec_type": "HTTP2",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
            "http_filters": filters,
            "http2_protocol_options": {"allow_connect": true},
            "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        }),
    );
    let tls = with_h2(tls(credentials, "DownstreamTlsContext", json!({"require_client_certificate": true})));
    json!({
        "name": "connect_terminate", "address": address("0.0.0.0", HBONE),
        "filter_chains": [{"filters": [manager], "transport_socket": tls}],
    })
}

/// Begins tunnels: the destination of an inner connection is what is asked for.
fn originate_listener() -> Value {
    let tunnel = json!({"tunneling_config": {"hostname": "%DOWNSTREAM_LOCAL_ADDRESS%"}});
    let chain = json!({"filters": [bytes("originate", "connect_originate", tunnel)]});
    merged(internal_listener("connect_originate"), json!({"filter_chains": [chain]}))
}

/// The node proxy at a destination's address.
fn originate_cluster(credentials: &Credentials) -> Value {
    let fields = json!({
        "name": "connect_originate", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "10s",
        "original_dst_lb_config": {"upstream_port_override": HBONE},
        "transport_socket": with_h2(tls(credentials, "UpstreamTlsContext", json!({}))),
    });
    let h2 = protocol(json!({"explicit_http_config": {"http2_protocol_options": {"allow_connect": true}}}));
    merged(merged(fields, h2), no_limits())
}

/// HBONE is HTTP/2.
fn with_h2(mut socket: Value) -> Value {
    if let Some(common) = socket.pointer_mut("/typed_config/common_tls_context") {
        *common = merged(common.take(), json!({"alpn_protocols": ["h2"]}));
    }
    socket
}

/// A listener inside the process, told where its connections go.
fn internal_cluster(name: &str, listener: &str, destination: Option<SocketAddr>, more: Value) -> Value {
    let inner = json!({"server_listener_name": listener, "endpoint_id": name});
    let mut endpoint = json!({"endpoint": {"address": {"envoy_internal_address": inner}}});
    let raw = extension("raw_buffer", "transport_sockets.raw_buffer.v3.RawBuffer", json!({}));
    let mut socket = json!({"transport_socket": raw});
    if let Some(destination) = destination {
        let destination = destination.to_string();
        let metadata = json!({"filter_metadata": {ORIGINAL_DESTINATION: {"local": destination}}});
        endpoint = merged(endpoint, json!({"metadata": metadata}));
        let passed_on = json!([{"kind": {"host": {}}, "name": ORIGINAL_DESTINATION}]);
        socket = merged(socket, json!({"passthrough_metadata": passed_on}));
    }
    let kind = "transport_sockets.internal_upstream.v3.InternalUpstreamTransport";
    let transport = json!({"transport_socket": extension("internal_upstream", kind, socket)});
    cluster(name, endpoint, merged(transport, more))
}

fn internal_listener(name: &str) -> Value {
    let filter = extension(ORIGINAL_DESTINATION, "filters.listener.original_dst.v3.OriginalDst", json!({}));
    json!({"name": name, "internal_listener": {}, "listener_filters": [filter]})
}
