//! The lab's Kubernetes API server: one process, objects in memory, as much of the REST interface as kube-rs and
//! everyday kubectl use.
//!
//! A [`Server`] owns the objects, its certificate authority and the listeners that it was given.
//! Controllers and the kubelet of the same process use a [`Client`], which follows the same rules as HTTP does:
//! defaulting, validation, resource versions, owner references.
//! What is deliberately absent: storage on disk, authorization (whoever is authenticated may act), server-side apply,
//! conversion beyond renaming versions.

pub(crate) mod status;

mod client;
mod logs;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

pub use client::{Client, DeleteOptions, Event, EventType, Key, Patch, Selection, Token, TokenRequest, Watch};
pub use logs::{LogRequest, LogStream, PodLogs};
pub use status::Status;

/// The cluster address of the `kubernetes` Service, which the lab's fabric namespace holds itself.
pub const KUBERNETES_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// The cluster address that is kept free for the cluster DNS.
pub const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// What a [`Server`] needs to know at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names and addresses on the serving certificate, in addition to `localhost`, `kubernetes.default.svc` and its
    /// longer forms, 127.0.0.1 and [`KUBERNETES_ADDRESS`].
    pub names: Vec<String>,
    /// The DNS domain of the cluster; `cluster.local` by default.
    pub cluster_domain: String,
    /// The endpoint behind the Service `default/kubernetes`: where pods reach this server after address translation.
    /// No EndpointSlice is written without it.
    pub advertise: Option<SocketAddr>,
    /// Namespaces made at start in addition to `default` and `kube-system`.
    pub namespaces: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { names: Vec::new(), cluster_domain: "cluster.local".into(), advertise: None, namespaces: Vec::new() }
    }
}

/// Why a [`Server`] cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificate authority or the serving certificate could not be made.
    #[error("cannot make the API server's certificate: {0}")]
    Certificate(String),
    /// A listener could not be used.
    #[error("cannot serve the Kubernetes API")]
    Listen(#[from] io::Error),
    /// A start-up object was refused.
    #[error("cannot create the API server's own objects")]
    Bootstrap(#[from] Status),
}

/// The API server. Dropping it stops serving; [`Server::stop`] also waits for it.
pub struct Server {
    names: Vec<IpAddr>,
}

#[expect(clippy::todo, reason = "being written")]
impl Server {
    /// Makes the store, the certificate authority, the admin token and the start-up objects: the namespaces with their
    /// `default` ServiceAccount and `kube-root-ca.crt`, and the Service `default/kubernetes`.
    ///
    /// # Errors
    /// When key generation fails or a start-up object is refused (a namespace name that is no DNS label).
    pub fn new(options: Options) -> Result<Self, Error> {
        let _ = (options, &());
        todo!()
    }

    /// In-process access to the objects.
    pub fn client(&self) -> Client {
        todo!()
    }

    /// Serves HTTPS (HTTP/1.1 and HTTP/2) on `listener`, in tasks of the current Tokio runtime, until the server stops.
    /// Call it once per listener; the caller opened each in the network namespace of its choice.
    ///
    /// # Errors
    /// When the listener cannot be made nonblocking.
    pub fn serve_tls(&self, listener: TcpListener) -> io::Result<()> {
        let _ = (listener, &self.names);
        todo!()
    }

    /// As [`Server::serve_tls`], without TLS: for tests.
    ///
    /// # Errors
    /// When the listener cannot be made nonblocking.
    pub fn serve_plain(&self, listener: TcpListener) -> io::Result<()> {
        let _ = listener;
        todo!()
    }

    /// The certificate of the authority that signed the serving certificate, as PEM: a pod's `ca.crt`.
    pub fn ca_pem(&self) -> &str {
        todo!()
    }

    /// A bearer token of the group `system:masters` without expiry.
    pub fn admin_token(&self) -> &str {
        todo!()
    }

    /// A kubeconfig file for the administrator that reaches this server at `url`, such as `https://127.0.0.1:6443`.
    pub fn kubeconfig(&self, url: &str) -> String {
        let _ = url;
        todo!()
    }

    /// Names who answers `kubectl logs`. Until then it is answered with 503. The first call counts.
    pub fn provide_logs(&self, logs: Arc<dyn PodLogs>) {
        let _ = logs;
        todo!()
    }

    /// Ends every listener, connection and watch, and waits for them.
    pub async fn stop(&self) {
        todo!()
    }
}
