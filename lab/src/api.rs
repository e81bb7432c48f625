//! The lab's Kubernetes API server: one process, objects in memory, as much of the REST interface as kube-rs and
//! everyday kubectl use.
//!
//! A [`Server`] owns the objects, its certificate authority and the listeners that it was given.
//! Controllers and the kubelet of the same process use a [`Client`], which follows the same rules as HTTP does:
//! defaulting, validation, resource versions, owner references.
//! What is deliberately absent: storage on disk, authorization (whoever is authenticated may act), server-side apply,
//! conversion beyond renaming versions.

mod admission;
mod bootstrap;
mod client;
mod cluster_addresses;
mod collect;
mod core;
mod defaults;
mod discovery;
mod feed;
mod http;
mod intake;
mod kind;
mod logs;
mod patch;
mod programs;
mod protobuf;
mod random;
mod rules;
mod selector;
mod serve;
mod status;
mod store;
mod table;
mod tokens;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use tls::{Alpn, Authority, HttpsAcceptor};

use self::core::Core;
use self::serve::Listeners;
use self::tokens::Signer;

pub(crate) use self::random::digest;
pub use client::{Changes, Client, DeleteOptions, Event, EventType, Key, Patch, Selection, Token, TokenRequest, Watch};
pub use logs::{LogRequest, LogStream, PodLogs};
pub use programs::{PodPrograms, ProgramRequest};
pub use status::Status;

use crate::families::{Addresses, Families, service_address};

/// How long the authority and the serving certificate are valid; a lab does not live as long.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// The cluster addresses kept for the `kubernetes` Service, which the lab's fabric namespace holds itself. The Service
/// has the primary one alone, as in Kubernetes.
pub fn kubernetes_addresses(families: Families) -> Addresses {
    families.addresses(|family| service_address(family, 1))
}

/// The cluster addresses that are kept free for the cluster DNS.
pub fn dns_addresses(families: Families) -> Addresses {
    families.addresses(|family| service_address(family, 10))
}

/// What a [`Server`] needs to know at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names and addresses on the serving certificate, in addition to `localhost`, `kubernetes.default.svc` and its
    /// longer forms, 127.0.0.1 and [`kubernetes_addresses`].
    pub names: Vec<String>,
    /// The DNS domain of the cluster; `cluster.local` by default.
    pub cluster_domain: String,
    /// The endpoint behind the Service `default/kubernetes`: where pods reach this server after address translation.
    /// No EndpointSlice is written without it.
    pub advertise: Option<SocketAddr>,
    /// Namespaces made at start in addition to `default` and `kube-system`.
    pub namespaces: Vec<String>,
    /// In which families Services can have cluster addresses.
    pub families: Families,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            cluster_domain: "cluster.local".into(),
            advertise: None,
            namespaces: Vec::new(),
            families: Families::default(),
        }
    }
}

/// Why a [`Server`] cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The cluster domain cannot name the certificate authority.
    #[error("the cluster domain is no DNS name")]
    ClusterDomain(#[source] types::ParseError),
    /// The certificate authority or the serving certificate could not be made.
    #[error("cannot make the API server's certificate")]
    Certificate(#[from] tls::TlsError),
    /// A start-up object was refused.
    #[error("cannot create the API server's own objects")]
    Bootstrap(#[from] Status),
}

/// The API server. Dropping it ends what it serves; [`Server::stop`] also waits for that.
pub struct Server {
    core: Arc<Core>,
    listeners: Listeners,
}

impl Server {
    /// Makes the store, the certificate authority, the admin token and the start-up objects: the namespaces with their
    /// `default` ServiceAccount and `kube-root-ca.crt`, and the Service `default/kubernetes`.
    ///
    /// # Errors
    /// When key generation fails or a start-up object is refused (a namespace name that is no DNS label).
    pub fn new(options: &Options) -> Result<Self, StartError> {
        let trust_domain = options.cluster_domain.parse().map_err(StartError::ClusterDomain)?;
        let authority = Authority::self_signed(&trust_domain, LIFETIME)?;
        let names = certificate_names(options);
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let certificate = authority.issue_server(&names, LIFETIME)?;
        let acceptor = HttpsAcceptor::new(&certificate.certificate, &certificate.key, Alpn::H2AndHttp1)?;
        let core = Arc::new(Core::new(
            Signer::new(&options.cluster_domain),
            authority.roots_pem().to_owned(),
            options.families,
        ));
        let server = Self { listeners: Listeners::new(Arc::clone(&core), acceptor), core };
        bootstrap::create(&server.client(), options)?;
        Ok(server)
    }

    /// In-process access to the objects.
    pub fn client(&self) -> Client {
        Client::new(Arc::clone(&self.core))
    }

    /// Serves HTTPS (HTTP/1.1 and HTTP/2) on `listener`, in tasks of the current Tokio runtime, until the server stops.
    /// Call it once per listener; the caller opened each in the network namespace of its choice.
    ///
    /// # Errors
    /// When the listener cannot be made nonblocking.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn serve_tls(&self, listener: TcpListener) -> io::Result<()> {
        self.listeners.add(listener, true)
    }

    /// As [`Server::serve_tls`], without TLS: for tests on loopback.
    ///
    /// # Errors
    /// When the listener cannot be made nonblocking.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn serve_plain(&self, listener: TcpListener) -> io::Result<()> {
        self.listeners.add(listener, false)
    }

    /// The certificate of the authority that signed the serving certificate, as PEM: a pod's `ca.crt`.
    pub fn ca_pem(&self) -> &str {
        &self.core.ca_pem
    }

    /// A bearer token of the group `system:masters` without expiry.
    pub fn admin_token(&self) -> &str {
        &self.core.signer.admin
    }

    /// A kubeconfig file for the administrator that reaches this server at `url`, such as `https://127.0.0.1:6443`.
    pub fn kubeconfig(&self, url: &str) -> String {
        let cluster = json!({"server": url, "certificate-authority-data": BASE64_STANDARD.encode(self.ca_pem())});
        let context = json!({"cluster": "aquifer", "user": "admin", "namespace": "default"});
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "aquifer",
            "clusters": [{"name": "aquifer", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": self.admin_token()}}],
            "contexts": [{"name": "aquifer", "context": context}],
        });
        // JSON is YAML, and kubectl reads it.
        format!("{config:#}\n")
    }

    /// Names who answers `kubectl logs`. Until then it is answered with 503. The first call counts.
    pub fn provide_logs(&self, logs: Arc<dyn PodLogs>) {
        if self.core.logs.set(logs).is_err() {
            tracing::debug!("logs are provided already");
        }
    }

    /// Names who answers `kubectl exec`. Until then it is answered with 503. The first call counts.
    pub fn provide_programs(&self, programs: Arc<dyn PodPrograms>) {
        if self.core.programs.set(programs).is_err() {
            tracing::debug!("programs are provided already");
        }
    }

    /// Ends every listener, connection, watch and program, and waits for them.
    pub async fn stop(&self) {
        self.listeners.stop().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.core.stopped.cancel();
    }
}

fn certificate_names(options: &Options) -> Vec<String> {
    let service = "kubernetes.default.svc";
    let names = ["localhost", "127.0.0.1", "kubernetes", "kubernetes.default", service].map(str::to_owned);
    let long = format!("{service}.{}", options.cluster_domain);
    let own = kubernetes_addresses(options.families).iter().map(|address| address.to_string());
    let advertised = options.advertise.map(|address| address.ip().to_string());
    names.into_iter().chain([long]).chain(own).chain(advertised).chain(options.names.iter().cloned()).collect()
}

#[cfg(test)]
mod tests;
