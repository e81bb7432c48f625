//! A server that does what a test says, a wire that can be cut, and a client with its models.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use discovery::{View, Writer};
use policy::PolicySet;
use prost::Message;
use prost_types::Any;
use proto::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Resource};
use proto::istio::{security, workload};
use proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::metadata::MetadataMap;
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status, Streaming};
use xds::client::{Client, Observer, Options, Termination};
use xds::delta::Mode;
use xds::demand::Demand;
use xds::feed::{AddressFeed, PolicyFeed};

/// Everything here takes milliseconds; the deadline is for what never comes.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap_or_else(|_elapsed| panic!("{what} never came"))
}

/// A discovery server without a will of its own: each stream is handed to the test.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    streams: mpsc::Receiver<Script>,
    _serving: JoinSet<()>,
}

/// One stream, in the hands of the test.
pub(crate) struct Script {
    pub(crate) metadata: MetadataMap,
    pub(crate) requests: Streaming<DeltaDiscoveryRequest>,
    pub(crate) responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
}

struct Service(mpsc::Sender<Script>);

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (responses, stream) = mpsc::channel(16);
        let (metadata, _, requests) = request.into_parts();
        let script = Script { metadata, requests, responses };
        self.0.send(script).await.map_err(|_gone| Status::internal("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl Scripted {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, streams) = mpsc::channel(16);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let service = AggregatedDiscoveryServiceServer::new(Service(sender));
            let incoming = TcpListenerStream::new(listener);
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
        Self { address, streams, _serving: serving }
    }

    /// The next stream that a client opens.
    pub(crate) async fn stream(&mut self) -> Script {
        soon("a stream", self.streams.recv()).await.unwrap()
    }
}

impl Script {
    pub(crate) async fn request(&mut self) -> DeltaDiscoveryRequest {
        soon("a request", self.requests.message()).await.unwrap().expect("the client ended its stream")
    }

    /// Reads the first request of each type.
    pub(crate) async fn opening(&mut self) -> [DeltaDiscoveryRequest; 2] {
        let requests = [self.request().await, self.request().await];
        assert_eq!(requests.each_ref().map(|request| &*request.type_url), [ADDRESS_TYPE, AUTHORIZATION_TYPE]);
        requests
    }

    /// Sends a response and returns the answer to it.
    pub(crate) async fn exchange(&mut self, response: DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
        let (type_url, nonce) = (response.type_url.clone(), response.nonce.clone());
        self.responses.send(Ok(response)).await.unwrap();
        let answer = self.request().await;
        assert_eq!((answer.type_url.as_str(), answer.response_nonce.as_str()), (&*type_url, &*nonce));
        answer
    }
}

/// A wire to a server that can be cut, at once or after so many bytes from the server.
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    limit: Arc<AtomicU64>,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
    _accepting: JoinSet<()>,
}

impl Wire {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limit = Arc::new(AtomicU64::new(u64::MAX));
        let connections = Arc::new(Mutex::new(Vec::new()));
        let mut accepting = JoinSet::new();
        let (limit_, connections_) = (Arc::clone(&limit), Arc::clone(&connections));
        accepting.spawn(async move {
            let mut tasks = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let limit = limit_.load(Ordering::SeqCst);
                let handle = tasks.spawn(forward(client, server, limit));
                connections_.lock().unwrap().push(handle);
            }
        });
        Self { address, limit, connections, _accepting: accepting }
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        self.connections.lock().unwrap().drain(..).for_each(|connection| connection.abort());
    }

    /// From now on, new connections are cut after so many bytes from the server.
    pub(crate) fn cut_after(&self, bytes: u64) {
        self.limit.store(bytes, Ordering::SeqCst);
    }
}

async fn forward(client: TcpStream, server: SocketAddr, limit: u64) {
    let (mut client_reader, mut client_writer) = client.into_split();
    let (server_reader, mut server_writer) = TcpStream::connect(server).await.unwrap().into_split();
    let mut limited = server_reader.take(limit);
    tokio::select! {
        _ = tokio::io::copy(&mut client_reader, &mut server_writer) => {}
        _ = tokio::io::copy(&mut limited, &mut client_writer) => { let _ = client_writer.shutdown().await; }
    }
}

/// Counts what a client reports.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) terminations: Mutex<Vec<Termination>>,
    pub(crate) responses: AtomicU64,
}

impl Observer for Counts {
    fn terminated(&self, termination: Termination) {
        self.terminations.lock().unwrap().push(termination);
    }

    fn received(&self, _type_url: &str, _resource_bytes: usize) {
        self.responses.fetch_add(1, Ordering::SeqCst);
    }
}

/// A running client and what it feeds.
pub(crate) struct Fed {
    pub(crate) view: View,
    pub(crate) policies: watch::Receiver<Arc<PolicySet>>,
    pub(crate) ready: watch::Receiver<bool>,
    pub(crate) counts: Arc<Counts>,
    _running: JoinSet<()>,
}

pub(crate) fn node() -> Node {
    xds::node::NodeProxy { node_name: "node-1".to_owned(), ..Default::default() }.to_node()
}

/// Starts a client; its token is read anew for every stream.
pub(crate) fn start_client(address: SocketAddr, token: watch::Receiver<&'static str>) -> Fed {
    start(address, token, |client, addresses| client.subscribe(ADDRESS_TYPE, Mode::Wildcard, addresses)).0
}

/// Starts a client that asks for workloads and services one by one.
pub(crate) fn start_on_demand(address: SocketAddr) -> (Fed, Demand) {
    let token = watch::channel("secret").1;
    start(address, token, |client, addresses| client.subscribe_on_demand(ADDRESS_TYPE, addresses))
}

fn start<T>(
    address: SocketAddr,
    token: watch::Receiver<&'static str>,
    subscribe: impl FnOnce(&mut Client, AddressFeed) -> T,
) -> (Fed, T) {
    let writer = Writer::new("", None);
    let view = writer.view();
    let (sender, policies) = watch::channel(Arc::new(PolicySet::default()));
    let counts = Arc::new(Counts::default());
    let mut client = Client::new(Options {
        node: node(),
        channel: Arc::new(move || {
            Box::pin(async move { Ok(Endpoint::from_shared(format!("http://{address}"))?.connect().await?) })
        }),
        metadata: Arc::new(move || {
            let token = *token.borrow();
            Box::pin(async move {
                let mut metadata = MetadataMap::new();
                metadata.insert("authorization", format!("Bearer {token}").parse()?);
                metadata.insert("clusterid", "Kubernetes".parse()?);
                Ok(metadata)
            })
        }),
        observer: Arc::clone(&counts) as Arc<dyn Observer>,
    });
    let subscribed = subscribe(&mut client, AddressFeed::new(writer));
    client.subscribe(AUTHORIZATION_TYPE, Mode::Wildcard, PolicyFeed::new(sender));
    let ready = client.ready();
    let mut running = JoinSet::new();
    running.spawn(async move {
        client.run().await;
    });
    (Fed { view, policies, ready, counts, _running: running }, subscribed)
}

impl Fed {
    pub(crate) async fn is_ready(&mut self) {
        soon("readiness", self.ready.wait_for(|ready| *ready)).await.unwrap();
    }

    /// Waits until the uids of all known workloads are these.
    pub(crate) async fn knows(&self, uids: &[&str]) {
        let mut changes = self.view.changes();
        let known = async {
            while self.uids() != uids {
                changes.changed().await.unwrap();
            }
        };
        soon(&format!("{uids:?}"), known).await;
    }

    pub(crate) fn uids(&self) -> Vec<String> {
        self.view.workloads().iter().map(|workload| workload.uid.to_string()).collect()
    }

    pub(crate) fn policies(&self) -> Vec<String> {
        self.policies.borrow().iter().map(|policy| policy.key.to_string()).collect()
    }
}

pub(crate) fn pod(uid: &str, ip: [u8; 4]) -> workload::Workload {
    workload::Workload {
        uid: uid.to_owned(),
        name: uid.to_owned(),
        namespace: "shop".to_owned(),
        addresses: vec![ip.to_vec().into()],
        tunnel_protocol: 1,
        ..Default::default()
    }
}

pub(crate) fn address_of(workload: workload::Workload) -> workload::Address {
    workload::Address { r#type: Some(workload::address::Type::Workload(workload)) }
}

pub(crate) fn resource(type_url: &str, name: &str, version: &str, value: Vec<u8>) -> Resource {
    Resource {
        name: name.to_owned(),
        version: version.to_owned(),
        resource: Some(Any { type_url: type_url.to_owned(), value }),
        ..Default::default()
    }
}

pub(crate) fn pod_resource(uid: &str, version: &str, ip: [u8; 4]) -> Resource {
    resource(ADDRESS_TYPE, uid, version, address_of(pod(uid, ip)).encode_to_vec())
}

/// A policy of the namespace `shop` that allows one principal; malformed if there is none.
pub(crate) fn policy(name: &str, principal: Option<&str>) -> security::Authorization {
    let exact = |text: &str| security::string_match::MatchType::Exact(text.to_owned());
    let principals = vec![security::StringMatch { match_type: principal.map(exact) }];
    let matches = vec![security::Match { principals, ..Default::default() }];
    security::Authorization {
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        scope: 1,
        rules: vec![security::Rule { clauses: vec![security::Clause { matches }] }],
        ..Default::default()
    }
}

pub(crate) fn policy_resource(name: &str, principal: Option<&str>) -> Resource {
    resource(AUTHORIZATION_TYPE, &format!("shop/{name}"), "", policy(name, principal).encode_to_vec())
}

pub(crate) fn response(
    type_url: &str,
    nonce: &str,
    resources: Vec<Resource>,
    removed: &[&str],
) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: type_url.to_owned(),
        nonce: nonce.to_owned(),
        resources,
        removed_resources: removed.iter().map(|&name| name.to_owned()).collect(),
        ..Default::default()
    }
}
