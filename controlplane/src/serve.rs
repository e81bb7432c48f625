//! The listeners: discovery and certificates over TLS, metrics and readiness in plain HTTP.

mod access;
mod incoming;
mod server_certificate;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use proto::istio::v1::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use telemetry::Registry;
use telemetry::http::{Router, text};
use tls::{Authority, HttpsAcceptor};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tracing::{debug, info};
use xds::server::{Limits, Options as XdsOptions};

use crate::ca::{Authenticator, CertificateService};
use crate::metrics::XdsMetrics;
use crate::publish::Published;
use crate::{Config, ControlPlaneError};

pub(crate) use server_certificate::keep_fresh;

/// How often a silent client is asked whether it is there, and how long it may take to answer.
///
/// A client that vanished holds up the un-enrolment of pods until it is noticed.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
/// How many calls one connection may have in flight.
const CONCURRENT_CALLS: u32 = 256;
/// The largest certificate request: a P-256 one is under 1 KiB.
const LARGEST_REQUEST: usize = 64 * 1024;

/// Opens a listener on all addresses, IPv6 and IPv4 where there is IPv6.
pub(crate) async fn listen(port: u16) -> Result<TcpListener, ControlPlaneError> {
    let any = [SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))];
    TcpListener::bind(&any[..]).await.map_err(|source| ControlPlaneError::Listen { port, source })
}

/// The discovery server for node proxies and waypoints.
pub(crate) fn discovery(
    config: &Config,
    published: &Published,
    authenticator: &Arc<Authenticator>,
    registry: &Registry,
    drain: &drain::Watch,
) -> xds::server::Server {
    let rules = access::Rules::new(config, Arc::clone(authenticator), published.pods.clone());
    xds::server::Server::new(XdsOptions {
        snapshots: published.snapshots.clone(),
        authenticate: rules.authenticate(),
        admit: Arc::new(access::admit),
        limits: Limits::default(),
        observer: Arc::new(XdsMetrics::new(registry)),
        drain: drain.clone(),
    })
}

/// Serves discovery and certificates over TLS until the drain starts, and lets calls end.
pub(crate) async fn serve_tls(
    listener: TcpListener,
    acceptor: HttpsAcceptor,
    discovery: xds::server::Server,
    certificates: CertificateService,
    drain: drain::Watch,
) -> Result<(), ControlPlaneError> {
    let certificates = IstioCertificateServiceServer::new(certificates).max_decoding_message_size(LARGEST_REQUEST);
    let watch = drain.clone();
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .concurrency_limit_per_connection(CONCURRENT_CALLS as usize)
        .max_concurrent_streams(CONCURRENT_CALLS)
        .add_service(discovery.service())
        .add_service(certificates)
        .serve_with_incoming_shutdown(incoming::tls(listener, acceptor, drain.clone()), async move {
            watch.draining().await;
        });
    tokio::select! {
        outcome = serving => outcome.map_err(ControlPlaneError::Serve),
        () = drain.deadline_passed() => {
            debug!("calls were still in flight when the drain's deadline passed");
            Ok(())
        }
    }
}

/// Serves discovery without authentication to this machine alone, for debugging.
pub(crate) async fn serve_plaintext(published: Published, drain: drain::Watch) -> Result<(), ControlPlaneError> {
    const PORT: u16 = 15010;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).await;
    let listener = listener.map_err(|source| ControlPlaneError::Listen { port: PORT, source })?;
    info!(port = PORT, "serving discovery without authentication on loopback");
    let server = xds::server::Server::new(XdsOptions {
        snapshots: published.snapshots,
        authenticate: access::anybody(),
        admit: Arc::new(|_, _| Ok(())),
        limits: Limits::default(),
        observer: Arc::new(()),
        drain: drain.clone(),
    });
    let watch = drain.clone();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .add_service(server.service())
        .serve_with_incoming_shutdown(incoming, async move { watch.draining().await });
    tokio::select! {
        outcome = serving => outcome.map_err(ControlPlaneError::Serve),
        () = drain.deadline_passed() => Ok(()),
    }
}

/// `/metrics` and `/ready`.
pub(crate) fn monitoring(registry: Registry, readiness: drain::Readiness) -> Router {
    let ready = move |_| {
        let pending = readiness.pending();
        async move {
            if pending.is_empty() {
                text(StatusCode::OK, "ready\n")
            } else {
                text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", pending.join(", ")))
            }
        }
    };
    Router::new()
        .get("/metrics", move |request| {
            let response = telemetry::http::metrics(&registry, &request);
            async move { response }
        })
        .get("/ready", ready)
}

/// The names by which the control plane is reached.
pub(crate) fn server_names(config: &Config) -> Vec<String> {
    let service = format!("{SERVICE}.{}.svc", config.pod_namespace);
    let full = format!("{service}.{}", config.cluster_domain);
    let mut names = vec![service, full, "localhost".to_owned()];
    names.extend(config.server_names.iter().cloned());
    names.dedup();
    names
}

/// The name of our Service.
const SERVICE: &str = "aquifer";

/// A first certificate for the listener.
pub(crate) fn acceptor(authority: &Authority, config: &Config) -> Result<HttpsAcceptor, ControlPlaneError> {
    server_certificate::acceptor(authority, &server_names(config)).map_err(ControlPlaneError::ServerCertificate)
}

#[cfg(test)]
mod tests;
