//! The server's side of delta xDS: one stream per client, fed from the newest snapshot.
//!
//! A client is sent only what it does not hold, one response per type at a time; snapshots that arrive before a
//! response is acknowledged are skipped in favour of the newest. What a client refuses is logged and not sent again
//! until it changes.

mod registry;
mod session;
mod snapshot;
mod stream;

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::future::BoxFuture;
use proto::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request, Response, Status, Streaming};
use types::Identity;

use registry::Registry;

pub use registry::ClientStatus;
pub use session::TypeStatus;
pub use snapshot::{Entry, Resources, Snapshot, version};

/// How long judging a caller may take.
const AUTHENTICATION_DEADLINE: Duration = Duration::from_secs(10);

/// What is known of a caller before it has said anything.
#[derive(Debug, Clone)]
pub struct Call {
    /// The metadata of its stream.
    pub metadata: MetadataMap,
    /// What the listener attached to the connection.
    pub extensions: Extensions,
    /// Where it calls from, if the listener tells.
    pub remote: Option<SocketAddr>,
}

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// How it is called in logs and listings.
    pub description: Arc<str>,
    /// Who it is, if it has an identity of the mesh.
    pub identity: Option<Identity>,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description)
    }
}

/// Judges a caller by its metadata, before a byte of its requests is read.
pub type Authenticate = Arc<dyn Fn(Call) -> BoxFuture<'static, Result<Caller, Status>> + Send + Sync>;

/// Judges whether an authenticated caller may introduce itself as this node; called for the first request.
pub type Admit = Arc<dyn Fn(&Caller, &Node) -> Result<(), Status> + Send + Sync>;

/// Hears what is worth counting. The defaults ignore it.
pub trait Observer: Send + Sync {
    /// A response was put together, which took this long, and handed to a client's stream.
    fn pushed(&self, _type_url: &str, _resource_bytes: usize, _took: Duration) {}
    /// A client has processed all that it had to know of a change, this long after the change was published.
    fn converged(&self, _after: Duration) {}
    /// A client refused resources.
    fn rejected(&self, _type_url: &str) {}
    /// The number of connected clients has changed.
    fn connected(&self, _clients: usize) {}
}

impl Observer for () {}

/// Bounds on what clients may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many clients may be connected; the next is turned away.
    pub clients: usize,
    /// The largest request, in bytes. The first one after a reconnect names every resource that the client holds.
    pub request_bytes: usize,
    /// The largest response, in bytes.
    pub response_bytes: usize,
    /// How many names a client may hold or subscribe to, per type.
    pub names: usize,
    /// How long a client may take for its first request.
    pub first_request: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 10_000,
            request_bytes: 64 * 1024 * 1024,
            response_bytes: crate::client::MAX_RESPONSE,
            names: 500_000,
            first_request: Duration::from_secs(10),
        }
    }
}

/// What a server is made from.
#[derive(Clone)]
pub struct Options {
    /// What is served; the newest one counts.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Who may call.
    pub authenticate: Authenticate,
    /// Who may be which node.
    pub admit: Admit,
    /// Bounds.
    pub limits: Limits,
    /// Who counts.
    pub observer: Arc<dyn Observer>,
    /// When it starts, streams end cleanly, so that clients go elsewhere at once; new ones are turned away.
    pub drain: drain::Watch,
}

/// Serves snapshots to clients. Clones are the same server.
#[derive(Clone)]
pub struct Server {
    options: Arc<Options>,
    registry: Arc<Registry>,
    places: Arc<Semaphore>,
}

impl Server {
    /// A server without clients.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let places = Arc::new(Semaphore::new(options.limits.clients.min(Semaphore::MAX_PERMITS)));
        let registry = Arc::new(Registry::new(Arc::clone(&options.observer)));
        Self { options: Arc::new(options), registry, places }
    }

    /// The gRPC service, to be added to a router.
    ///
    /// Give the transport an HTTP/2 keepalive: a client that vanished holds back [`Server::told`] until it is noticed.
    #[must_use]
    pub fn service(&self) -> AggregatedDiscoveryServiceServer<Self> {
        AggregatedDiscoveryServiceServer::new(self.clone())
            .max_decoding_message_size(self.options.limits.request_bytes)
            .max_encoding_message_size(self.options.limits.response_bytes)
    }

    /// The version of the newest snapshot that every connected client has processed in all types that it subscribed to;
    /// `u64::MAX` while no client is connected.
    ///
    /// A client has processed a snapshot when it has answered the response made from it, or when there was nothing in
    /// it that it did not hold. A client that has just connected has processed none (0), so the value also falls.
    /// A refusal is an answer: the other resources of the response were applied. Whoever needs to know that one
    /// particular resource was taken asks [`Server::is_rejected`] too.
    #[must_use]
    pub fn told(&self) -> watch::Receiver<u64> {
        self.registry.told()
    }

    /// Whether some connected client has refused the resource in its present form.
    #[must_use]
    pub fn is_rejected(&self, type_url: &str, name: &str) -> bool {
        self.registry.is_rejected(type_url, name)
    }

    /// The connected clients, in the order in which they came.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientStatus> {
        self.registry.clients()
    }
}

/// The responses of one stream.
pub type ResponseStream = Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Server {
    type DeltaAggregatedResourcesStream = ResponseStream;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<ResponseStream>, Status> {
        if self.options.drain.is_draining() {
            return Err(Status::unavailable("the server is draining"));
        }
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_full| {
            Status::resource_exhausted(format!("{} clients are connected", self.options.limits.clients))
        })?;
        let remote = request.remote_addr();
        let (metadata, extensions, requests) = request.into_parts();
        let call = Call { metadata, extensions, remote };
        let caller = timeout(AUTHENTICATION_DEADLINE, (self.options.authenticate)(call))
            .await
            .map_err(|_elapsed| Status::deadline_exceeded("authentication took too long"))??;
        let entry = self.registry.enter(&caller, remote);
        Ok(Response::new(stream::serve(Arc::clone(&self.options), requests, caller, (entry, place))))
    }
}
