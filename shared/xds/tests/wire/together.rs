//! The client against the server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proto::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use proto::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};
use xds::server::{Call, Caller, Entry, Limits, Options, Resources, Server, Snapshot};

use crate::support::{Wire, address_of, pod, policy, soon, start_client};

/// A server on loopback, and what it serves.
struct Serving {
    address: SocketAddr,
    server: Server,
    snapshots: watch::Sender<Arc<Snapshot>>,
    drain: drain::Trigger,
    _tasks: JoinSet<()>,
}

async fn serve(limits: Limits) -> Serving {
    let (snapshots, receiver) = watch::channel(Arc::new(Snapshot::default()));
    let (trigger, watch) = drain::new();
    let server = Server::new(Options {
        snapshots: receiver,
        authenticate: Arc::new(|call| Box::pin(async move { authenticate(&call) })),
        admit: Arc::new(|_caller, node| {
            if xds::node::metadata_text(node, "NODE_NAME") == Some("node-1") {
                Ok(())
            } else {
                Err(Status::permission_denied("not the caller's node"))
            }
        }),
        limits,
        observer: Arc::new(()),
        drain: watch,
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = server.service();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let incoming = TcpListenerStream::new(listener);
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
    });
    Serving { address, server, snapshots, drain: trigger, _tasks: tasks }
}

fn authenticate(call: &Call) -> Result<Caller, Status> {
    match call.metadata.get("authorization").map(|token| token.as_bytes()) {
        Some(b"Bearer good") => Ok(Caller { description: "aquifer-system/ztunnel".into(), identity: None }),
        _ => Err(Status::unauthenticated("no such token")),
    }
}

fn good_token() -> watch::Receiver<&'static str> {
    watch::channel("good").1
}

fn pods(pods: &[(&str, u8)]) -> Arc<Resources> {
    let entry = |&(uid, last): &(&str, u8)| {
        (uid.to_owned(), Entry::encode(ADDRESS_TYPE, &address_of(pod(uid, [10, 0, 0, last]))))
    };
    Arc::new(pods.iter().map(entry).collect())
}

fn policies(policies: &[(&str, Option<&str>)]) -> Arc<Resources> {
    let entry = |&(name, principal): &(&str, Option<&str>)| {
        (format!("shop/{name}"), Entry::encode(AUTHORIZATION_TYPE, &policy(name, principal)))
    };
    Arc::new(policies.iter().map(entry).collect())
}

impl Serving {
    fn publish(&self, version: u64, addresses: Arc<Resources>, policies: Arc<Resources>) {
        let types = BTreeMap::from([(ADDRESS_TYPE.into(), addresses), (AUTHORIZATION_TYPE.into(), policies)]);
        self.snapshots.send_replace(Arc::new(Snapshot { version, types }));
    }

    async fn told(&self, version: u64) {
        soon("acknowledgement by all", self.server.told().wait_for(|told| *told == version)).await.unwrap();
    }
}

#[tokio::test]
async fn changes_reach_the_client_and_its_answers_reach_the_server() {
    let serving = serve(Limits::default()).await;
    assert_eq!(*serving.server.told().borrow(), u64::MAX, "nobody is connected");
    serving.publish(1, pods(&[("a", 1), ("b", 2)]), policies(&[("p", Some("x"))]));
    let mut fed = start_client(serving.address, good_token());
    fed.is_ready().await;
    assert_eq!((fed.uids(), fed.policies()), (vec!["a".to_owned(), "b".to_owned()], vec!["shop/p".to_owned()]));
    serving.told(1).await;

    serving.publish(2, pods(&[("b", 3), ("c", 4)]), policies(&[]));
    serving.told(2).await;
    fed.knows(&["b", "c"]).await;
    assert!(fed.policies().is_empty());
    let ip = fed.view.workload(&"b".into()).unwrap().addresses[0];
    assert_eq!(ip, std::net::IpAddr::from([10, 0, 0, 3]));

    let clients = serving.server.clients();
    assert_eq!((clients.len(), &*clients[0].caller.description, clients[0].told), (1, "aquifer-system/ztunnel", 2));
    assert!(clients[0].node.starts_with("ztunnel~"), "{}", clients[0].node);
    assert_eq!(clients[0].types.iter().map(|kind| kind.resources).collect::<Vec<_>>(), [0, 2]);
    drop(fed);
    serving.told(u64::MAX).await;
    assert!(serving.server.clients().is_empty());
}

#[tokio::test]
async fn a_client_that_comes_back_is_sent_only_what_changed() {
    let serving = serve(Limits::default()).await;
    serving.publish(1, pods(&[("a", 1), ("b", 2), ("c", 3)]), policies(&[("p", Some("x"))]));
    let wire = Wire::to(serving.address).await;
    let mut fed = start_client(wire.address, good_token());
    fed.is_ready().await;
    serving.told(1).await;
    let before = fed.view.workload(&"a".into()).unwrap();
    wire.cut();
    serving.told(u64::MAX).await;
    serving.publish(2, pods(&[("a", 1), ("b", 9)]), policies(&[("p", Some("x"))]));
    serving.told(2).await;
    fed.knows(&["a", "b"]).await;
    assert!(Arc::ptr_eq(&before, &fed.view.workload(&"a".into()).unwrap()), "what did not change was not sent again");
    assert_eq!(fed.policies(), ["shop/p"]);
}

#[tokio::test]
async fn a_refused_policy_is_listed_and_the_rest_of_the_mesh_moves_on() {
    let serving = serve(Limits::default()).await;
    serving.publish(1, pods(&[]), policies(&[("p", Some("x"))]));
    let mut fed = start_client(serving.address, good_token());
    fed.is_ready().await;
    serving.publish(2, pods(&[]), policies(&[("p", None), ("q", Some("x"))]));
    serving.told(2).await;
    assert!(serving.server.is_rejected(AUTHORIZATION_TYPE, "shop/p"));
    assert!(!serving.server.is_rejected(AUTHORIZATION_TYPE, "shop/q"));
    assert_eq!(fed.policies(), ["shop/p", "shop/q"]);
    let responses = fed.counts.responses.load(Ordering::SeqCst);

    serving.publish(3, pods(&[("a", 1)]), policies(&[("p", None), ("q", Some("x"))]));
    serving.told(3).await;
    assert_eq!(fed.counts.responses.load(Ordering::SeqCst), responses + 1, "the refused policy is not sent again");
    serving.publish(4, pods(&[("a", 1)]), policies(&[("p", Some("y")), ("q", Some("x"))]));
    serving.told(4).await;
    assert!(!serving.server.is_rejected(AUTHORIZATION_TYPE, "shop/p"));
}

#[tokio::test]
async fn told_waits_for_the_last_of_all_clients() {
    let serving = serve(Limits::default()).await;
    serving.publish(1, pods(&[]), policies(&[]));
    let mut first = start_client(serving.address, good_token());
    first.is_ready().await;
    serving.told(1).await;
    // A client that reads nothing of what it asked for.
    let (requests, _responses) = raw_stream(&serving, "good").await.unwrap();
    requests.send(request(ADDRESS_TYPE)).await.unwrap();
    serving.told(0).await;
    serving.publish(2, pods(&[("a", 1)]), policies(&[]));
    first.knows(&["a"]).await;
    assert_eq!(*serving.server.told().borrow(), 0);
    drop((requests, _responses));
    serving.told(2).await;
}

#[tokio::test]
async fn a_rotated_token_is_used_for_the_next_stream() {
    let serving = serve(Limits::default()).await;
    serving.publish(1, pods(&[("a", 1)]), policies(&[]));
    let (token, receiver) = watch::channel("expired");
    let mut fed = start_client(serving.address, receiver);
    let refused = async {
        while fed.counts.terminations.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    soon("a refusal", refused).await;
    assert!(serving.server.clients().is_empty());
    token.send_replace("good");
    fed.is_ready().await;
    fed.knows(&["a"]).await;
}

#[tokio::test]
async fn a_drain_ends_streams_cleanly_and_turns_new_ones_away() {
    let serving = serve(Limits::default()).await;
    serving.publish(1, pods(&[]), policies(&[]));
    let (requests, mut responses) = raw_stream(&serving, "good").await.unwrap();
    requests.send(request(ADDRESS_TYPE)).await.unwrap();
    soon("a response", responses.message()).await.unwrap().unwrap();
    serving.drain.start(Duration::from_secs(1));
    assert_eq!(soon("the end", responses.message()).await.unwrap(), None);
    let status = raw_stream(&serving, "good").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn clients_are_limited_in_number_patience_and_identity() {
    let limits = Limits { clients: 1, first_request: Duration::from_millis(200), ..Limits::default() };
    let serving = serve(limits).await;
    assert_eq!(raw_stream(&serving, "bad").await.unwrap_err().code(), Code::Unauthenticated);

    let (silent, mut responses) = raw_stream(&serving, "good").await.unwrap();
    assert_eq!(raw_stream(&serving, "good").await.unwrap_err().code(), Code::ResourceExhausted);
    let status = soon("the end", responses.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    drop((silent, responses));
    serving.told(u64::MAX).await;

    let (requests, mut responses) = raw_stream(&serving, "good").await.unwrap();
    requests.send(DeltaDiscoveryRequest { node: None, ..request(ADDRESS_TYPE) }).await.unwrap();
    let status = soon("the end", responses.message()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "not the caller's node"));
}

#[tokio::test]
async fn requests_are_limited_in_size_and_names() {
    let serving = serve(Limits { request_bytes: 4096, names: 10, ..Limits::default() }).await;
    for (names, expected) in [(10_000, Code::OutOfRange), (11, Code::InvalidArgument)] {
        let (requests, mut responses) = raw_stream(&serving, "good").await.unwrap();
        let resource_names_subscribe = (0..names).map(|index| index.to_string()).collect();
        requests.send(DeltaDiscoveryRequest { resource_names_subscribe, ..request(ADDRESS_TYPE) }).await.unwrap();
        let status = soon("the end", responses.message()).await.unwrap_err();
        assert_eq!(status.code(), expected, "{}", status.message());
    }
}

fn request(type_url: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { node: Some(crate::support::node()), type_url: type_url.to_owned(), ..Default::default() }
}

type Raw = (
    tokio::sync::mpsc::Sender<DeltaDiscoveryRequest>,
    Streaming<proto::envoy::service::discovery::v3::DeltaDiscoveryResponse>,
);

/// A stream without a client behind it.
async fn raw_stream(serving: &Serving, token: &str) -> Result<Raw, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{}", serving.address)).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let (requests, queue) = tokio::sync::mpsc::channel(4);
    let mut call = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(queue));
    call.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let mut service = AggregatedDiscoveryServiceClient::new(channel);
    let response = soon("headers", service.delta_aggregated_resources(call)).await?;
    Ok((requests, response.into_inner()))
}
