//! Pieces that all Envoys here are made of.

use serde_json::{Value, json};

use super::ADMIN;
use super::credentials::Credentials;

/// The access log line of Istio's sidecars, field by field.
const LOG_LINE: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
    \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% \
    %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// So many connections and requests at a time that no measurement reaches them.
const NO_LIMIT: u32 = 1_000_000;

/// A whole bootstrap.
pub(super) fn bootstrap(listeners: Vec<Value>, clusters: Vec<Value>) -> Value {
    json!({
        "admin": {"address": address("0.0.0.0", ADMIN)},
        "bootstrap_extensions": [extension(
            "envoy.bootstrap.internal_listener", "bootstrap.internal_listener.v3.InternalListener", json!({}),
        )],
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

/// Reads HTTP of whatever version comes, and sends it on.
pub(super) fn http(name: &str, cluster: &str, more: Value) -> Value {
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}});
    let fields = json!({
        "stat_prefix": name, "codec_type": "AUTO", "stream_idle_timeout": "0s", "access_log": [log()],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [extension("envoy.filters.http.router", "filters.http.router.v3.Router", json!({}))],
    });
    extension(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        merged(fields, more),
    )
}

/// Copies bytes.
pub(super) fn bytes(name: &str, cluster: &str, more: Value) -> Value {
    let fields = json!({"stat_prefix": name, "cluster": cluster, "access_log": [log()]});
    extension("envoy.filters.network.tcp_proxy", "filters.network.tcp_proxy.v3.TcpProxy", merged(fields, more))
}

/// One line for each request or connection, to where a kubelet collects it.
pub(super) fn log() -> Value {
    let line = json!({"text_format_source": {"inline_string": LOG_LINE}});
    let kind = "access_loggers.stream.v3.StdoutAccessLog";
    extension("envoy.access_loggers.stdout", kind, json!({"log_format": line}))
}

/// A cluster of one endpoint, without limits.
pub(super) fn cluster(name: &str, endpoint: Value, more: Value) -> Value {
    let load = json!({"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]});
    let fields = json!({"name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": load});
    merged(merged(fields, no_limits()), more)
}

/// Circuit breakers that never trip.
pub(super) fn no_limits() -> Value {
    let limits = json!({
        "max_connections": NO_LIMIT, "max_pending_requests": NO_LIMIT, "max_requests": NO_LIMIT, "max_retries": NO_LIMIT,
    });
    json!({"circuit_breakers": {"thresholds": [limits]}})
}

/// Speaks to the next one as the one before spoke, HTTP/1.1 or HTTP/2, on connections that are kept.
pub(super) fn as_downstream() -> Value {
    let both = json!({"http_protocol_options": {}, "http2_protocol_options": {}});
    protocol(json!({"use_downstream_protocol_config": both}))
}

/// How HTTP is spoken to a cluster.
pub(super) fn protocol(fields: Value) -> Value {
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let kind = json!({"@type": format!("type.googleapis.com/{options}")});
    json!({"typed_extension_protocol_options": {options: merged(kind, fields)}})
}

/// TLS as the mesh has it: version 1.3, both sides with an identity of the trust domain.
///
/// Which cipher suite of TLS 1.3 is taken is no option of Envoy's: its library takes AES-128-GCM first where the
/// processor has AES instructions, as the mesh does.
pub(super) fn tls(credentials: &Credentials, kind: &str, more: Value) -> Value {
    let file = |path: String| json!({"filename": path});
    let prefix = format!("spiffe://{}/", credentials.trust_domain());
    let names = json!({"san_type": "URI", "matcher": {"prefix": prefix}});
    let common = json!({
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3",
            "ecdh_curves": ["X25519MLKEM768", "X25519", "P-256"],
        },
        "tls_certificates": [{"certificate_chain": file(credentials.chain()), "private_key": file(credentials.key())}],
        "validation_context": {"trusted_ca": file(credentials.root()), "match_typed_subject_alt_names": [names]},
    });
    let fields = merged(json!({"common_tls_context": common}), more);
    extension("tls", &format!("transport_sockets.tls.v3.{kind}"), fields)
}

pub(super) fn endpoint(address: Value) -> Value {
    json!({"endpoint": {"address": address}})
}

pub(super) fn address(ip: &str, port: u16) -> Value {
    json!({"socket_address": {"address": ip, "port_value": port}})
}

pub(super) fn extension(name: &str, kind: &str, fields: Value) -> Value {
    let kind = json!({"@type": format!("type.googleapis.com/envoy.extensions.{kind}")});
    json!({"name": name, "typed_config": merged(kind, fields)})
}

/// The fields of both; those of the second win.
pub(super) fn merged(mut fields: Value, more: Value) -> Value {
    if let (Some(fields), Value::Object(more)) = (fields.as_object_mut(), more) {
        fields.extend(more);
    }
    fields
}
