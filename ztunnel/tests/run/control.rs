//! A control plane: discovery and certificates on one port, over TLS, for whoever has the token.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::istio::security;
use proto::istio::v1::auth::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use proto::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use proto::istio::workload::{Address, TunnelProtocol, Workload, address};
use tls::{Alpn, Authority, HttpsAcceptor, TlsStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status};
use types::Identity;
use xds::server::{Call, Caller, Entry, Limits, Observer, Options, Server, Snapshot};

/// The token that the control plane accepts.
pub(crate) const TOKEN: &str = "let-me-in";

/// The name in the server's certificate.
pub(crate) const NAME: &str = "control.test";

/// How long certificates last unless a test says so.
const VALIDITY: Duration = Duration::from_secs(60);

/// Notes what is sent.
#[derive(Default)]
pub(crate) struct Pushed(Mutex<Vec<String>>);

impl Pushed {
    pub(crate) fn types(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Observer for Pushed {
    fn pushed(&self, type_url: &str, _resource_bytes: usize, _took: Duration) {
        self.0.lock().unwrap().push(type_url.to_owned());
    }
}

/// A running control plane.
pub(crate) struct Control {
    pub(crate) roots_pem: String,
    pub(crate) server: Server,
    /// The types of all responses, in their order.
    pub(crate) pushed: Arc<Pushed>,
    snapshots: watch::Sender<Arc<Snapshot>>,
}

impl Control {
    /// Listens on 127.0.0.1:15012 and serves a mesh of one workload and one policy.
    pub(crate) async fn start() -> Self {
        Self::start_with(0).await
    }

    /// The same with other workloads beside the one.
    pub(crate) async fn start_with(others: u32) -> Self {
        Self::start_as(others, VALIDITY).await
    }

    /// The same with one workload, and certificates that last this long.
    pub(crate) async fn signing(validity: Duration) -> Self {
        Self::start_as(0, validity).await
    }

    async fn start_as(others: u32, validity: Duration) -> Self {
        let authority = Authority::self_signed(&"cluster.local".parse().unwrap(), Duration::from_secs(3600)).unwrap();
        let roots_pem = authority.roots_pem().to_owned();
        let certificate = authority.issue_server(&[NAME], Duration::from_secs(3600)).unwrap();
        let acceptor = HttpsAcceptor::new(&certificate.certificate, &certificate.key, Alpn::H2).unwrap();
        let (snapshots, served) = watch::channel(Arc::new(large(others)));
        let pushed = Arc::<Pushed>::default();
        let server = Server::new(Options {
            snapshots: served,
            authenticate: Arc::new(|call| Box::pin(async move { authenticated(&call) })),
            admit: Arc::new(|_caller, _node| Ok(())),
            limits: Limits::default(),
            observer: Arc::clone(&pushed) as _,
            drain: drain::new().1,
        });
        let listener = TcpListener::bind("127.0.0.1:15012").await.unwrap();
        let (connections, incoming) = mpsc::channel(4);
        tokio::spawn(accept(listener, acceptor, connections));
        let serving = tonic::transport::Server::builder()
            .add_service(server.service())
            .add_service(IstioCertificateServiceServer::new(Ca { authority, validity }))
            .serve_with_incoming(ReceiverStream::new(incoming));
        tokio::spawn(serving);
        Self { roots_pem, server, pushed, snapshots }
    }

    /// Publishes the same mesh with another version of the pod's policy.
    pub(crate) fn push(&self, version: u64) {
        self.snapshots.send_replace(Arc::new(snapshot(version)));
    }
}

async fn accept(listener: TcpListener, acceptor: HttpsAcceptor, connections: mpsc::Sender<std::io::Result<Secured>>) {
    while let Ok((stream, _)) = listener.accept().await {
        if let Ok(stream) = acceptor.accept(stream).await
            && connections.send(Ok(Secured(stream))).await.is_err()
        {
            return;
        }
    }
}

fn authenticated(call: &Call) -> Result<Caller, Status> {
    let header = |name| call.metadata.get(name).and_then(|value| value.to_str().ok());
    let is_known =
        header("authorization") == Some(&format!("Bearer {TOKEN}")) && header("clusterid") == Some("testing");
    if !is_known {
        return Err(Status::unauthenticated("who are you?"));
    }
    Ok(Caller { description: Arc::from("ztunnel"), identity: None })
}

/// The first snapshot with other workloads, each as long as real ones are.
fn large(others: u32) -> Snapshot {
    let mut snapshot = snapshot(1);
    let others = (0..others).map(|number| {
        let [_, high, middle, low] = number.to_be_bytes();
        let name = format!("workload-with-a-long-name-{number:08}-5d8f9c7b6d-x2x4z");
        cart(&name, vec![100, high, middle, low])
    });
    let own = cart("cart", vec![10, 244, 0, 2]);
    let encoded = others.chain([own]).map(|workload| {
        let (uid, address) = (workload.uid.clone(), Address { r#type: Some(address::Type::Workload(workload)) });
        (uid, Entry::encode(proto::ADDRESS_TYPE, &address))
    });
    snapshot.types.insert(Arc::from(proto::ADDRESS_TYPE), Arc::new(encoded.collect()));
    snapshot
}

fn cart(name: &str, address: Vec<u8>) -> Workload {
    Workload {
        uid: format!("testing//Pod/shop/{name}"),
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        service_account: "cart".to_owned(),
        addresses: vec![address.into()],
        tunnel_protocol: TunnelProtocol::Hbone.into(),
        node: "node-1".to_owned(),
        workload_name: "cart".to_owned(),
        canonical_name: "cart".to_owned(),
        ..Workload::default()
    }
}

fn snapshot(version: u64) -> Snapshot {
    let workload = cart("cart", vec![10, 244, 0, 2]);
    let policy = security::Authorization {
        name: "deny-all".to_owned(),
        namespace: "shop".to_owned(),
        scope: security::Scope::Namespace.into(),
        ..security::Authorization::default()
    };
    let address = Address { r#type: Some(address::Type::Workload(workload)) };
    let addresses = [("testing//Pod/shop/cart", Entry::encode(proto::ADDRESS_TYPE, &address))].into_iter().collect();
    let policies = [("shop/deny-all", Entry::encode(proto::AUTHORIZATION_TYPE, &policy))]
        .into_iter()
        .filter(|_| version % 2 == 1)
        .collect();
    let types = [
        (Arc::from(proto::ADDRESS_TYPE), Arc::new(addresses)),
        (Arc::from(proto::AUTHORIZATION_TYPE), Arc::new(policies)),
    ];
    Snapshot { version, types: types.into_iter().collect() }
}

struct Ca {
    authority: Authority,
    validity: Duration,
}

#[tonic::async_trait]
impl IstioCertificateService for Ca {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let bearer = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if bearer != Some(&format!("Bearer {TOKEN}")) {
            return Err(Status::unauthenticated("who are you?"));
        }
        let request = request.into_inner();
        let metadata = request.metadata.unwrap_or_default();
        let asked = metadata.fields.get("ImpersonatedIdentity").and_then(|value| match &value.kind {
            Some(prost_types::value::Kind::StringValue(text)) => text.parse::<Identity>().ok(),
            _ => None,
        });
        let identity = asked.ok_or_else(|| Status::invalid_argument("for whom?"))?;
        let chain = self.authority.sign_csr(&request.csr, &identity, self.validity);
        let cert_chain = chain.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

/// A TLS connection as tonic wants it.
struct Secured(TlsStream<TcpStream>);

impl Connected for Secured {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(context)
    }
}
