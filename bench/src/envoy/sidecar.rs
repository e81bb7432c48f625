//! Sidecars: the client's takes what its application sends on loopback, the server's takes what comes over mutual TLS.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::credentials::Credentials;
use super::parts::{address, as_downstream, bootstrap, bytes, cluster, endpoint, http, merged, tls};
use super::{INBOUND_BYTES, INBOUND_HTTP, OUTBOUND_BYTES, OUTBOUND_HTTP, Reads};

/// The client's, in front of a server's at `server`.
#[must_use]
pub fn client(reads: Reads, server: IpAddr, credentials: &Credentials) -> Value {
    let ports =
        [("http", reads, OUTBOUND_HTTP, INBOUND_HTTP), ("bytes", Reads::Nothing, OUTBOUND_BYTES, INBOUND_BYTES)];
    let socket = json!({"transport_socket": tls(credentials, "UpstreamTlsContext", json!({}))});
    let listeners = ports.map(|(name, reads, port, _)| {
        let filter = filter(reads, &format!("outbound_{name}"), name, json!({}));
        json!({"name": name, "address": address("127.0.0.1", port), "filter_chains": [{"filters": [filter]}]})
    });
    let clusters = ports.map(|(name, reads, _, port)| {
        let server = endpoint(address(&server.to_string(), port));
        cluster(name, server, merged(socket.clone(), protocol(reads)))
    });
    bootstrap(listeners.into(), clusters.into())
}

/// The server's, in front of the application on port `port` of loopback.
#[must_use]
pub fn server(reads: Reads, port: u16, credentials: &Credentials) -> Value {
    let certificates = json!({"require_client_certificate": true});
    let socket = tls(credentials, "DownstreamTlsContext", certificates);
    // Who called is told to the application, as meshes do.
    let caller = json!({
        "forward_client_cert_details": "APPEND_FORWARD", "set_current_client_cert_details": {"uri": true},
    });
    let ports = [("http", reads, INBOUND_HTTP), ("bytes", Reads::Nothing, INBOUND_BYTES)];
    let listeners = ports.map(|(name, reads, port)| {
        let filter = filter(reads, &format!("inbound_{name}"), name, caller.clone());
        let chain = json!({"filters": [filter], "transport_socket": socket});
        json!({"name": name, "address": address("0.0.0.0", port), "filter_chains": [chain]})
    });
    let clusters = ports.map(|(name, reads, _)| cluster(name, endpoint(address("127.0.0.1", port)), protocol(reads)));
    bootstrap(listeners.into(), clusters.into())
}

fn filter(reads: Reads, name: &str, cluster: &str, more: Value) -> Value {
    match reads {
        Reads::Http => http(name, cluster, more),
        Reads::Nothing => bytes(name, cluster, json!({})),
    }
}

fn protocol(reads: Reads) -> Value {
    match reads {
        Reads::Http => as_downstream(),
        Reads::Nothing => json!({}),
    }
}
