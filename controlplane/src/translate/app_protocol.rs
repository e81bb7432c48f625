//! What is spoken on a port of a Service.

use proto::istio::workload::AppProtocol;

/// Derives the protocol from `appProtocol`, else from the port's name.
///
/// Source: [protocol selection](https://istio.io/latest/docs/ops/configuration/traffic-management/protocol-selection/).
pub(super) fn derive(app_protocol: Option<&str>, name: Option<&str>, port: i32) -> AppProtocol {
    let text = app_protocol.or(name).unwrap_or_default();
    let word = match text {
        "kubernetes.io/h2c" => "http2",
        "kubernetes.io/ws" => "http",
        "kubernetes.io/wss" => "https",
        text => text,
    }
    .to_ascii_lowercase();
    if word.starts_with("grpc-web") {
        return AppProtocol::Unknown;
    }
    match word.split('-').next().unwrap_or_default() {
        "http" => AppProtocol::Http11,
        "http2" => AppProtocol::Http2,
        "grpc" => AppProtocol::Grpc,
        "tls" | "https" => AppProtocol::Tls,
        "tcp" => AppProtocol::Tcp,
        // Protocols that are known by name but that nothing in the data plane treats specially.
        "udp" | "http_proxy" | "mongo" | "redis" | "mysql" => AppProtocol::Unknown,
        // Ports on which the server speaks first, or that are no HTTP by their number.
        _ if matches!(port, 25 | 53 | 3306 | 27017) => AppProtocol::Tcp,
        _ => AppProtocol::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_comes_from_the_field_the_name_or_the_number() {
        for (field, name, port, expected) in [
            (None, Some("http"), 80, AppProtocol::Http11),
            (None, Some("HTTP-api"), 80, AppProtocol::Http11),
            (None, Some("http2-api"), 80, AppProtocol::Http2),
            (None, Some("grpc"), 80, AppProtocol::Grpc),
            (None, Some("grpc-web"), 80, AppProtocol::Unknown),
            (None, Some("GRPC-Web-x"), 80, AppProtocol::Unknown),
            (None, Some("https"), 443, AppProtocol::Tls),
            (None, Some("tls-x"), 443, AppProtocol::Tls),
            (None, Some("tcp"), 80, AppProtocol::Tcp),
            (None, Some("mysql"), 3306, AppProtocol::Unknown),
            (None, Some("db"), 3306, AppProtocol::Tcp),
            (None, None, 25, AppProtocol::Tcp),
            (None, Some("httpx"), 80, AppProtocol::Unknown),
            (None, None, 80, AppProtocol::Unknown),
            (Some("kubernetes.io/h2c"), Some("tcp"), 80, AppProtocol::Http2),
            (Some("kubernetes.io/ws"), None, 80, AppProtocol::Http11),
            (Some("kubernetes.io/wss"), None, 80, AppProtocol::Tls),
            (Some("tcp"), Some("http"), 80, AppProtocol::Tcp),
            (Some("example.com/own"), Some("http"), 80, AppProtocol::Unknown),
        ] {
            assert_eq!(derive(field, name, port), expected, "{field:?} {name:?} {port}");
        }
    }
}
