//! The control plane: turns Kubernetes and Istio objects into what node proxies read, and is their certificate
//! authority.
//!
//! One task owns the objects that the watches deliver; what follows from them is derived by pure functions and
//! published as immutable snapshots, which the servers and writers read.
//! The crate refuses to know proxies and the kernel, and keeps no state but the Kubernetes API's.
//! Its entry is [`run`]; [`translate::resources`] is the derivation on its own.

mod assign;
mod ca;
pub mod checked;
mod leaving;
mod metrics;
pub mod objects;
mod pods;
mod publish;
mod report;
mod roots;
mod serve;
pub mod translate;
mod watch;

use std::sync::Arc;

use kube::Client;
use telemetry::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracing::info;

use ca::{Authenticator, CertificateService, ClusterReviewer, Keeper, Kept, Signing};
use metrics::CaMetrics;
use publish::{Debounce, Published, Publisher};
use translate::Options;

pub use config::ControlPlane as Config;

/// Why the control plane cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// A port cannot be listened on.
    #[error("cannot listen on port {port}")]
    Listen {
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The certificate authority's key cannot be used.
    #[error("there is no certificate authority")]
    Authority(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The authority made no certificate for the listener.
    #[error("there is no server certificate")]
    ServerCertificate(#[source] tls::TlsError),
    /// The configuration could not be derived from the cluster's objects: a fault of the program.
    #[error("deriving the configuration failed")]
    Derive(#[source] tokio::task::JoinError),
    /// A listener failed.
    #[error("serving failed")]
    Serve(#[source] tonic::transport::Error),
}

/// Runs until the drain starts and calls have ended.
///
/// Waits for the API server as long as it takes; `/ready` on the monitoring port says what is missing.
/// Nothing is served before the first complete configuration: a proxy that reconnects to a control plane which knows
/// nothing yet must not be told to forget what it has.
///
/// # Errors
/// When a port is taken or the authority's Secret cannot be used.
pub async fn run(config: Config, client: Client, drain: drain::Watch) -> Result<(), ControlPlaneError> {
    let listeners = Listeners::bind(&config).await?;
    Box::pin(run_on(config, client, listeners, drain)).await
}

/// Where a control plane is reached.
#[derive(Debug)]
pub struct Listeners {
    /// Discovery and certificates, over TLS.
    pub discovery: TcpListener,
    /// Metrics and readiness.
    pub monitoring: TcpListener,
}

impl Listeners {
    /// Listens on the configured ports; port 0 means any.
    ///
    /// # Errors
    /// When a port is taken.
    pub async fn bind(config: &Config) -> Result<Self, ControlPlaneError> {
        let monitoring = serve::listen(config.monitoring_port).await?;
        Ok(Self { discovery: serve::listen(config.xds_port).await?, monitoring })
    }
}

/// As [`run`], on listeners that are there already.
///
/// # Errors
/// When the authority's Secret cannot be used.
pub async fn run_on(
    config: Config,
    client: Client,
    listeners: Listeners,
    drain: drain::Watch,
) -> Result<(), ControlPlaneError> {
    let registry = Registry::new();
    let readiness = drain::Readiness::new();
    let pending =
        Pending { authority: readiness.task("certificate authority"), configuration: readiness.task("configuration") };
    let watch = drain.clone();
    let router = serve::monitoring(registry.clone(), readiness);
    let until = async move { watch.draining().await };
    let _monitoring = drain.spawn(telemetry::http::serve(listeners.monitoring, router, until));

    let (publisher, published) = Publisher::new(options(&config), debounce(&config));
    let publishing = publisher.run(watch::start(&client, &drain));
    let plane = Plane { config, client, registry, published, drain };
    let failure = async {
        match publishing.await {
            Err(failure) => ControlPlaneError::Derive(failure),
            // The watches end when the drain starts; calls in flight may go on after that.
            Ok(()) => std::future::pending().await,
        }
    };
    tokio::select! {
        outcome = plane.run(listeners.discovery, pending) => outcome,
        failure = failure => Err(failure),
    }
}

/// What a control plane is made of.
struct Plane {
    config: Config,
    client: Client,
    registry: Registry,
    published: Published,
    drain: drain::Watch,
}

/// What has to be there before it serves.
struct Pending {
    authority: drain::Task,
    configuration: drain::Task,
}

impl Plane {
    async fn run(self, listener: TcpListener, pending: Pending) -> Result<(), ControlPlaneError> {
        let keeper = Keeper::new(&self.client, &self.config);
        let Some(begun) = self.drain.unless_draining(keeper.begin()).await else { return Ok(()) };
        let (signing, kept) = begun.map_err(|error| ControlPlaneError::Authority(Box::new(error)))?;
        pending.authority.complete();
        let mut is_ready = self.published.is_ready.clone();
        let first = is_ready.wait_for(|is_ready| *is_ready);
        if !matches!(self.drain.unless_draining(first).await, Some(Ok(_))) {
            return Ok(());
        }
        pending.configuration.complete();
        Box::pin(self.serve(listener, signing, kept)).await
    }

    async fn serve(self, listener: TcpListener, signing: Signing, kept: Kept) -> Result<(), ControlPlaneError> {
        let Self { config, client, registry, published, drain } = self;
        let reviewer = ClusterReviewer(client.clone());
        let authenticator = Arc::new(Authenticator::new(reviewer, config.token_audiences.clone()));
        let discovery = serve::discovery(&config, &published, &authenticator, &registry, &drain);
        let acceptor = serve::acceptor(&signing.now().authority, &config)?;
        let certificates = certificates(&config, &published, &signing, authenticator, &registry);

        // Dropped, and so ended, with this function.
        let mut background = JoinSet::new();
        background.spawn(kept.run(certificates.metrics.root_expiry.clone()));
        background.spawn(serve::keep_fresh(signing.changes(), acceptor.clone(), serve::server_names(&config)));
        background.spawn(roots::run(client.clone(), published.namespaces.clone(), signing.changes()));
        background.spawn(leaving::run(client.clone(), published.leaving.clone(), discovery.clone()));
        background.spawn(assign::run(client.clone(), published.assignments.clone()));
        background.spawn(report::run(client, published.reports.clone()));
        info!(port = config.xds_port, "serving discovery and certificates");
        let tls = serve::serve_tls(listener, acceptor, discovery, certificates, drain.clone());
        if config.plaintext_xds {
            tokio::try_join!(tls, serve::serve_plaintext(published, drain)).map(|_| ())
        } else {
            tls.await
        }
    }
}

fn certificates(
    config: &Config,
    published: &Published,
    signing: &Signing,
    authenticator: Arc<Authenticator>,
    registry: &Registry,
) -> CertificateService {
    CertificateService {
        signing: signing.clone(),
        authenticator,
        rules: ca::Rules {
            trust_domain: config.trust_domain.clone(),
            trusted_accounts: config.trusted_node_accounts.clone(),
        },
        cluster_id: config.cluster_id.clone(),
        default_ttl: config.default_certificate_ttl,
        max_ttl: config.max_certificate_ttl,
        pods: published.pods.clone(),
        metrics: CaMetrics::new(registry),
    }
}

fn options(config: &Config) -> Options {
    Options {
        cluster_id: config.cluster_id.clone(),
        cluster_domain: config.cluster_domain.clone(),
        trust_domain: config.trust_domain.clone(),
        root_namespace: config.root_namespace.clone(),
        system_namespace: config.pod_namespace.clone(),
        dry_run_policies: config.dry_run_policies,
        ranges: translate::Ranges { v4: config.assigned_v4, v6: config.assigned_v6 },
    }
}

fn debounce(config: &Config) -> Debounce {
    Debounce { quiet: config.debounce_after, longest: config.debounce_max }
}
