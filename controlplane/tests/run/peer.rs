//! A node proxy as the control plane sees it: a TLS connection, one discovery stream, certificate requests.

use std::net::SocketAddr;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use proto::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use proto::istio::v1::auth::IstioCertificateRequest;
use proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use tls::TlsStream;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) fn text(value: &str) -> Value {
    Value { kind: Some(Kind::StringValue(value.to_owned())) }
}

/// Connects to a control plane under one of its names.
pub(crate) async fn channel(address: SocketAddr, roots: String, name: &'static str) -> Channel {
    let connector = Connector { address, roots, name };
    let endpoint = Endpoint::from_static("http://control.plane");
    tokio::time::timeout(DEADLINE, endpoint.connect_with_connector(connector)).await.unwrap().unwrap()
}

struct Connector {
    address: SocketAddr,
    roots: String,
    name: &'static str,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = futures::future::BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (address, roots, name) = (self.address, self.roots.clone(), self.name);
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            Ok(TokioIo::new(tls::connect_verified(stream, &roots, name).await?))
        })
    }
}

fn authorized<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// One discovery stream.
pub(crate) struct Stream {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Stream {
    /// Opens a stream and subscribes to everything of one type.
    pub(crate) async fn open(channel: Channel, token: &str, namespace: &str, type_url: &str) -> Result<Self, Status> {
        let first = DeltaDiscoveryRequest { type_url: type_url.to_owned(), ..DeltaDiscoveryRequest::default() };
        Self::open_with(channel, token, &[("NAMESPACE", namespace)], first).await
    }

    /// Opens a stream with this metadata and first request.
    pub(crate) async fn open_with(
        channel: Channel,
        token: &str,
        metadata: &[(&str, &str)],
        first: DeltaDiscoveryRequest,
    ) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(16);
        let fields = metadata.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect();
        let metadata = Some(Struct { fields });
        let node = Node { id: "ztunnel~test".to_owned(), metadata, ..Node::default() };
        requests.send(DeltaDiscoveryRequest { node: Some(node), ..first }).await.unwrap();
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let responses = client.delta_aggregated_resources(authorized(ReceiverStream::new(receiver), token)).await?;
        Ok(Self { requests, responses: responses.into_inner() })
    }

    pub(crate) async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let response = tokio::time::timeout(DEADLINE, self.responses.message()).await.expect("a response in time")?;
        response.ok_or_else(|| Status::ok("the stream has ended"))
    }

    pub(crate) async fn acknowledge(&self, response: &DeltaDiscoveryResponse) {
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(request).await.unwrap();
    }

    pub(crate) async fn send(&self, request: DeltaDiscoveryRequest) {
        self.requests.send(request).await.unwrap();
    }

    /// Reads and acknowledges until a response holds a resource of this name.
    pub(crate) async fn until(&mut self, name: &str) -> Vec<u8> {
        loop {
            let response = self.next().await.unwrap();
            self.acknowledge(&response).await;
            if let Some(resource) = response.resources.into_iter().find(|resource| resource.name == name) {
                return resource.resource.unwrap().value;
            }
        }
    }
}

/// Asks for a certificate of an identity.
pub(crate) async fn certificate(
    channel: Channel,
    token: &str,
    identity: &str,
) -> Result<tls::WorkloadCertificate, Status> {
    certificate_for(channel, token, identity, 3600).await
}

/// As [`certificate`], with this validity.
pub(crate) async fn certificate_for(
    channel: Channel,
    token: &str,
    identity: &str,
    seconds: i64,
) -> Result<tls::WorkloadCertificate, Status> {
    let request = tls::CertificateRequest::generate(&identity.parse().unwrap()).unwrap();
    let metadata = Struct { fields: [("ImpersonatedIdentity".to_owned(), text(identity))].into() };
    let message = IstioCertificateRequest {
        csr: request.csr_pem().to_owned(),
        validity_duration: seconds,
        metadata: Some(metadata),
    };
    let mut client = IstioCertificateServiceClient::new(channel);
    let answer = tokio::time::timeout(DEADLINE, client.create_certificate(authorized(message, token))).await;
    let chain = answer.expect("an answer in time")?.into_inner().cert_chain;
    Ok(request.complete(&chain).unwrap())
}
